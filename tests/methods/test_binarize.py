"""The step `binarize`, end to end on tiny real networks: trained, deployed as popcounts, proven."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import compress.methods.binarize.deployment
import compress.methods.binarize.layer_timing
import compress.methods.binarize.openvino_graph
from compress.data.input_spec import preprocess
from compress.measure.machine import machine
from compress.models.binary_layers import binary_layers
from compress.models.candidate import Candidate
from compress.models.sessions import open_session
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.report.write import reports_in
from compress.results.schema import Result
from compress.runtimes.openvino_ir import read_ir
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Store
from compress.workflow.executors.local import Local
from compress.workflow.plan import make_plan
from compress.workflow.run import run_recipe
from tests.conftest import tiny_recipe
from tests.outputs import only

TRAIN = {"epochs": 1, "batch_size": 8}
IN_PLACE = {"binarize": {"views": 2, "activations_first": TRAIN, "train": TRAIN, "images": 8}}
STUDENT = {
    "binarize": {
        "student": "students.binary:binary_resnet18",
        "student_settings": {"width": 0.125},
        "image_size": 32,
        "views": 2,
        "rest": "float32",
        "control": False,
        "train": TRAIN,
    }
}


def binary_recipe(data: Path, **candidates: Any) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["teacher"]["settings"]["width"] = 0.125  # channels in whole bytes
    recipe["teacher"]["train"]["epochs"] = 1
    recipe["candidates"] = candidates
    recipe["measure"]["runtimes"] = ["onnxruntime", "openvino"]
    return recipe


def run(recipe: Recipe, out: Path) -> dict[tuple[str, str], Result]:
    rows, _ = run_recipe(
        recipe, out, Progress(Console(quiet=True)), "compress run", report=reports_in(out)
    )
    return {(row.candidate, row.artifact.runtime): row for row in rows}


@pytest.fixture(autouse=True, scope="module")
def few_samples() -> Iterator[None]:
    """What is faster is measured as always, only less often: no number is looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compress.methods.binarize.deployment, "PROCESSES", 1)
        patch.setattr(compress.methods.binarize.deployment, "ROUNDS", 5)
        patch.setattr(compress.methods.binarize.layer_timing, "LEAST_S", 0.0)
        patch.setattr(compress.methods.binarize.layer_timing, "LARGE", ((64, 8),))
        yield


@pytest.fixture(scope="module")
def finished(
    shapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path, dict[tuple[str, str], Result]]:
    out = tmp_path_factory.mktemp("binary")
    import yaml

    path = out / "binary.yaml"
    recipe = binary_recipe(shapes, in_place=[IN_PLACE], student=[STUDENT])
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    loaded = load_recipe(path)
    return loaded, out, run(loaded, out)


Finished = tuple[Recipe, Path, dict[tuple[str, str], Result]]


def candidate_of(name: str, finished: Finished) -> Candidate:
    recipe, out, _ = finished
    plan = make_plan(Local().decided(recipe), machine(), 1)
    entry = next(e for e in plan.entries if e.candidate == name)
    return Candidate.load(Store(out / "runs" / "stages").folder(entry.model), ())


def test_rows_are_in_openvino_and_compared_there(finished: Finished) -> None:
    rows = finished[2]
    names = {"in_place", "in_place (no teacher)", "student"}
    assert {name for name, runtime in rows if runtime == "openvino"} == {*names, "teacher"}
    assert not any(name in names for name, runtime in rows if runtime == "onnxruntime")
    for name in names:
        row = rows[name, "openvino"]
        assert row.dropped is None
        assert row.speedup is not None
        assert row.speedup.runtime == "openvino"


def test_every_binary_layer_is_reported_with_its_times(finished: Finished) -> None:
    _, _, rows = finished
    for name, layers in (("in_place", 12), ("student", 16)):
        (report,) = rows[name, "openvino"].steps
        assert len(report.decisions) == layers
        assert any(f"{layers} convolutions run as popcounts" in note for note in report.notes)
        for decision in report.decisions:
            assert decision.change == "binary"
            assert decision.before_s and decision.int8_s and decision.after_s
            assert decision.limit_share and decision.limit_share > 0


def test_the_file_is_what_was_trained(finished: Finished, shapes: Path) -> None:
    """In float32 the deployed file gives the network's outputs; its weights are bits."""
    _, out, rows = finished
    row = rows["student", "openvino"]
    candidate = candidate_of("student", finished)
    path = out / row.artifact.path
    images = preprocess(sorted(shapes.rglob("*.png"))[:8], candidate.spec)
    with torch.inference_mode():
        expected = candidate.model(torch.from_numpy(images)).numpy()
    got = only(open_session(path, "openvino", 1).run(images))
    difference = np.abs(expected - got).max(1) / expected.std()
    assert np.median(difference) < 1e-3

    kinds = [o.get_type_name() for o in read_ir(path).get_ops()]
    layers = binary_layers(candidate.model)
    assert kinds.count("BinaryConvolution") == len(layers) == 16
    bits = sum(layer.weight.numel() for layer in layers.values())
    real = sum(p.numel() for p in candidate.model.parameters()) - bits
    # A bit a weight, and what is real with some constants more (thresholds, factors, limits).
    assert path.with_suffix(".bin").stat().st_size < bits / 8 + 4 * (2 * real + 1000)


def test_in_place_keeps_the_networks_shape(finished: Finished) -> None:
    candidate = candidate_of("in_place", finished)
    assert [change.form for change in candidate.provenance.replaced] == ["binary"] * 12
    assert all(layer.binary_weights for layer in binary_layers(candidate.model).values())
    assert candidate.provenance.training is not None
    assert [epoch.epoch for epoch in candidate.provenance.training.epochs] == [1, 2]  # both stages
    assert candidate.name.startswith("binarize kd (12 layers)")


def test_again_nothing_is_done_twice(finished: Finished) -> None:
    recipe, out, rows = finished
    assert run(recipe, out) == rows


def test_without_the_kernel_an_exact_float_file_says_so(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        compress.methods.binarize.openvino_graph, "kernels_of", lambda *_: {}, raising=True
    )  # as on a CPU that has none
    recipe = load_recipe(write_recipe(binary_recipe(shapes, student=[STUDENT])))
    row = run(recipe, tmp_path)["student", "openvino"]
    assert row.dropped is not None
    assert row.dropped.startswith("Simulated, no speedup")
    assert row.artifact.path.endswith(".onnx")
    assert row.accuracy.images > 0


def test_weight_decay_is_off_unless_given(shapes: Path, write_recipe: Callable[..., Path]) -> None:
    given = {"binarize": STUDENT["binarize"] | {"train": {**TRAIN, "weight_decay": 0.01}}}
    recipe = load_recipe(write_recipe(binary_recipe(shapes, a=[STUDENT], b=[given], c=[IN_PLACE])))
    a, b, c = (recipe.candidates[name][0].binarize for name in "abc")
    assert (a.train.weight_decay, b.train.weight_decay) == (0.0, 0.01)
    assert c.activations_first.weight_decay == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": None}, "a student needs an image_size"),
        ({"layers": ["features.3"]}, "a student names its own"),
        ({"activations_first": TRAIN | {"augmentation": {"shift": 0.0}}}, "must be train's"),
        ({"learn_from": "labels", "control": True}, "control itself"),
    ],
)
def test_faults(
    shapes: Path, write_recipe: Callable[..., Path], changes: dict[str, Any], said: str
) -> None:
    step = {k: v for k, v in (STUDENT["binarize"] | changes).items() if v is not None}
    with pytest.raises(UserError, match=said):
        load_recipe(write_recipe(binary_recipe(shapes, student=[{"binarize": step}])))


def test_nothing_follows(shapes: Path, write_recipe: Callable[..., Path]) -> None:
    recipe = binary_recipe(shapes, student=[STUDENT, {"quantize": {}}])
    with pytest.raises(UserError, match="quantize cannot follow binarize"):
        load_recipe(write_recipe(recipe))


def test_layers_that_cannot_be_binary_are_named_before_anything_runs(
    shapes: Path, write_recipe: Callable[..., Path]
) -> None:
    odd = binary_recipe(shapes, in_place=[IN_PLACE])
    odd["teacher"]["settings"]["width"] = 0.15  # 10, 19, 38 and 77 channels
    with pytest.raises(UserError, match=r"features\.3 has 10 input channels") as caught:
        make_plan(load_recipe(write_recipe(odd)), machine(), 1)
    assert str(caught.value).startswith("candidates.in_place.0.binarize: ")

    mobile = binary_recipe(shapes, in_place=[IN_PLACE])
    mobile["teacher"] |= {"builder": "torchvision.models:mobilenet_v2", "settings": {}}
    with pytest.raises(UserError, match="groups"):
        make_plan(load_recipe(write_recipe(mobile)), machine(), 1)

    nothing = {"binarize": IN_PLACE["binarize"] | {"layers": ["feature.3"]}}
    recipe = load_recipe(write_recipe(binary_recipe(shapes, in_place=[nothing])))
    with pytest.raises(UserError, match="Did you mean"):
        make_plan(recipe, machine(), 1)


def test_distill_refuses_a_binary_student(shapes: Path, write_recipe: Callable[..., Path]) -> None:
    step = {
        "student": "students.binary:binary_resnet18",
        "image_size": 32,
        "train": TRAIN,
    }
    recipe = load_recipe(write_recipe(binary_recipe(shapes, student=[{"distill": step}])))
    with pytest.raises(UserError, match="train it with the step binarize"):
        make_plan(recipe, machine(), 1)
