"""`predict` serves scripts: folders, lists, JSON and CSV; what cannot be read is a row."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from compress.cli import app
from compress.data.input_spec import InputSpec
from compress.report.predictions import write_csv, write_json
from compress.tasks import task_of
from compress.utils.errors import UserError
from tests.conftest import CLASSES
from tests.measure.test_scales import SPEC
from tests.onnx_graphs import TAILS, classifier


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    """A classifier's file and its spec, as arguments."""
    (tmp_path / "spec.json").write_text(SPEC.model_dump_json())
    file = classifier(tmp_path / "m.onnx", TAILS["then flatten"])
    return [str(file), "--spec", str(tmp_path / "spec.json"), "--threads", "1"]


def predict(*arguments: object, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], input=given)


def test_folders_and_lists_of_images(model: list[str], shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{shapes / 'bar' / '01.png'}\n\n")
    (tmp_path / "empty").mkdir()
    done = predict(*model, shapes / "bar", tmp_path / "list.txt", "--json")
    names = [Path(x["image"]).name for x in json.loads(done.stdout)]
    bars = sorted(path.name for path in (shapes / "bar").iterdir())
    assert done.exit_code == 0 and names == [*bars, "01.png"]
    piped = predict(*model, "-", "--csv", given=f"{shapes / 'bar' / '00.png'}\n")
    assert {x["image"] for x in csv.DictReader(io.StringIO(piped.stdout))} == {
        str(shapes / "bar" / "00.png")
    }
    for wrong, said in (
        (tmp_path / "empty", "has no images"),
        (tmp_path / "no.txt", "is no list of images, a path a line"),
    ):
        assert said in str(predict(*model, wrong).exception)


def test_json_and_csv_say_what_people_are_told(model: list[str], shapes: Path) -> None:
    image = shapes / "bar" / "00.png"
    (told,) = json.loads(predict(*model, image, "--json").stdout)
    assert [x["rank"] for x in told["answers"]] == list(range(1, len(CLASSES) + 1))
    assert sum(x["probability"] for x in told["answers"]) == pytest.approx(1)
    rows = list(csv.DictReader(io.StringIO(predict(*model, image, "--csv").stdout)))
    assert list(rows[0]) == ["image", "rank", "class", "probability", "error"]
    for row, answer in zip(rows, told["answers"], strict=True):
        assert (row["class"], float(row["probability"])) == (answer["class"], answer["probability"])
    lines = predict(*model, image).stdout.splitlines()[1:]
    assert [x.split()[-1] for x in lines] == [x["class"] for x in told["answers"]]
    top = predict(*model, image, "--json", "--top", 2).stdout
    assert json.loads(top)[0]["answers"] == told["answers"][:2]
    assert len(predict(*model, image, "--top", 1).stdout.splitlines()) == 2


def test_an_image_that_cannot_be_read_is_a_row_with_the_reason(
    model: list[str], shapes: Path, tmp_path: Path
) -> None:
    broken, image = tmp_path / "broken.png", shapes / "bar" / "00.png"
    broken.write_bytes(b"no image")
    done = predict(*model, broken, image, "--json")
    assert isinstance(done.exception, UserError) and done.exception.exit_code == 2
    assert str(done.exception) == "1 of 2 images could not be read."
    first, second = json.loads(done.stdout)
    assert first["image"] == str(broken) and "broken.png" in first["error"]
    assert "error" not in second and len(second["answers"]) == len(CLASSES)
    table = list(csv.DictReader(io.StringIO(predict(*model, broken, image, "--csv").stdout)))
    assert len(table) == 1 + len(CLASSES)
    assert table[0]["error"] == first["error"] and table[0]["class"] == ""
    assert {x["error"] for x in table[1:]} == {""}
    nothing = predict(*model, broken, "--csv").stdout
    assert [x["error"] for x in csv.DictReader(io.StringIO(nothing))] == [first["error"]]


def test_deep_images_of_several_ranges_are_said(model: list[str], tmp_path: Path) -> None:
    for name, high in (("a", 4000), ("b", 4100)):
        Image.fromarray(np.full((8, 8), high, np.uint16)).save(tmp_path / f"{name}.png")
    done = predict(*model, tmp_path / "a.png", tmp_path / "b.png")
    assert done.exit_code == 0
    assert "There are images of 16 or 32 bits whose ranges differ" in done.stderr
    assert "ranges" not in predict(*model, tmp_path / "a.png", tmp_path / "a.png").stderr


ADDRESS = "https://x.org/m.onnx"


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", ADDRESS, "--data", "."],
        ["eval", "m.onnx", "--data", ".", "--spec", ADDRESS],
        ["eval", "m.onnx", "--data", ADDRESS],
        ["predict", ADDRESS, "a.png"],
        ["predict", "m.onnx", ADDRESS],
        ["predict", "m.onnx", "a.png", "--spec", ADDRESS],
        ["predict", "--pipeline", ADDRESS, "a.png"],
        ["bench", ADDRESS],
        ["profile", ADDRESS],
        ["profile", "m.onnx", "--against", ADDRESS],
        ["run", ADDRESS],
        ["check", ADDRESS],
    ],
    ids=" ".join,
)
def test_an_address_is_to_be_downloaded_first(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier(tmp_path / "m.onnx", TAILS["then flatten"])
    (tmp_path / "m.json").write_text(SPEC.model_dump_json())
    if "--spec" not in arguments and arguments[0] == "eval":
        arguments = [*arguments, "--spec", "m.json"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError) and done.exception.exit_code == 2
    assert "is an address: download what is there first" in str(done.exception)


def test_json_and_csv_exclude_each_other(model: list[str], shapes: Path) -> None:
    done = predict(*model, shapes / "bar", "--json", "--csv")
    assert "--json and --csv exclude each other" in str(done.exception)


def written(write: Any, *found: Any) -> str:
    out = io.StringIO()
    write([(Path(f"{i}.png"), x) for i, x in enumerate(found)], out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["predict", "--pipeline", ".", "x.png", "--spec", "s.json"], "--spec is of a model, and"),
        (
            ["eval", ".", "--columns", "x,y", "--iou", "0.7"],
            "--columns and --iou are of a model, and this is the folder of a pipeline",
        ),
        (["eval", "m.onnx", "--per-image", "x.csv"], "--per-image is for the folder of a pipeline"),
        (["eval", "m.onnx", "--tolerance", "nan"], "--tolerance must be above 0"),
        (["eval", "m.onnx", "--tolerance", "-1"], "--tolerance must be above 0"),
        (["eval", "m.onnx", "--iou", "50"], "--iou above 0 and at most 1"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: list[str], said: str) -> None:
    data = ["--data", "images"] if options[0] == "eval" else []
    done = CliRunner().invoke(app, [*options, *data])
    assert isinstance(done.exception, UserError) and said in str(done.exception)


def test_points_are_columns_as_tables_for_training_have_them() -> None:
    spec = InputSpec(
        height=8, width=8, mean=(0,), std=(1,), channels="grey", points=("tip", "tail")
    )
    rows = task_of(spec).rows({"tip": (1.0, 2.5), "tail": (3.0, 4.0)})
    assert written(write_csv, UserError("gone"), rows).splitlines() == [
        "image,tip_x,tip_y,tail_x,tail_y,error",
        "0.png,,,,,gone",
        "1.png,1.0,2.5,3.0,4.0,",
    ]
    (told,) = json.loads(written(write_json, rows))
    assert told == {
        "image": "0.png",
        "answers": [{"points": {"tip": [1.0, 2.5], "tail": [3.0, 4.0]}}],
    }


def test_an_image_without_a_label_is_a_row_too() -> None:
    rows = [{"rank": 1, "class": "a,b", "probability": 0.5}]
    assert written(write_csv, [], rows, []).splitlines() == [
        "image,rank,class,probability,error",
        "0.png,,,,",
        '1.png,1,"a,b",0.5,',
        "2.png,,,,",
    ]
    assert written(write_csv, []) == "image,error\n0.png,\n"
    assert json.loads(written(write_json)) == []
