"""Models that lie ready beside reports answer as the reports say, also where there is no torch."""

import csv
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.cli import app
from compress.recipe.load import load_recipe
from compress.results.file import read
from compress.results.schema import Result
from tests.alone import run_script

ROOT = Path(__file__).parents[2]
READY = sorted((ROOT / "reports").rglob("chosen/model.onnx"))
LARGEST_BYTES = 6_000_000


def row_of(model: Path) -> Result:
    """The row of the report that the file is of."""
    digest = sha256(model.read_bytes()).hexdigest()
    [row] = [x for x in read(model.parents[1]).rows if x.artifact.sha256 == digest]
    return row


@pytest.fixture
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[tuple[str, str]]]:
    """A folder of the images that a report judges by, and each one's name and class."""
    recipe = (request.param.parents[1].relative_to(ROOT / "reports")).with_suffix(".yaml")
    source = Path(load_recipe(ROOT / "recipes" / recipe).data.path or "")
    if not source.is_dir():
        pytest.skip("the images that the report is of are not here (../shared/data)")
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
