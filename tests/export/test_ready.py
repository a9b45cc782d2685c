"""Models that lie ready beside reports answer as the reports say, also where there is no torch."""

import csv
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.cascade.answer import NOT_SURE
from compress.cascade.bundle import sha256_of_all
from compress.cascade.cascade import Cascade
from compress.cascade.evaluate import judge
from compress.cascade.recipe import load_cascade_recipe
from compress.cascade.spec import FILE, CascadeSpec
from compress.cli import app
from compress.data.layouts import read_folder
from compress.export.artifact import sha256_of
from compress.recipe.load import load_recipe
from compress.results.file import read
from compress.results.schema import Result
from compress.runtimes import package_of
from tests.alone import run_script

ROOT = Path(__file__).parents[2]
READY = sorted((ROOT / "reports").rglob("chosen/model.onnx"))
LARGEST_BYTES = 6_000_000
CASCADES = [file.parent for file in sorted((ROOT / "reports").rglob(f"chosen/{FILE}"))]
LARGEST_CASCADE_BYTES = 15_000_000
NOT_HERE = "the images that the report is of are not here (../shared/data)"
SOME = 25  # of the photographs that a cascade was judged on


def row_of(model: Path) -> Result:
    """The row of the report that the file is of."""
    return row_with(sha256(model.read_bytes()).hexdigest(), model.parents[1])


def row_with(digest: str, report: Path) -> Result:
    [row] = [x for x in read(report).rows if x.artifact.sha256 == digest]
    return row


def row_of_cascade(folder: Path) -> Result:
    """The row of the report that the cascade is of: whose networks have these hashes, in order."""
    stages = CascadeSpec.load(folder).stages
    digest = sha256_of_all(sha256_of(folder / stage.model) for stage in stages)
    row = row_with(digest, folder.parent)
    assert row.pipeline and list(row.pipeline.networks) == [stage.name for stage in stages]
    return row


def recipe_of(report: Path) -> Path:
    return ROOT / "recipes" / report.relative_to(ROOT / "reports").with_suffix(".yaml")


@pytest.fixture
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[tuple[str, str]]]:
    """A folder of the images that a report judges by, and each one's name and class."""
    source = Path(load_recipe(recipe_of(request.param.parents[1])).data.path or "")
    if not source.is_dir():
        pytest.skip(NOT_HERE)
    with (source / "split.csv").open(encoding="utf-8") as file:
        splits = {row["Image"]: row["split"] for row in csv.DictReader(file)}
    with (source / "train.csv").open(encoding="utf-8") as file:
        rows = [(row["Image"], row["whaleID"]) for row in csv.DictReader(file)]
    rows = [row for row in rows if splits[row[0]] == "validation"]
    (tmp_path / "imgs").mkdir()
    for name, _ in rows:
        (tmp_path / "imgs" / name).symlink_to((source / "imgs" / name).resolve())
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("Image", "whaleID"), *rows])
    return tmp_path, rows


def test_there_are_some() -> None:
    assert READY
    assert all(model.stat().st_size <= LARGEST_BYTES for model in READY)


@pytest.mark.parametrize(("judged", "model"), [(x, x) for x in READY], indirect=["judged"])
def test_ready_models_answer_as_their_reports_say(
    judged: tuple[Path, list[tuple[str, str]]], model: Path
) -> None:
    folder, rows = judged
    done = CliRunner().invoke(
        app, ["eval", str(model), "--data", str(folder), "--split", "all", "--json"]
    )
    assert done.exit_code == 0, done.output
    found, told = json.loads(done.stdout), row_of(model).accuracy
    assert found["images"] == told.images
    right = np.array([list(found["correct"]), list(told.correct)]) == "1"
    # Another CPU rounds otherwise: an image or two whose best answers are next to equal.
    assert (right[0] != right[1]).sum() <= 2

    # What the report says is named right, in a process that can import nothing else.
    named = [row for row, is_right in zip(sorted(rows), right[1], strict=True) if is_right][:10]
    paths = [folder / "imgs" / image for image, _ in named]
    alone = run_script(model.parent, "onnxruntime", *paths)
    assert alone.returncode == 0, alone.stderr
    printed = alone.stdout.splitlines()
    first = [printed[printed.index(str(path)) + 1].split()[-1] for path in paths]
    assert sum(x == y for x, (_, y) in zip(first, named, strict=True)) >= len(named) - 1


@pytest.mark.parametrize("folder", CASCADES)
def test_ready_cascades_are_small_and_those_of_their_reports(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST_CASCADE_BYTES
    row = row_of_cascade(folder)
    assert row.competes and row.candidate in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("folder", CASCADES)
def test_ready_cascades_answer_as_their_reports_say(folder: Path) -> None:
    row = row_of_cascade(folder)
    package = package_of(row.artifact.runtime)
    pytest.importorskip(package)
    recipe, _ = load_cascade_recipe(recipe_of(folder.parent))
    source = Path(recipe.data.path or "")
    if not source.is_dir():
        pytest.skip(NOT_HERE)
    cascade = Cascade.load(folder, row.at_smallest_batch.threads)
    data = read_folder(source)
    validation = data.indices("validation")
    assert len(validation) == row.accuracy.images
    found = judge(cascade, data, validation[:SOME].tolist())
    said = np.array(list(row.accuracy.correct[:SOME])) == "1"
    # Another CPU rounds otherwise, as above.
    assert (np.array([x.rank == 1 for x in found]) != said).sum() <= 2

    # The script names the same, in a process that can import nothing else.
    paths = data.paths(validation[:SOME])
    alone = run_script(folder, package, *paths)
    assert alone.returncode == 0, alone.stderr
    printed = alone.stdout.splitlines()
    names = [printed[printed.index(str(path)) + 1].strip() for path in paths]
    assert names == [x.named or NOT_SURE for x in found]

    # And of real photographs, which the report lists one by one.
    assert row.pipeline
    for name, path in recipe.also_judge.items():
        others, listed = read_folder(Path(path)), row.pipeline.listed[name]
        labelled = [i for i, image in enumerate(others.images) if image.label is not None]
        judged = judge(cascade, others, labelled)
        assert [x.image for x in judged] == [x.image for x in listed]
        assert sum(x.named != y.named for x, y in zip(judged, listed, strict=True)) <= 1
