"""Every recipe of the project runs end to end, on a narrow VGG and few small images."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from rich.console import Console

import compress.methods.binarize.layer_timing
from compress.cascade.recipe import is_cascade, load_cascade_recipe
from compress.export.int8 import INTEGER, integer_operations
from compress.methods.binarize import deployment
from compress.methods.prune import step as prune_step
from compress.methods.quantize import layer_search
from compress.recipe.load import load_recipe, read_asked
from compress.recipe.yaml_file import read_recipe_file
from compress.report.write import reports_in
from compress.results.schema import Result
from compress.runtimes.openvino_ir import read_ir
from compress.utils.progress import Progress
from compress.workflow.run import run_recipe
from tests.conftest import shipped_recipes

pytestmark = pytest.mark.slow
ALL = shipped_recipes()
PIPELINES = [path for path in ALL if is_cascade(read_recipe_file(path))]
RECIPES = [path for path in ALL if path.parent.name == "recipes" and path not in PIPELINES]
FEW = {"individuals": 4, "pictures": 72}
CROPS = {"width": 160, "height": 128, "size": 40}
SMALL_DATA = {
    "teachers.scenes:scenes": {"pictures": 72, "unlabelled": 8, "size": 32},
    "teachers.synthetic_whales:heads": {**FEW, "unlabelled": 8, "size": 32},
    "teachers.whale_captions:captioned_scenes": {"pictures": 72, "unlabelled": 8, "size": 32},
    "teachers.whale_catalogue:described_heads": {
        "individuals": 12,
        "new": 3,
        "pictures": 6,
        "unlabelled": 8,
        "size": 32,
    },
    "teachers.whale_frames:frames": {**FEW, "unlabelled": 8, "width": 96, "height": 64},
    "teachers.whale_frames:synthetic_head_crops": {**FEW, **CROPS},
    "teachers.whale_frames:synthetic_aligned_heads": {**FEW, **CROPS},
}


def _first(asked: Any) -> Any:
    """Of values to search among, the first."""
    return asked[0] if isinstance(asked, list) else asked


def narrowed(value: Any) -> Any:
    """The same recipe, small: short schedules, 32 pixels, speedups that a narrow VGG reaches."""
    if isinstance(value, list):
        return [narrowed(item) for item in value]
    if not isinstance(value, dict):
        return value
    small = {key: narrowed(item) for key, item in value.items()}
    changes = {
        "epochs": lambda _: 1,
        "views": lambda _: 2,
        "image_size": lambda _: 32,
        "grid": lambda _: 2,
        "batch_size": lambda _: 8,
        "speedup": lambda asked: [1.3] if isinstance(asked, list) else 1.3,
        "progressive": lambda _: [],
        "lr": _first,
        "student": _first,
    }
    small |= {key: change(small[key]) for key, change in changes.items() if key in small}
    if "prune" in small:
        small["prune"] |= {"images": 16}
    if "saliency" in small:
        small["saliency"] |= {"images": 4}
    if "binarize" in small:
        small["binarize"] |= {"images": 8}
    if "quantize" in small:
        small["quantize"] |= {"images": 8, "judged": 16, "max_drop_vs_float": 0.5}
    return small


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is measured as always, only less often: no number is looked at here."""
    for module in (layer_search, prune_step, deployment):
        monkeypatch.setattr(module, "PROCESSES", 1)
        monkeypatch.setattr(module, "ROUNDS", 5)
    monkeypatch.setattr(compress.methods.binarize.layer_timing, "LEAST_S", 0.0)
    monkeypatch.setattr(compress.methods.binarize.layer_timing, "LARGE", ((64, 8),))


NARROW = {
    "teachers.vgg:vgg16_bn": {"pool": 1, "width": 0.5, "classifier_width": 64},
    "teachers.captioner:vgg16_bn": {"steps": 20, "width": 0.5, "units": 64},
    "teachers.unit_vector:vgg16_bn": {"pool": 1, "width": 0.5, "classifier_width": 64},
    "teachers.votes:vgg16_bn": {"width": 0.5},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all recipes, as a user's folder would be: one teacher serves them all."""
    return tmp_path_factory.mktemp("out")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path: Path, out: Path) -> None:
    recipe = narrowed(read_asked(path, ()).data)
    recipe["data"]["settings"] = SMALL_DATA[recipe["data"]["builder"]]
    recipe["teacher"]["settings"] = NARROW[recipe["teacher"]["builder"]]
    recipe.setdefault("measure", {})
    recipe["measure"] |= {
        "threads": 1, "processes": 1, "rounds": 5, "throughput_batch": 2, "throughput_rounds": 1,
    }  # fmt: skip
    written = out / path.name
    written.write_text(yaml.safe_dump(recipe, sort_keys=False))
    loaded = load_recipe(written)
    results, _ = run_recipe(
        loaded,
        out,
        Progress(Console(quiet=True)),
        f"compress run {path.name}",
        report=reports_in(out),
    )

    assert set(loaded.candidates) <= {row.candidate for row in results}
    report = (out / "reports" / loaded.name / "report.md").read_text("utf-8")
    for row in results:
        assert row.candidate in report
        check_steps(row, out)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_stages_of_a_pipeline_find_what_later_ones_look_at(path: Path) -> None:
    pipeline, recipes = load_cascade_recipe(path)
    for way in pipeline.paths:
        known: set[str] = set()
        for name in way:
            stage = pipeline.stages[name]
            assert set(stage.needs) <= known
            if stage.annotated is not None:
                known |= set(stage.annotated)
                continue
            columns = recipes[name].data.point_columns
            known |= set(columns.names if columns else ())
        assert recipes[way[-1]].data.point_columns is None  # it names things


def check_steps(row: Result, out: Path) -> None:
    """What the row says of itself is what lies in the file."""
    said = " → ".join(row.lineage)
    steps = [report.step for report in row.steps]
    if "prune speedup" in said:
        target = row.steps[0].target
        assert target and target.quantity == "speedup" and target.measured and target.predicted
    file = out / row.artifact.path
    if "quantize" in steps:
        in_int8 = [d for d in row.steps[-1].decisions if d.kept]
        integers, _ = integer_operations(file)
        assert len(integers) == len(in_int8)
        assert any(n.op_type == "QuantizeLinear" for n in onnx.load(file).graph.node) == bool(
            in_int8
        )
    elif "binarize" in steps and row.artifact.path.endswith(".onnx"):
        # What could not be proven on this machine is an exact float file, and says so.
        assert row.dropped and row.dropped.startswith("Simulated, no speedup")
    elif "binarize" in steps:
        binary = [o for o in read_ir(file).get_ops() if o.get_type_name() == "BinaryConvolution"]
        assert len(binary) == len(row.steps[-1].decisions) > 0
    elif row.artifact.runtime == "onnxruntime":
        assert not {n.op_type for n in onnx.load(file).graph.node} & {*INTEGER, "QuantizeLinear"}
