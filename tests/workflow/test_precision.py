"""`precision: auto`: what is fastest on this machine, decided once, part of the keys."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.measure.machine import machine
from compress.models.memory_format import laid_out, place
from compress.recipe.load import load_recipe
from compress.results.schema import Machine
from compress.workflow import precision
from compress.workflow.precision import WORTH_IT, Network, Precisions, resolved

INPUT = InputSpec(height=32, width=32, mean=(0,) * 3, std=(1,) * 3)
VGG = Network("teachers.vgg:vgg16_bn", {"pool": 1, "hidden_layers": 1, "width": 0.125}, INPUT)
RECIPE = """
version: 1
name: precisions
data: {path: .}
teacher: {builder: "torchvision.models:resnet18", image_size: 32, train: {epochs: 1}}
candidates:
  pruned: [{prune: {ratio: 0.5}}, {distill: {train: {epochs: 1}}}]
  student:
    - distill:
        student: torchvision.models:mobilenet_v3_small
        image_size: 32
        train: {epochs: 1, precision: bfloat16}
  int8: [{quantize: {train: {train: {epochs: 1}}}}]
"""


def with_flags(*flags: str) -> Machine:
    return machine().model_copy(update={"cpu_flags": ["avx2", *flags]})


class Told(Precisions):
    """Precisions whose times are given instead of taken: what is tested is what follows of them."""

    def speedup(self, network: Network, work: str) -> float:
        return 2.0 if "resnet" in network.builder else 0.5


def told(tmp_path: Path, *flags: str) -> Told:
    said: list[str] = []
    found = Told(with_flags(*flags), torch.device("cpu"), note=said.append, folders=[tmp_path])
    return found


def test_without_native_bfloat16_everything_is_float32(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    found = resolved(load_recipe(tmp_path / "r.yaml"), told(tmp_path))
    assert found.teacher.train is not None and found.teacher.train.precision == "float32"
    text = found.model_dump_json()
    assert '"auto"' not in text.replace('"device":"auto"', "")
    assert text.count('"bfloat16"') == 1  # what the recipe itself asks for


def test_with_it_a_network_that_gains_computes_in_it(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace(", precision: bfloat16", ""))
    found = resolved(load_recipe(tmp_path / "r.yaml"), told(tmp_path, "avx512_bf16"))
    record = found.model_dump()
    assert record["teacher"]["train"]["precision"] == "bfloat16"
    pruned = record["candidates"]["pruned"]
    assert pruned[0]["prune"]["precision"] == "bfloat16"
    assert pruned[1]["distill"]["train"]["precision"] == "bfloat16"
    student = record["candidates"]["student"][0]["distill"]
    assert student["train"]["precision"] == "float32"  # the student is slower in it
    assert student["teacher_precision"] == "bfloat16"  # the teacher is not
    int8 = record["candidates"]["int8"][0]["quantize"]["train"]
    assert int8["train"]["precision"] == "bfloat16"


def test_asking_for_what_is_only_emulated_warns_with_the_measured_factor(tmp_path: Path) -> None:
    said: list[str] = []
    precisions = Precisions(with_flags(), torch.device("cpu"), note=said.append, folders=[tmp_path])
    assert precisions.of("bfloat16", VGG, "training") == "bfloat16"
    (table,) = tmp_path.glob("precision-*.json")
    (speedup,) = json.loads(table.read_text()).values()
    assert speedup > 0 and f"{1 / speedup:.1f} times as slow" in said[0]


def test_a_network_is_timed_once(tmp_path: Path) -> None:
    first = Precisions(machine(), torch.device("cpu"), folders=[tmp_path]).speedup(VGG, "inference")
    again = Precisions(machine(), torch.device("cpu"), folders=[tmp_path]).speedup(VGG, "inference")
    assert first == again  # two measurements never agree to the last digit


class Tutorial(nn.Module):
    """PyTorch's own tutorial flattens with `view`, which channels last does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.end = nn.Linear(8 * 64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return self.end(x.view(x.size(0), -1))


@pytest.mark.parametrize("trains", [True, False])
def test_the_layout_is_one_that_the_network_takes(trains: bool) -> None:
    network, images = Tutorial().eval(), torch.randn(2, 3, 8, 8)
    expected, before = network(images), network.norm.running_mean.clone()
    layout = place(network, torch.device("cpu"), images, trains)
    assert layout == torch.contiguous_format
    assert torch.equal(network.norm.running_mean, before) and not network.training
    shuffled = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(laid_out(shuffled, layout)), expected)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    assert place(plain, torch.device("cpu"), images, trains) == torch.channels_last


def test_times_are_kept_for_each_input_and_each_code_of_a_builder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = InputSpec(height=32, width=32, mean=(0,), std=(1,), channels="grey")
    others = [Network(VGG.builder, VGG.settings, spec) for spec in (grey, INPUT.at([32, 48]))]
    assert len({VGG.key("training"), *(x.key("training") for x in others)}) == 3
    assert [x.size for x in others] == ["32 px", "32 x 48 px"]
    (tmp_path / "edited_by_its_user.py").write_text("def net(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    own = Network("edited_by_its_user:net", {}, INPUT)
    before = own.key("training", ("edited_by_its_user",))
    (tmp_path / "edited_by_its_user.py").write_text("def net(): return")
    assert own.key("training", ("edited_by_its_user",)) != before


def test_where_nothing_can_be_kept_it_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    found = Precisions(
        with_flags("avx512_bf16"),
        torch.device("cpu"),
        note=said.append,
        folders=[tmp_path / "file" / "below"],
    )
    assert found.of("auto", VGG, "inference") in ("float32", "bfloat16")
    assert "cannot be kept" in said[0] and "XDG_CACHE_HOME" in said[0]


def test_every_run_of_a_user_decides_by_the_same_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timed anew in each folder, networks near the limit trained differently from run to run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "measure", lambda *_: WORTH_IT + 0.01)
    first = Precisions(with_flags("avx512_bf16"), torch.device("cpu"))
    assert first.of("auto", VGG, "training") == "bfloat16"
    monkeypatch.setattr(precision, "measure", lambda *_: WORTH_IT - 0.01)
    again = Precisions(with_flags("avx512_bf16"), torch.device("cpu"))
    assert again.of("auto", VGG, "training") == "bfloat16"


def test_a_network_that_takes_no_such_images_is_for_the_plan_to_refuse(tmp_path: Path) -> None:
    small = Network(VGG.builder, VGG.settings, INPUT.at(16))
    found = Precisions(with_flags("avx512_bf16"), torch.device("cpu"), folders=[tmp_path])
    assert found.of("auto", small, "training") == "float32"
    assert not list(tmp_path.glob("precision-*"))  # nothing was timed


def test_a_network_is_built_with_outputs_that_its_task_may_have(tmp_path: Path) -> None:
    settings = {"steps": 8, "units": 32, "embedding": 16, "attention": 16, "width": 0.2}
    task = {"captioning": {"steps": 8, "columns": ["caption"]}}
    (tmp_path / "r.yaml").write_text(
        json.dumps(
            {
                "version": 1,
                "name": "captions",
                "data": {"path": ".", "task": task},
                "teacher": {
                    "builder": "teachers.captioner:vgg16_bn",
                    "settings": settings,
                    "image_size": 32,
                    "train": {"epochs": 1},
                },
                "candidates": {"int8": [{"quantize": {}}]},
            }
        )
    )
    measured = Precisions(with_flags("avx512_bf16"), torch.device("cpu"), folders=[tmp_path])
    found = resolved(load_recipe(tmp_path / "r.yaml"), measured)
    assert found.teacher.train is not None
    assert found.teacher.train.precision in ("float32", "bfloat16")
    assert list(tmp_path.glob("precision-*"))  # it was built, and timed


def test_what_a_store_knows_counts_and_learns_what_the_machine_knows(tmp_path: Path) -> None:
    store, cache = tmp_path / "store", tmp_path / "cache"
    alone = Precisions(machine(), torch.device("cpu"), folders=[cache]).speedup(VGG, "inference")
    both = Precisions(machine(), torch.device("cpu"), folders=[store, cache])
    assert both.speedup(VGG, "inference") == alone
    (table,) = store.glob("precision-*.json")
    assert list(json.loads(table.read_text()).values()) == [alone]
    table.write_text(json.dumps({VGG.key("inference"): 7.0}))
    assert both.speedup(VGG, "inference") == 7.0
