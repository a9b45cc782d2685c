"""A cascade's folder that runs with its runtime, numpy and pillow alone, and answers as here."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from compress.cascade.bundle import sha256_of_all, write_bundle
from compress.cascade.cascade import Cascade
from compress.cascade.spec import CascadeSpec
from compress.cli import app
from compress.cli.choose import choose as command
from compress.data.input_spec import InputSpec
from compress.export.artifact import sha256_of
from compress.export.reference_answers import write_reference
from compress.measure.machine import machine
from compress.results.file import append
from compress.results.schema import CascadeFacts, Origin, Result, Verdict
from compress.runtimes import REFERENCE_KEY, package_of
from compress.utils.errors import UserError
from tests.alone import run_alone, run_script
from tests.cascade.test_cascade import folder as folder
from tests.cascade.test_cascade import photograph
from tests.cascade.test_photograph import jpeg
from tests.cascade_networks import centres
from tests.result_factory import result

NETWORKS = {"localizer": "teacher", "aligner": "small_int8", "classifier": "teacher"}
VERDICT = {
    "images": 3,
    "top1": None,
    "top5": None,
    "named": None,
    "mean_iou": 0.5,
    "centres_inside": None,
    "median_distance": None,
    "median_angle_error_degrees": 2.5,
    "p50_s": 0.1,
    "p95_s": 0.1,
    "parts_s": {},
}


def row(source: Path, runtime: str = "onnxruntime", **more: Any) -> Result:
    """A result that was measured with the cascade of this folder."""
    spec = CascadeSpec.load(source)
    sha256 = sha256_of_all(sha256_of(source / stage.model) for stage in spec.stages)
    made = result("small", runtime=runtime, sha256=sha256, **more)
    facts = CascadeFacts(networks=NETWORKS, verdict=Verdict.model_validate(VERDICT))
    path = made.artifact.model_copy(update={"path": source.name})
    return made.model_copy(update={"artifact": path, "pipeline": facts})


def in_runtime(source: Path, runtime: str, min_probability: float = 0.0, turns: int = 1) -> None:
    """Rewrites the folder's pipeline.json."""
    spec = CascadeSpec.load(source)
    stages = [stage.model_copy(update={"runtime": runtime}) for stage in spec.stages]
    stages[1] = stages[1].model_copy(update={"turns": turns})
    told = {"stages": tuple(stages), "min_probability": min_probability}
    spec.model_copy(update=told).save(source)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Both sides, turned, grey, transparent, with EXIF, deep; and one with nothing on it."""
    there = tmp_path / "photographs"
    there.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, content in {
        "red.png": photograph((450, 330), (390, 300), "red"),
        "blue.png": photograph((400, 250), (430, 330), "blue"),
        "turned.jpg": photograph((500, 300), (420, 310), "red", suffix="JPEG", exif=turned),
        "grey.png": photograph((450, 330), (390, 300), "red", mode="L"),
        "clear.png": photograph((450, 330), (390, 300), "red", mode="RGBA"),
        "edge.png": photograph((780, 580), (700, 590), "blue"),
    }.items():
        (there / name).write_bytes(content)
    Image.new("I;16", (90, 70), 3000).save(there / "nothing.png")
    return sorted(there.iterdir())


def without_times(text: str) -> list[str]:
    return [line for line in text.splitlines() if not re.fullmatch(r" +[\d.]+ ms", line)]


def predicted(cascade: Path, images: list[Path]) -> list[str]:
    arguments = ["predict", "--pipeline", str(cascade), "--threads", "1", *map(str, images)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return without_times(done.output)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("least", "turns"), [(0.0, 1), (0.55, 4)])
def test_it_runs_alone_and_answers_as_compress_does(
    folder: Path, photographs: list[Path], tmp_path: Path, runtime: str, least: float, turns: int
) -> None:
    in_runtime(folder, runtime, least, turns)
    ready = tmp_path / "ready"
    write_bundle(row(folder, runtime), folder, "It is the best.", ready)
    expected = predicted(folder, photographs)
    for path in folder.glob("*.onnx"):
        path.unlink()
    done = run_script(ready, package_of(runtime), *photographs)
    assert (done.returncode, done.stderr) == (0, "")
    assert without_times(done.stdout) == expected
    assert "  red side" in expected and "  blue side" in expected
    assert ("  not sure enough to give a name" in expected) == (least > 0)
    # And the folder is one that compress takes, too.
    assert predicted(ready, photographs) == expected


@pytest.mark.parametrize("least_px", [None, 500])
def test_numbers_are_the_very_same(
    folder: Path, photographs: list[Path], tmp_path: Path, least_px: int | None
) -> None:
    """Also of large photographs, whether they are decoded in full or at a quarter of their size."""
    spec = CascadeSpec.load(folder)
    stages = [x.model_copy(update={"least_photograph_px": least_px}) for x in spec.stages]
    spec.model_copy(update={"stages": tuple(stages)}).save(folder)
    photographs = [*photographs, tmp_path / "large.jpg", tmp_path / "turned.jpg"]
    photographs[-2].write_bytes(jpeg())
    photographs[-1].write_bytes(jpeg(stored=6, arm=60))
    write_bundle(row(folder), folder, "", tmp_path / "ready")
    code = """
import json, runpy
script, *images = sys.argv
found = runpy.run_path(script)
networks, _ = found["load"](found["HERE"], found["open_model"])
for image in images:
    told = found["find"](open(image, "rb").read(), networks)
    print(json.dumps([told.points, told.probabilities.tolist()]))
"""
    done = run_alone(code, "onnxruntime", tmp_path / "ready" / "predict.py", *photographs)
    assert done.returncode == 0, done.stderr
    cascade = Cascade.load(folder, threads=1)
    for image, line in zip(photographs, done.stdout.splitlines(), strict=True):
        found = cascade.find(image.read_bytes())
        points = {name: list(point) for name, point in found.points.items()}
        assert json.loads(line) == [points, found.probabilities.tolist()]


@pytest.mark.parametrize(("fit", "turns"), [("stretch", 1), ("letterbox", 1), ("letterbox", 3)])
def test_points_alone_are_told_too(
    tmp_path: Path, photographs: list[Path], fit: str, turns: int
) -> None:
    source = tmp_path / "cascade"
    source.mkdir()
    centres(source / "points.onnx", 32, {"red": (1, -1, -1), "blue": (-1, -1, 1)}, fit)
    stages = [{"name": "localizer", "model": "points.onnx", "turns": turns}]
    (source / "pipeline.json").write_text(json.dumps({"stages": stages}))
    made = row(source)
    facts = made.pipeline.model_copy(update={"networks": {"localizer": "teacher"}})
    write_bundle(made.model_copy(update={"pipeline": facts}), source, "", tmp_path / "ready")
    done = run_script(tmp_path / "ready", "onnxruntime", *photographs)
    assert without_times(done.stdout) == predicted(source, photographs)


def test_the_folder_says_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    in_runtime(folder, "onnxruntime", min_probability=0.3)
    origin = Origin(what="images: frames", licence="CC0", source="my camera")
    made = row(folder, threads=3).model_copy(update={"origins": [origin]})
    ready = tmp_path / "ready"
    write_bundle(made, folder, "It is the best.", ready)
    assert {x.name for x in ready.iterdir()} == {
        *("localizer.onnx", "aligner.onnx", "classifier.onnx"),
        *("pipeline.json", "predict.py", "requirements.txt", "README.md"),
    }
    assert "OnnxSession(path, 3, alone=False)" in (ready / "predict.py").read_text()
    assert (ready / "requirements.txt").read_text().splitlines() == [
        *("onnxruntime==1.20.0", "numpy>=2.0", "pillow>=10")
    ]
    card = (ready / "README.md").read_text()
    for said in (
        "# small for onnxruntime",
        "It is the best.",
        "| 80.0 % (95 % interval 76.0 to 84.0), on 400 validation images (data d1) |",
        "| time from a photograph's bytes to the answer | 4.00 ms (median; ",
        "| files | 5.00 MB, sha256 of their hashes ",
        "| aligner | small_int8, shown a crop around top_left, bottom_right (RGB, 64 x 64 pixels)"
        "; gives red, blue; aligner.onnx, ",
        "| classifier | teacher, shown the photograph turned and scaled by red and blue (RGB, ",
        "gives 2 classes; classifier.onnx, ",
        "| median angle error | 2.5 degrees |",
        "answers with one of its 2 names, or that it is not sure (below 30 %), also for",
        "compress run recipes/whales.yaml",
        "| images: frames | CC0 | my camera |",
    ):
        assert said in card, said


def test_what_was_not_measured_is_refused(folder: Path, tmp_path: Path) -> None:
    measured = row(folder)
    centres(folder / "points.onnx", 64, {"red": (1, -1, -1), "blue": (-1, -1, 0.5)})
    ready = tmp_path / "ready"
    with pytest.raises(UserError, match=r"is not the cascade that was measured.*compress run"):
        write_bundle(measured, folder, "", ready)
    spec = CascadeSpec.load(folder)
    stages = (*spec.stages[:2], spec.stages[2].model_copy(update={"name": "namer"}))
    spec.model_copy(update={"stages": stages}).save(folder)
    with pytest.raises(UserError, match=r"is not the cascade that was measured"):
        write_bundle(row(folder), folder, "", ready)
    assert list(ready.iterdir()) == []


@pytest.mark.parametrize("runtime", ["one-by-one", "torch"])
def test_a_runtime_that_no_script_is_made_for_is_refused_at_once(
    folder: Path, tmp_path: Path, runtime: str
) -> None:
    with pytest.raises(UserError, match=rf"onnxruntime, openvino, .*was measured in {runtime}: na"):
        write_bundle(row(folder, runtime), folder, "", tmp_path / "ready")
    assert not (tmp_path / "ready").exists()


def test_another_machine_is_noticed(folder: Path, photographs: list[Path], tmp_path: Path) -> None:
    """Of each network; and as the answers were kept before they had names."""
    for name in ("box", "points", "names"):
        path = folder / f"{name}.onnx"
        spec = InputSpec.model_validate_json(
            next(x.value for x in onnx.load(path).metadata_props if x.key == "compress.input")
        )
        write_reference(path, spec, machine())
    write_bundle(row(folder), folder, "", tmp_path / "same")
    done = run_script(tmp_path / "same", "onnxruntime", photographs[0])
    assert (done.returncode, done.stderr) == (0, "")
    proto = onnx.load(folder / "names.onnx")
    (entry,) = [x for x in proto.metadata_props if x.key == REFERENCE_KEY]
    stored = json.loads(entry.value)["onnxruntime"]
    (answers,) = stored["outputs"].values()
    low, high = answers["low"], answers["high"]  # turned upside down: the other class is the best
    earlier = answers | {"low": high, "high": low, "judged_on": "AVX2, onnxruntime 1.0"}
    entry.value = json.dumps({"onnxruntime": earlier})
    onnx.save(proto, folder / "names.onnx")
    write_bundle(row(folder), folder, "", tmp_path / "other")
    done = run_script(tmp_path / "other", "onnxruntime", photographs[0])
    assert done.returncode == 0
    assert re.search(
        r"otherwise than the one that classifier was judged on \(AVX2, onnxruntime 1\.0\): \d of 8 "
        r"reference inputs get another answer, outputs differ by .* Judge it anew here",
        done.stderr,
    ), done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_photograph_is_said_and_the_others_are_named(
    folder: Path, photographs: list[Path], tmp_path: Path
) -> None:
    write_bundle(row(folder), folder, "", tmp_path / "ready")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8no")
    done = run_script(
        tmp_path / "ready", "onnxruntime", broken, tmp_path / "no.jpg", photographs[0]
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "The photograph cannot be read" in done.stderr and "No such file" in done.stderr
    assert f"{photographs[0]}\n  blue side" in done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "../cascade/box.onnx"}, "localizer's model lies outside of"),
        ({"model": "/etc/passwd"}, "localizer's model lies outside of"),
        ({"model": "sub/../../box.onnx"}, "localizer's model lies outside of"),
        ({"model": "nowhere.onnx"}, "No model at"),
        ({"model": "README.md"}, "cannot be loaded by onnxruntime"),
        ({"model": 3}, "pipeline.json cannot be read"),
        ({"name": None, "crop": 4}, "pipeline.json cannot be read"),
    ],
)
def test_a_script_takes_no_files_from_elsewhere(
    folder: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    ready = tmp_path / "ready"
    write_bundle(row(folder), folder, "", ready)
    told = json.loads((ready / "pipeline.json").read_text())
    told["stages"][0] |= change
    (ready / "pipeline.json").write_text(json.dumps(told))
    done = run_script(ready, "onnxruntime", tmp_path / "image.jpg")
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(UserError):
        Cascade.load(ready, threads=1)


@pytest.fixture
def run(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    cli = typer.Typer()
    cli.command()(command)
    there = tmp_path / "runs/stages/cascade-1/pipeline"
    there.mkdir(parents=True)
    for path in [*folder.glob("*.onnx"), folder / "pipeline.json"]:
        (there / path.name).write_bytes(path.read_bytes())
    made = row(there)
    path = made.artifact.model_copy(update={"path": "runs/stages/cascade-1/pipeline"})
    append(tmp_path / "reports/whales/results.jsonl", [made.model_copy(update={"artifact": path})])
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def test_command_exports_the_cascade_that_it_chose(
    run: Callable[..., Any], photographs: list[Path], tmp_path: Path
) -> None:
    out = run("--speedup", "5", "--export", "ready")
    assert out.exit_code == 0 and "Exported to ready" in out.output
    done = run_script(tmp_path / "ready", "onnxruntime", photographs[0])
    assert done.returncode == 0 and "blue side" in done.stdout
    again = run("--speedup", "5", "--export", "ready")
    assert isinstance(again.exception, UserError) and "not an empty folder" in str(again.exception)


def test_command_says_how_to_make_what_is_missing(run: Callable[..., Any], tmp_path: Path) -> None:
    model = tmp_path / "runs/stages/cascade-1/pipeline/box.onnx"
    model.unlink()
    out = run("--speedup", "5", "--export", "ready")
    assert isinstance(out.exception, UserError) and "box.onnx is not in" in str(out.exception)
    model.parent.rename(tmp_path / "elsewhere")
    out = run("--speedup", "5", "--export", "ready")
    assert isinstance(out.exception, UserError)
    assert "Remove runs/stages/cascade-1 where it exists, and make it again" in str(out.exception)
