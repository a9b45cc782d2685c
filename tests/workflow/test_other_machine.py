"""A run folder goes on under another CPU: what does not depend on the CPU is not done again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import compress.methods.prune.step
import compress.methods.prune.width_search
import compress.methods.quantize.layer_search
import compress.workflow.executors.local
from compress.measure.machine import machine
from compress.methods.decided import DECISION, Decided
from compress.results.schema import Machine, Result
from compress.workflow.cache import Stage, Store
from compress.workflow.run import run_recipe
from tests.conftest import tiny_recipe
from tests.workflow.test_run import Events

# Told, not timed: two machines may decide otherwise.
TRAIN = {"epochs": 1, "batch_size": 8, "precision": "float32"}
LEARN = {"views": 1, "control": False, "train": TRAIN, "teacher_precision": "float32"}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "faster": [
        {"prune": {"speedup": 1.1, "importance": "magnitude", "round_to": 16}},
        {"distill": LEARN},
    ],
    "fewer": [
        {"prune": {"ratio": 0.25, "importance": "magnitude", "round_to": 4}},
        {"distill": LEARN},
    ],
    "split": [
        {"factorize": {"ratio": 0.5, "round_to": 4, "layers": ["features.4*"]}},
        {"distill": LEARN},
    ],
    "int8": [
        {
            "quantize": {
                "images": 8,
                "judged": 8,
                "max_drop_vs_float": 1.0,
                "train": {"views": 1, "train": TRAIN, "teacher_precision": "float32"},
            }
        }
    ],
}
HERE = machine()
THERE = HERE.model_copy(
    update={"cpu": "Another CPU", "cpu_flags": sorted({*HERE.cpu_flags} ^ {"avx512f", "avx2"})}
)
Run = tuple[dict[str, Result], dict[str, str]]


def run_on(
    where: Machine, out: Path, recipe: dict[str, Any], patch: pytest.MonkeyPatch, **more: Any
) -> Run:
    """Rows in onnxruntime by candidate, and what became of each stage by title."""
    from compress.recipe.load import load_recipe

    patch.setattr(compress.workflow.executors.local, "machine", lambda: where)
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    events = Events()
    results, failed = run_recipe(load_recipe(path), out, events, "compress run tiny.yaml", **more)
    assert failed == []
    rows = {row.candidate: row for row in results if row.artifact.runtime == "onnxruntime"}
    return rows, dict(events.seen)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> dict[str, Run]:
    """Here; there with the same folder; in a copy of the first folder with what was there."""
    import shutil

    made = tmp_path_factory.mktemp("out")
    recipe = tiny_recipe(shapes) | {"candidates": CANDIDATES}
    recipe["teacher"]["train"] |= {"epochs": 1, "precision": "float32"}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compress.methods.prune.width_search, "ATTEMPTS", 1)
        patch.setattr(compress.methods.prune.step, "PROCESSES", 1)
        patch.setattr(compress.methods.prune.step, "ROUNDS", 3)
        patch.setattr(compress.methods.quantize.layer_search, "PROCESSES", 1)
        patch.setattr(compress.methods.quantize.layer_search, "ROUNDS", 3)
        found["here"] = run_on(HERE, made, recipe, patch)
        copy = tmp_path_factory.mktemp("moved") / "out"
        shutil.copytree(made, copy)
        found["strict"] = run_on(THERE, made, recipe, patch)
        # As if the CPU there trained in another precision.
        recipe["teacher"]["train"] |= {"precision": "bfloat16"}
        found["reused"] = run_on(THERE, copy, recipe, patch, reuse_other_machine=True)
    return found


TRAINED_ANYWHERE = (
    "teacher vgg16_bn: train 1 epochs",
    "teacher outputs: 1 views of each image",
    "fewer: prune, decided",
    "fewer: prune",
    "fewer: distill",
    "int8: quantize, prepared",
)
OF_THE_MACHINE = ("int8: quantize", "int8: accuracy in onnxruntime", "fewer: layers in onnxruntime")


def decided(row: Result, step: str) -> list[tuple[str, str, bool]]:
    report = next(report for report in row.steps if report.step == step)
    return [(d.layer, d.change, d.kept) for d in report.decisions]


def test_what_does_not_depend_on_the_machine_is_not_done_again(runs: dict[str, Run]) -> None:
    _, here = runs["here"]
    rows, there = runs["strict"]
    for title in TRAINED_ANYWHERE:
        assert (here[title], there[title]) == ("done", "reused"), title
    for title in (*OF_THE_MACHINE, "faster: prune, decided", "split: factorize, decided"):
        assert (here[title], there[title]) == ("done", "done"), title
    assert all(row.machine == THERE for row in rows.values())
    assert not any("another machine" in note for row in rows.values() for note in row.notes)


def test_training_depends_on_the_decision(runs: dict[str, Run]) -> None:
    (before, _), (after, stages) = runs["here"], runs["strict"]
    for name, step in (("faster", "prune"), ("split", "factorize")):
        same = decided(before[name], step) == decided(after[name], step)
        assert (stages[f"{name}: distill"] == "reused") == same


def test_with_what_was_decided_elsewhere_nothing_is_trained_and_rows_say_so(
    runs: dict[str, Run],
) -> None:
    before, _ = runs["here"]
    rows, stages = runs["reused"]
    told = ("faster: prune, decided", "split: factorize, decided", "int8: quantize, decided")
    for title in (*TRAINED_ANYWHERE, *told, "faster: distill", "split: distill"):
        assert stages[title] == "reused", title
    assert all(stages[title] == "done" for title in OF_THE_MACHINE)
    for name, step in (("faster", "prune"), ("split", "factorize")):
        assert decided(rows[name], step) == decided(before[name], step)
        assert [n for n in rows[name].notes if "another machine" in n] == [
            f"{name}: {step}, decided by times on another machine ({HERE.cpu})."
        ]
    assert not any("another machine" in note for note in rows["fewer"].notes)
    assert any(
        "teacher vgg16_bn" in n and "in float32 on another machine; here it would be bfloat16" in n
        for n in rows["teacher"].notes
    )


# The store


def chain(cpu: str, precision: str = "float32") -> dict[str, Stage]:
    """A network, what is decided of it by times, what is trained after that, and its file."""
    network = Stage("teacher", "network", 1, {"train": {"precision": precision, "epochs": 2}})
    here = {"measured_on": {"machine": [cpu]}}
    decision = Stage("decide", "widths", 1, here, {"previous": network})
    after = {"previous": network, "decision": decision}
    trained = Stage("step", "trained", 1, {"epochs": 3}, after)
    file = Stage("step", "file", 1, here, {"previous": trained})
    return {"network": network, "decision": decision, "trained": trained, "file": file}


def make(store: Store, stages: dict[str, Stage], widths: list[int]) -> dict[str, Path]:
    for stage in stages.values():
        if not store.is_done(stage):
            work: Callable[[Path], None] = (
                Decided({"widths": widths}).save if stage.kind == "decide" else lambda folder: None
            )
            store.compute(stage, work)
    return {name: store.folder(stage) for name, stage in stages.items()}


@pytest.mark.parametrize("same", [True, False])
def test_folders_are_named_after_what_was_decided(tmp_path: Path, same: bool) -> None:
    one = make(Store(tmp_path), chain("one"), [8, 16])
    other = make(Store(tmp_path), chain("other"), [8, 16 if same else 24])
    assert one["network"] == other["network"]
    assert one["decision"] != other["decision"]
    assert (one["trained"] == other["trained"]) == same
    assert one["file"] != other["file"]


def test_a_folder_has_no_name_before_the_decision(tmp_path: Path) -> None:
    store, stages = Store(tmp_path), chain("one")
    assert store.name(stages["trained"]) == "after widths"
    assert not store.is_done(stages["trained"])
    make(store, stages, [8])
    assert store.name(stages["trained"]).startswith("step-")
    assert Store(tmp_path).is_done(stages["file"])


def test_only_what_differs_by_the_machine_is_taken_from_elsewhere(tmp_path: Path) -> None:
    one = make(Store(tmp_path), chain("one"), [8])
    store, stages = Store(tmp_path, reuse_other_machine=True), chain("other", precision="bfloat16")
    for name in ("network", "decision", "trained"):
        assert store.folder(stages[name]) == one[name]
    assert not store.is_done(stages["file"])  # is measured on this machine
    assert store.made_on_other_machine(stages["trained"]) is None  # is what it would be here
    settings = store.made_on_other_machine(stages["decision"])
    assert settings is not None and settings["measured_on"] == {"machine": ["one"]}
    longer = Stage("teacher", "network", 1, {"train": {"precision": "float32", "epochs": 9}})
    assert not store.is_done(longer)
    assert not any(Store(tmp_path).is_done(stage) for stage in stages.values())


def test_what_this_machine_has_is_preferred(tmp_path: Path) -> None:
    make(Store(tmp_path), chain("one"), [8])
    other = make(Store(tmp_path), chain("other"), [24])
    store = Store(tmp_path, reuse_other_machine=True)
    assert store.folder(chain("other")["decision"]) == other["decision"]
    decision = json.loads((store.folder(chain("third")["decision"]) / DECISION).read_text())
    assert decision["decided"] in ({"widths": [8]}, {"widths": [24]})
