"""The networks that caption: what they are told in training, and the file that is made of them."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.input_spec import InputSpec, Predicted
from compress.export.onnx import check_export, export_onnx
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.models.trial import check_forward
from compress.runtimes.onnxruntime import OnnxSession
from compress.training.batches import Batch
from compress.training.mixing import Mix
from compress.training.objectives import MatchLabels, MatchTeacher
from compress.training.telling import SeesTargets, tell
from compress.utils.errors import UserError
from students.captioner import mobilenet_v2
from teachers.captioner import Captioner, vgg16_bn

STEPS, WORDS, CELLS = 5, 7, 4
NARROW = {"units": 8, "embedding": 4, "attention": 6}
NETWORKS: dict[str, Any] = {
    "VGG": lambda **more: vgg16_bn(STEPS * WORDS, STEPS, width=0.1, **NARROW, **more),
    "MobileNet": lambda **more: mobilenet_v2(STEPS * WORDS, STEPS, 0.1, **NARROW, **more),
}


def network(name: str = "VGG", **settings: Any) -> Captioner:
    """One that looks somewhere: the maps of fresh ones are next to alike everywhere."""
    torch.manual_seed(0)
    model: Captioner = NETWORKS[name](**settings)
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    nn.init.normal_(model.decoder.score)
    model.train()(images(16, seed=1))
    return model


def images(count: int = 3, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(count, 3, 32, 32)), dtype=torch.float32)


def spec() -> InputSpec:
    shapes = {"tokens": (STEPS, WORDS), "attention": (STEPS, CELLS)}
    predicted = Predicted(task="captioning", outputs=shapes)
    return InputSpec(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1), predicted=predicted)


def batch(count: int, mix: Mix | None = None) -> Batch:
    none = np.zeros(count, np.int64)
    return Batch(images(count), torch.zeros(count, 2, STEPS), none, none, np.empty(0), mix)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_a_sentence_and_where_it_looks(name: str) -> None:
    model = network(name)
    assert check_forward(model, spec(), name) == []
    given = model.eval()(images())
    torch.testing.assert_close(given["attention"].sum(2), torch.ones(3, STEPS))
    assert given["attention"].std() > 0.01


def test_what_it_was_told_is_what_it_would_have_said() -> None:
    """Told its own words, a network says the same; told others, it goes on otherwise."""
    model, shown = network(dropout=0.0), images()
    alone = model.eval()(shown)
    own = alone["tokens"].argmax(2)
    other = (own + 1) % WORDS
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    model.see_targets(torch.stack([own, other], 1))
    told = model(shown)
    assert told["tokens"].shape == (3, 2, STEPS, WORDS)
    for name, expected in alone.items():
        torch.testing.assert_close(told[name][:, 0], expected)
    first, later = told["tokens"][:, 1, 0], told["tokens"][:, 1, 1:]
    torch.testing.assert_close(first, alone["tokens"][:, 0])
    assert (later - alone["tokens"][:, 1:]).abs().max() > 0.1
    assert model(shown)["tokens"].shape == (3, STEPS, WORDS)  # it was told once


def test_what_is_told_does_not_reach_the_answer() -> None:
    model, shown = network().eval(), images()
    expected = model(shown)["tokens"]
    model.see_targets(torch.ones(3, 2, STEPS, dtype=torch.long))
    assert torch.equal(model(shown)["tokens"], expected)


def test_a_sentence_depends_on_earlier_words_alone() -> None:
    model, shown = network(dropout=0.0), images(1)
    words = torch.tensor([[[2, 3, 4, 0, -1]], [[2, 3, 5, 6, 1]]])
    found = []
    for told in words:
        model.train()
        model.see_targets(told[None])
        found.append(model(shown.repeat(1, 1, 1, 1))["tokens"][0, 0])
    torch.testing.assert_close(found[0][:3], found[1][:3])
    assert (found[0][3] - found[1][3]).abs().max() > 1e-3


def test_the_loop_tells_networks_that_see_targets_alone() -> None:
    model, plain = network(), nn.Flatten()
    assert isinstance(model, SeesTargets) and not isinstance(plain, SeesTargets)

    def told() -> Tensor:
        asked.append(True)
        return torch.zeros(2, 1, STEPS, dtype=torch.long)

    asked: list[bool] = []
    tell(plain, batch(2), told)
    assert not asked
    tell(model, batch(2), told)
    assert asked and model.train()(images(2))["tokens"].shape == (2, 1, STEPS, WORDS)


def test_a_student_is_told_its_teachers_words_and_a_control_the_labels() -> None:
    class Telling:
        """Tells the teacher's words, where there is one."""

        def told(self, targets: Tensor, teachers: Any) -> Tensor:
            return targets if teachers is None else teachers["tokens"]

    said = torch.ones(2, 1, STEPS)
    shown, task = batch(2), cast(Any, Telling())
    labels = MatchLabels(lambda outputs, targets: targets.sum())
    soft = cast(Any, lambda *_: torch.zeros(()))
    for share, expected in ((0.0, said), (0.5, said), (1.0, shown.targets)):
        student = MatchTeacher(cast(Any, lambda _: {"tokens": said}), soft, share, labels)
        assert torch.equal(student.told(shown, task), expected)
    assert torch.equal(labels.told(shown, task), shown.targets)


def test_mixed_images_are_refused() -> None:
    mix = Mix(np.array([1, 0]), 0.5)
    with pytest.raises(UserError, match="remove mixup and cutmix"):
        tell(network(), batch(2, mix), lambda: torch.zeros(2, 1, STEPS))
    tell(nn.Flatten(), batch(2, mix), lambda: torch.zeros(2, 1, STEPS))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_file_without_a_loop_equals_torch(name: str, tmp_path: Path) -> None:
    candidate = Candidate(network(name).eval(), name, {}, spec(), Provenance((name,)))
    path, shown = tmp_path / "model.onnx", images(6)
    export_onnx(candidate, path)
    assert check_export(candidate, path, shown.numpy()) < 1e-4
    with torch.inference_mode():
        expected = candidate.model(shown)
    session = OnnxSession(path, threads=1)
    assert [x.name for x in session.session.get_outputs()] == ["tokens", "attention"]
    given = session.session.run(None, {session.input: shown.numpy()})
    for got, wanted in zip(given, expected.values(), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)


def test_an_even_map_is_no_difference(tmp_path: Path) -> None:
    """Rounding of numbers that are all alike is not held against their spread."""
    model = vgg16_bn(STEPS * WORDS, STEPS, width=0.1, **NARROW).eval()
    nn.init.zeros_(model.decoder.score)
    candidate = Candidate(model, "x", {}, spec(), Provenance(("x",)))
    export_onnx(candidate, tmp_path / "model.onnx")
    assert check_export(candidate, tmp_path / "model.onnx", images(6).numpy()) < 1e-3
