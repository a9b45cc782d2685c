"""A folder that runs with its runtime, numpy and pillow alone, and answers as compress does."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from compress.cli.choose import choose as command
from compress.data.input_spec import InputSpec, preprocess
from compress.export.artifact import files_of, sha256_of, size_of
from compress.export.bundle import write_bundle
from compress.export.onnx import export_onnx
from compress.measure.evaluate import predict_files
from compress.models.sessions import open_session
from compress.results.file import append
from compress.results.schema import Origin, Result, Training
from compress.runtimes import package_of
from compress.runtimes.openvino_ir import save_ir
from compress.utils.errors import UserError
from tests.alone import run_alone
from tests.cascade_networks import PLAIN, centres
from tests.conftest import draw
from tests.export.test_export import SPEC, make
from tests.outputs import only
from tests.result_factory import result

# What predict.py gives, and what it prints.
ALONE = """
import json, runpy
script, *images = sys.argv
found = runpy.run_path(script)
run = found["load"]()
given = [run(found["prepare"](image)) for image in images]
print(json.dumps([next(iter(outputs.values()))[0].tolist() for outputs in given]))
runpy.run_path(script, run_name="__main__")
print(sorted({"torch", "compress", "scipy", "onnx"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    export_onnx(make("mobilenet_v3"), path)
    return path


def ir(network: Path, folder: Path, spec: InputSpec = SPEC) -> Path:
    path = folder / "network.xml"
    save_ir(ov.Core().read_model(network), path, spec)
    return path


def row(model: Path, runtime: str = "onnxruntime", **more: Any) -> Result:
    """A result that was measured with this file."""
    made = result("small", runtime=runtime, sha256=sha256_of(model), **more)
    facts = made.artifact.model_copy(update={"path": model.name, "size_bytes": size_of(model)})
    versions = made.machine.versions | {package_of(runtime): "1.2.3"}
    here = made.machine.model_copy(update={"versions": versions})
    return made.model_copy(update={"artifact": facts, "machine": here})


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Gray, turned, 12 to 32 bits, floats, palette, transparent, tall, wide, large, CMYK."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    colour = draw("cross", rng, 48)
    turned = Image.Exif()
    turned[274] = 6  # to be rotated by a quarter
    noise = rng.integers(0, 256, (700, 900, 3), dtype=np.uint8)
    deep = rng.integers(0, 2**16, (40, 30), dtype=np.uint16)
    clear = colour.convert("RGBA")
    clear.putalpha(90)
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("exact.png", draw("dot", rng, 32), {}),
        ("gray.png", colour.convert("L"), {}),
        ("black and white.png", colour.convert("1"), {}),
        ("turned.jpg", Image.fromarray(noise[:60, :200]), {"exif": turned}),
        ("deep.png", Image.fromarray(deep), {}),
        ("twelve.png", Image.fromarray(deep[::-1] >> 4), {}),
        ("integers.tif", Image.fromarray(deep[:, ::-1].astype(np.int32) << 4), {}),
        ("floats.tif", Image.fromarray((deep.T / 60_000).astype(np.float32)), {}),
        ("large floats.tif", Image.fromarray((deep.T[::-1] / 30).astype(np.float32)), {}),
        ("palette.png", colour.convert("P"), {}),
        ("transparent.png", clear, {}),
        ("tall.png", colour.resize((20, 200)), {}),
        ("wide.png", colour.resize((300, 33)), {}),
        ("large.jpg", Image.fromarray(noise), {"quality": 80}),
        ("print.jpg", colour.convert("CMYK"), {}),
        ("moving.gif", colour, {"save_all": True, "append_images": [draw("bar", rng, 48)]}),
    ]
    for name, image, settings in made:
        image.save(folder / name, **settings)
    return sorted(folder.iterdir())


def alone(folder: Path, package: str, images: list[Path]) -> tuple[np.ndarray, list[str]]:
    """Logits and printed lines of predict.py in a process that can import nothing else."""
    done = run_alone(ALONE, package, folder / "predict.py", *images)
    assert done.returncode == 0, done.stderr
    first, *printed, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    return np.array(json.loads(first), dtype=np.float32), printed


@pytest.mark.parametrize(
    ("runtime", "fit", "as_ir"),
    [
        ("onnxruntime", "crop", False),
        ("onnxruntime", "stretch", False),
        ("onnxruntime", "letterbox", False),
        ("openvino", "crop", False),
        ("openvino", "stretch", True),
    ],
)
def test_it_runs_alone_and_answers_as_compress_does(
    network: Path, odd_images: list[Path], tmp_path: Path, runtime: str, fit: Any, as_ir: bool
) -> None:
    spec = SPEC.model_copy(update={"fit": fit, "mean": (0.4, 0.5, 0.6), "std": (0.3, 0.2, 0.1)})
    model = tmp_path / "there" / network.name
    model.parent.mkdir()
    if as_ir:
        model = ir(network, tmp_path / "there", spec)
    else:
        shutil.copyfile(network, model)
        with_spec(model, spec)
    folder = tmp_path / "ready"
    write_bundle(row(model, runtime), model, "It is the best.", folder)
    shutil.rmtree(model.parent)  # nothing but the folder is needed

    logits, printed = alone(folder, package_of(runtime), odd_images)
    session = open_session(next(folder.glob("model.[ox]*")), runtime, 1)
    expected = np.concatenate([only(session.run(preprocess([x], spec))) for x in odd_images])
    np.testing.assert_array_equal(logits, expected)
    assert len(np.unique(logits, axis=0)) == len(odd_images)
    assert printed[0] == str(odd_images[0]) and len(printed) == 6 * len(odd_images)
    best = spec.classes[int(expected[0].argmax())]
    assert printed[1].endswith(f"%  {best}")


def test_it_says_where_deep_images_are_scaled_by_several_ranges(
    network: Path, odd_images: list[Path], tmp_path: Path
) -> None:
    model = shutil.copyfile(network, tmp_path / network.name)
    write_bundle(row(model), model, "It is the best.", tmp_path / "ready")
    script = [sys.executable, str(tmp_path / "ready" / "predict.py")]
    deep, twelve, grey = (odd_images[0].with_name(f"{x}.png") for x in ("deep", "twelve", "gray"))
    for images, said in (([deep, grey], 0), ([grey, twelve], 0), ([deep, twelve, deep], 1)):
        done = subprocess.run([*script, *images], capture_output=True, text=True, check=True)
        told = f"{twelve} holds numbers to 4095, as its largest value says, and images before it to"
        assert done.stderr.count("divide all by the same number") == said
        assert done.stderr.count(f"{told} 65535") == said


def test_what_is_no_image_is_said_and_the_others_are_answered(
    network: Path, odd_images: list[Path], tmp_path: Path
) -> None:
    model = shutil.copyfile(network, tmp_path / network.name)
    write_bundle(row(model), model, "It is the best.", tmp_path / "ready")
    (tmp_path / "text.png").write_text("no image")
    bad = [tmp_path / "text.png", tmp_path / "nowhere.jpg", tmp_path]
    asked = [sys.executable, tmp_path / "ready/predict.py", *bad, odd_images[0]]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for file in bad:
        assert f"{file} cannot be read as an image: " in done.stderr
    assert done.stdout.splitlines()[0] == str(odd_images[0])


@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox"])
def test_points_are_told_in_pixels_as_compress_does(
    odd_images: list[Path], tmp_path: Path, fit: Any
) -> None:
    model = tmp_path / "there.onnx"
    centres(model, 32, {"red": (1, -0.2, -0.2), "blue": (-0.2, -0.2, 1)})
    spec = InputSpec(height=32, width=32, points=("red", "blue"), **(PLAIN | {"fit": fit}))
    with_spec(model, spec)
    write_bundle(row(model), model, "It is the best.", tmp_path / "ready")
    assert not (tmp_path / "ready" / "classes.json").exists()
    _, printed = alone(tmp_path / "ready", "onnxruntime", odd_images)
    expected = []
    for image, points in zip(odd_images, predict_files(model, odd_images, 1), strict=True):
        assert not isinstance(points, UserError)
        expected += [str(image), *(f"  {n}: {x:.1f}, {y:.1f}" for n, (x, y) in points.items())]
    assert printed == expected


def with_spec(path: Path, spec: InputSpec) -> None:
    import onnx

    from compress.data.input_spec import METADATA_KEY

    model = onnx.load(path)
    (entry,) = [x for x in model.metadata_props if x.key == METADATA_KEY]
    entry.value = spec.model_dump_json()
    onnx.save(model, path)


def test_bfloat16_is_computed_where_it_was_measured(network: Path, tmp_path: Path) -> None:
    write_bundle(row(network, "openvino-bf16"), network, "", tmp_path / "ready")
    settings = json.loads((tmp_path / "ready/model.json").read_text())["settings"]
    assert settings["INFERENCE_PRECISION_HINT"] == "bf16"
    assert (tmp_path / "ready/requirements.txt").read_text().startswith("openvino==1.2.3\n")


def test_the_folder_says_what_is_in_it(network: Path, tmp_path: Path) -> None:
    trained = Training(description="kd", labelled_images=300, unlabelled_images=40, seconds=9.0)
    made = row(network, threads=3, training=trained, notes=["MACs leave out | Sin."])
    made = made.model_copy(update={"candidate": "small *one* <b>"})
    write_bundle(made, network, "It is the best.", tmp_path)
    assert {x.name for x in tmp_path.iterdir()} == {
        *("model.onnx", "classes.json", "model.json", "predict.py", "requirements.txt"),
        "README.md",
    }
    assert json.loads((tmp_path / "classes.json").read_text()) == list(SPEC.classes)
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "file": "model.onnx",
        "sha256": made.artifact.sha256,
        "runtime": "onnxruntime",
        "height": 32,
        "width": 32,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
        "fit": "crop",
        "threads": 3,
    }
    assert "onnxruntime==1.2.3\n" in (tmp_path / "requirements.txt").read_text()
    card = (tmp_path / "README.md").read_text()
    for said in (
        "# small \\*one\\* &lt;b&gt; for onnxruntime",
        "It is the best.",
        "| 80.0 % (95 % interval 76.0 to 84.0), on 400 validation images (data d1) |",
        "1.0 points (95 % interval 0.0 to 2.0), on the same images",
        "10.0 times (95 % interval 9.60 to 10.5), both in onnxruntime",
        "4.00 ms (median; 19 of 20 take less than 4.40 ms), 3 threads",
        "Example CPU, 2 cores",
        "40 unlabelled images",
        "transductive",
        "- MACs leave out \\| Sin.",
        "compress run recipes/whales.yaml",
        "## Licences\n\nUnknown: the run that made this did not say",
    ):
        assert said in card


def test_the_card_says_under_what_licences(network: Path, tmp_path: Path) -> None:
    origins = [
        Origin(what="images: heads|2", source="*my* camera"),
        Origin(what="weights: a.safetensors", licence="CC BY 4.0", source="a paper"),
    ]
    made = row(network).model_copy(update={"origins": origins})
    write_bundle(made, network, "", tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "| images: heads\\|2 | unknown | \\*my\\* camera |\n" in card
    assert "| weights: a.safetensors | CC BY 4.0 | a paper |\n" in card
    assert "What is unknown here was said neither in the recipe" in card


@pytest.mark.parametrize("version", [None, "1.0\n--index-url https://example.org"])
def test_requirements_name_a_version_or_none(
    network: Path, tmp_path: Path, version: str | None
) -> None:
    made = row(network)
    versions = {} if version is None else {"onnxruntime": version}
    here = made.machine.model_copy(update={"versions": versions})
    write_bundle(made.model_copy(update={"machine": here}), network, "", tmp_path)
    assert (tmp_path / "requirements.txt").read_text().splitlines() == [
        *("onnxruntime", "numpy>=2.0", "pillow>=10")
    ]


def test_a_folder_with_something_in_it_is_refused(network: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    (tmp_path / "file").write_text("")
    for folder in ("full", "file"):
        with pytest.raises(UserError, match=f"{folder} is not an empty folder"):
            write_bundle(row(network), network, "", tmp_path / folder)
    assert [x.name for x in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_file_that_is_not_the_measured_one_is_refused(network: Path, tmp_path: Path) -> None:
    model = ir(network, tmp_path)
    measured = row(model, "openvino")
    weights = files_of(model)[1]
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(UserError, match=r"is not the file that was measured.*compress run recipes"):
        write_bundle(measured, model, "", tmp_path / "ready")
    weights.unlink()
    with pytest.raises(UserError, match=r"network.bin is missing.*compress run recipes"):
        write_bundle(measured, model, "", tmp_path / "ready")
    assert list((tmp_path / "ready").iterdir()) == []


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Path) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    model = tmp_path / "runs/stages/model.onnx"
    model.parent.mkdir(parents=True)
    shutil.copyfile(network, model)
    made = row(model)
    path = made.artifact.model_copy(update={"path": "runs/stages/model.onnx"})
    append(tmp_path / "reports/whales/results.jsonl", [made.model_copy(update={"artifact": path})])
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_command_exports_what_it_chose(run: Callable[..., Any], tmp_path: Path) -> None:
    out = run("--speedup", "5", "--export", "ready")
    assert out.exit_code == 0 and "Exported to ready" in out.output
    assert "With more than 99 % probability" in (tmp_path / "ready/README.md").read_text()
    again = run("--speedup", "5", "--export", "ready")
    assert isinstance(again.exception, UserError) and "not an empty folder" in str(again.exception)
    assert "Chosen" not in again.output
    nothing = run("--speedup", "500", "--export", "other")
    assert nothing.exception.exit_code == 3 and not (tmp_path / "other").exists()


def test_command_says_how_to_make_a_missing_file(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "runs/stages/model.onnx").unlink()
    out = run("--speedup", "5", "--export", "ready")
    assert isinstance(out.exception, UserError) and out.exception.exit_code == 2
    assert (
        "is not here. Remove runs/stages where it exists, and make it again: compress run"
        in str(out.exception)
    )


def test_command_follows_no_path_out_of_the_folder(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "reports/whales/results.jsonl"
    for path in (str(tmp_path / "runs/stages/model.onnx"), "../runs/stages/model.onnx"):
        text = file.read_text("utf-8")
        data = json.loads(text)
        data["artifact"]["path"] = path
        file.write_text(json.dumps(data) + "\n", "utf-8")
        out = run("reports/whales", "--speedup", "5", "--export", "ready")
        assert isinstance(out.exception, UserError) and "is not here" in str(out.exception)
