"""`compress init`: what it looks at, what it refuses, and that the recipe it writes is right."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models import resnet18

from compress.cli.init import init
from compress.cli.init.inspect import Images, look_at_images, network_input
from compress.cli.init.write import METHODS, Answers, Schedule, recipe_for
from compress.data.input_spec import METADATA_KEY, InputSpec
from compress.models.builders import build
from compress.recipe.load import load_recipe
from compress.recipe.schema import chosen
from compress.utils.errors import UserError
from tests.conftest import CLASSES
from tests.onnx_graphs import save

Init = Callable[..., Path]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network for the three classes of `shapes`, with their names."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    named = {"classes": '["bar", "cross", "dot"]'}
    save_file(resnet18(num_classes=len(CLASSES)).state_dict(), path, named)
    return path


@pytest.fixture(scope="module")
def onnx_file(weights: Path) -> Path:
    path = weights.with_name("small.onnx")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, len(CLASSES)))
    torch.onnx.export(model.eval(), (torch.zeros(1, 3, 32, 32),), path, dynamo=True, verbose=False)
    return path


@pytest.fixture
def make(tmp_path: Path, shapes: Path, weights: Path) -> Init:
    """Runs init with good answers, over which a test has its own, and no terminal."""

    def run(name: str = "mine.yaml", **changes: object) -> Path:
        good = {
            "teacher": "torchvision.models:resnet18",
            "weights": str(weights),
            "data": str(shapes),
            "image_size": "32",
        }
        init(tmp_path / name, **(good | changes))  # type: ignore[arg-type]
        return tmp_path / name

    return run


def test_the_recipe_says_what_was_answered(make: Init, shapes: Path, weights: Path) -> None:
    path = make(methods=",".join(METHODS), speedup="6", max_accuracy_drop="0.005", std="1,1,0.5")
    recipe = load_recipe(path)
    assert recipe.teacher.weights == str(weights) and recipe.teacher.image_size == 32
    assert recipe.teacher.std == [1, 1, 0.5] and recipe.data.path == str(shapes)
    assert recipe.budget is not None and recipe.budget.speedup == 6
    steps = {name: [chosen(s)[0] for s in chain] for name, chain in recipe.candidates.items()}
    assert steps == {
        "int8": ["quantize"],
        "mobilenet_v2": ["distill"],
        "shufflenet_v2_x1_0": ["distill"],
        "mobilenet_v3_large": ["distill"],
        "pruned": ["prune", "distill"],
        "pruned_int8": ["prune", "distill", "quantize"],
        "factorized": ["factorize", "distill"],
    }
    assert chosen(recipe.candidates["int8"][0])[1].max_drop_vs_float == 0.005
    distill = chosen(recipe.candidates["shufflenet_v2_x1_0"][0])[1]
    pretrained = chosen(recipe.candidates["mobilenet_v2"][0])[1]
    assert pretrained.weights == "torchvision:MobileNet_V2_Weights.IMAGENET1K_V2"
    assert distill.unlabelled and distill.train.epochs == 100 and distill.train.batch_size == 8


@settings(max_examples=20)
@given(
    methods=st.sets(st.sampled_from(list(METHODS)), min_size=1),
    speedup=st.floats(1, 100),
    name=st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20),
    unlabelled=st.integers(0, 10**6),
)
def test_every_choice_makes_a_recipe(
    tmp_path_factory: pytest.TempPathFactory,
    methods: set[str],
    speedup: float,
    name: str,
    unlabelled: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = folder / "images" / name
    images = Images(CLASSES, 100, unlabelled, None)
    spec = InputSpec(height=64, width=64, mean=(0.5,) * 3, std=(1.0,) * 3)
    answers = Answers(
        "timm:resnet50", "torchvision:x", name, data, images, spec, tuple(methods), speedup, 0.0,
    )  # fmt: skip
    for file, named in (("-a name?", "a_name_"), ("2026-11-30", "2026-11-30"), ("null", "null")):
        path = folder / f"{file}.yaml"
        path.write_text(recipe_for(answers, path), "utf-8")
        recipe = load_recipe(path)
        assert recipe.data.path == str(data.resolve())
        assert recipe.teacher.train_only == name and recipe.name == named


def test_every_line_that_is_likely_to_change_says_why(make: Init) -> None:
    text = make(methods=",".join(METHODS)).read_text("utf-8")
    keys = "seed device path fit weights image_size mean max_drop_vs_float student control loss "
    keys += "hard_weight views unlabelled epochs lr speedup time runtimes validation_fraction"
    for key in keys.split():
        lines = [line for line in text.splitlines() if line.strip(" -").startswith(f"{key}:")]
        assert lines and all(" # " in line for line in lines), key
    assert max(len(line) for line in text.splitlines() if '"' not in line) <= 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": None, "weights": None}, "no terminal to ask on: give --weights, --data"),
        ({"teacher": "resnet18"}, "torchvision.models:resnet18"),
        ({"teacher": "torchvision.models:resnet19"}, "Did you mean resnet1"),
        ({"teacher": "os:system"}, "is refused"),
        ({"teacher": "torchvision.models:resnet34"}, "do not fit the model: 80 missing"),
        ({"teacher": "nothing.onnx"}, "no file at nothing.onnx"),
        ({"weights": "nothing.pt"}, "--weights: no file at nothing.pt"),
        ({"data": "nothing"}, "No data at nothing"),
        ({"image_size": "4"}, "no whole number from 8 to 2048"),
        ({"image_size": "32x64x32"}, "nor two as HEIGHTxWIDTH"),
        ({"mean": "1,2"}, "give three numbers"),
        ({"mean": "0.5"}, "--mean has 1 and --std 3 numbers"),
        ({"mean": "0.5", "std": "0.2"}, "of a network for 3 channels"),
        ({"std": "1,0,1"}, "must be above zero"),
        (
            {"mean": "123,116,103", "std": "58,57,57"},
            "--mean and --std: mean [123.0, 116.0, 103.0]",
        ),
        ({"data": "~not a user/images"}, "No data at ~not a user/images"),
        ({"weights": "~not a user/x.pt"}, "--weights: no file at ~not a user/x.pt"),
        ({"methods": "prune,magic"}, "--methods: magic: choose of pretrained"),
        ({"speedup": "0.5"}, "is below 1"),
        ({"max_accuracy_drop": "2"}, "is more than all"),
        ({"max_accuracy_drop": "nan"}, "is no share: write 1%, or 0.01"),
        ({"speedup": "fast"}, "--speedup: 'fast' is no speedup: write 5x, or 5."),
    ],
)
def test_wrong_answers_are_refused(
    make: Init, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        make(**changes)
    assert said in str(caught.value)
    assert not (tmp_path / "mine.yaml").exists()


def test_nothing_is_overwritten_unasked(make: Init) -> None:
    path = make()
    path.write_text("mine")
    with pytest.raises(UserError, match="--force"):
        make()
    assert path.read_text() == "mine"
    make(force=True)
    assert load_recipe(path).name == "mine"


def test_of_two_state_dicts_init_says_which_fit(
    make: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = resnet18(num_classes=len(CLASSES)).state_dict()
    torch.save({"model": state, "model_ema": dict(state)}, tmp_path / "x.pth")
    make(weights=str(tmp_path / "x.pth"))
    said = capsys.readouterr().out
    assert "122 tensors, 3 classes: they fit; weights are those under 'model_ema', the" in said


def test_weights_of_other_classes(make: Init, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(resnet18(num_classes=10).state_dict(), other)
    with pytest.raises(UserError, match=r"Train fc anew on these 3 classes.*--retrain-last"):
        make(weights=str(other))
    with pytest.raises(UserError, match="weights of other classes"):
        make(weights=str(other), retrain_last=False)
    teacher = load_recipe(make(weights=str(other), retrain_last=True)).teacher
    assert teacher.train_only == "fc" and teacher.train is not None
    named = load_recipe(
        make("b.yaml", weights="torchvision:ResNet18_Weights.IMAGENET1K_V1", retrain_last=True)
    )
    assert named.teacher.train_only == "fc"
    save_file(resnet18(num_classes=3).state_dict(), other, {"classes": '["a", "b", "c"]'})
    with pytest.raises(UserError, match="3 only in the data"):
        make("c.yaml", weights=str(other))


@pytest.mark.parametrize(
    ("teacher", "size", "mean", "unsaid"),
    [
        ("timm:test_vit3.r160_in1k", 160, 0.5, ("crop_pct 0.95", "interpolation bicubic")),
        ("timm:test_resnet", 160, 0.5, ("crop_pct 0.95",)),
        ("timm:inception_v3.tf_in1k", 299, 0.5, ("crop_pct 0.875", "interpolation bicubic")),
        ("timm:resnet18.tv_in1k", 224, 0.485, ("crop_pct 0.875",)),
        ("timm:xcit_nano_12_p8_224", 224, 0.485, ("interpolation bicubic",)),
        ("torchvision.models:resnet18", 224, 0.485, ()),
    ],
)
def test_what_the_network_itself_says_of_its_images(
    teacher: str, size: int, mean: float, unsaid: tuple[str, ...]
) -> None:
    own = network_input(teacher, "a file", len(CLASSES), [])
    assert (own.size, own.mean[0], own.unsaid) == ((size, size), mean, unsaid)
    assert own.std == ((0.5,) * 3 if mean == 0.5 else (0.229, 0.224, 0.225))


def test_the_networks_own_mean_and_size_are_in_the_recipe(
    make: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, teacher = tmp_path / "vit.safetensors", "timm:test_vit3.r160_in1k"
    save_file(build(teacher, {}, len(CLASSES), ()).state_dict(), path)
    given = {"teacher": teacher, "weights": str(path), "methods": "quantize"}
    told = load_recipe(make(**given, image_size=None)).teacher
    assert told.builder == teacher and told.image_size == 160
    assert told.mean == told.std == [0.5, 0.5, 0.5]
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Teacher: made for crop_pct 0.95 and interpolation bicubic, which a recipe cannot express: "
        "images are scaled bilinearly, and their whole shorter side is seen."
    ) in said
    other = load_recipe(make("b.yaml", **given, image_size="160", mean="0.1,0.2,0.3")).teacher
    assert other.mean == [0.1, 0.2, 0.3] and other.std == [0.5, 0.5, 0.5]
    with pytest.raises(UserError, match="32 x 32: they are too small, it takes 160 x 160"):
        make("c.yaml", **given)


def test_torchvision_says_what_its_weights_were_trained_for() -> None:
    for weights, size, mean, unsaid in (
        ("ResNet18_Weights.IMAGENET1K_V1", 224, 0.485, ("crop_pct 0.875",)),
        ("ResNet50_Weights.IMAGENET1K_V2", 224, 0.485, ("crop_pct 0.966",)),
        # Transformed by the network itself, where torchvision loads these into it.
        ("GoogLeNet_Weights.IMAGENET1K_V1", 224, 0.5, ("crop_pct 0.875",)),
    ):
        builder = f"torchvision.models:{weights.partition('_')[0].lower()}"
        own = network_input(builder, f"torchvision:{weights}", 3, [])
        assert (own.size, own.mean[0], own.unsaid) == ((size, size), mean, unsaid)


def test_an_onnx_file(make: Init, onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(make(teacher=str(onnx_file), weights=None, image_size=None))
    assert recipe.teacher.onnx == str(onnx_file) and recipe.teacher.image_size == 32
    assert "3 outputs: they fit" in capsys.readouterr().out
    for changes, said in (
        ({"image_size": "64"}, "give --image-size 32"),
        ({"methods": "prune"}, "an ONNX file cannot be changed"),
        ({"weights": "x"}, "holds its own"),
    ):
        with pytest.raises(UserError, match=said):
            make("other.yaml", **({"teacher": str(onnx_file), "weights": None} | changes))


def test_inputs_that_are_no_rgb_squares(make: Init, tmp_path: Path, shapes: Path) -> None:
    grey = resnet18(num_classes=len(CLASSES))
    grey.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    save_file(grey.state_dict(), tmp_path / "grey.safetensors")
    given = {"mean": "0.5", "std": "0.2", "image_size": "32x48"}
    path = make(weights=str(tmp_path / "grey.safetensors"), methods="shufflenet", **given)
    recipe = load_recipe(path)
    assert recipe.teacher.input_spec("crop").shape == (1, 32, 48)
    student = chosen(recipe.candidates["shufflenet_v2_x1_0"][0])[1]
    assert student.image_size == [32, 48]

    spec = InputSpec(
        height=32, width=48, mean=(0.1, 0.2, 0.3), std=(1,) * 3, channels="bgr", classes=CLASSES
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 48, len(CLASSES)))
    file = tmp_path / "bgr.onnx"
    torch.onnx.export(
        model.eval(), (torch.zeros(1, *spec.shape),), file, dynamo=True, verbose=False
    )
    noted = onnx.load(file)
    onnx.helper.set_model_props(noted, {METADATA_KEY: spec.model_dump_json()})
    onnx.save(noted, file)
    recipe = load_recipe(make("b.yaml", teacher=str(file), weights=None, image_size=None))
    kept = {"height", "width", "channels", "mean", "std"}
    assert recipe.teacher.input_spec("crop").model_dump(include=kept) == spec.model_dump(
        include=kept
    )


def test_the_label_column_of_a_table(make: Init, tmp_path: Path, shapes: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(shapes, folder / "images")
    rows = [
        f"{file.relative_to(folder)},{number % 2},{file.parent.name}"
        for number, file in enumerate(sorted(folder.rglob("*/[bcd]*/*.png")))
    ]
    (folder / "train.csv").write_text("\n".join(["file,night,shape", *rows]))
    recipe = load_recipe(make(data=str(folder), label_column="shape"))
    assert recipe.data.label_column == "shape"
    with pytest.raises(UserError, match="form"):
        make("b.yaml", data=str(folder), label_column="form")
    with pytest.raises(UserError, match="has no table, of which 'shape' could be a column"):
        make("c.yaml", label_column="shape")


def test_a_network_that_cannot_be_pruned(make: Init, tmp_path: Path) -> None:
    from torchvision.models import shufflenet_v2_x0_5

    path = tmp_path / "shuffle.safetensors"
    save_file(shufflenet_v2_x0_5(num_classes=3).state_dict(), path)
    with pytest.raises(UserError, match="Distil into a narrower student"):
        make(teacher="torchvision.models:shufflenet_v2_x0_5", weights=str(path), methods="prune")


@given(st.integers(1, 10**7))
def test_schedules(images: int) -> None:
    schedule = Schedule.of(images)
    assert 8 <= schedule.batch_size <= 64 and 10 <= schedule.epochs <= 100
    assert schedule.batch_size == 8 or images // schedule.batch_size >= 16
    longer = Schedule.of(2 * images)
    assert longer.epochs <= schedule.epochs and longer.views <= schedule.views
    assert longer.batch_size >= schedule.batch_size
    assert 7e-4 <= float(schedule.lr()) <= 2e-3


def test_how_a_table_was_read_is_said(
    make: Init, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(shapes.glob("[bcd]*/*.png"))
    rows = [f"{i},{file.relative_to(shapes)},{file.parent.name}" for i, file in enumerate(files)]
    table = shapes / "who.csv"
    table.write_text("\n".join(["id,image,label", *rows]) + "\n")
    try:
        make(data=str(table))
    finally:
        table.unlink()
    assert "who.csv: images from the column 'image', labels from 'label'" in capsys.readouterr().out


def test_a_file_of_bytes_has_no_mean(
    make: Init, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
        node("ReduceMean", ["f"], ["y"], axes=[1, 2], keepdims=0),
    ]
    shape = {"x": (onnx.TensorProto.UINT8, ("n", 32, 32, 3))}
    given = save(tmp_path / "bytes.onnx", nodes, shape, {"y": (onnx.TensorProto.FLOAT, 2)})
    asked = {"teacher": str(given), "weights": None, "methods": "quantize", "image_size": None}
    written = make(**asked)
    assert "it takes bytes, and normalises them itself" in capsys.readouterr().out
    teacher = load_recipe(written).teacher
    assert teacher.image_size == 32 and not {"mean", "std"} & teacher.model_fields_set
    with pytest.raises(UserError, match="normalises them itself: remove --std"):
        make("other.yaml", **asked, std="1,1,1")


def test_what_is_said_of_images(shapes: Path) -> None:
    found = look_at_images(shapes)
    assert (found.judged, found.training) == (7, 36 - 7 + 6)
    assert "36 labelled of 3 classes (bar, cross, dot), 6 unlabelled" in found.describe()


def on_terminal(arguments: Sequence[object], typed: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Runs the command with a terminal on which each line is typed when a question ends in ': '."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "compress", "init", *map(str, arguments)],
        stdin=there, stdout=there, stderr=there, cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(there)
    shown, answers = b"", list(typed)
    while True:
        try:
            part = os.read(here, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        shown += part
        if answers and shown.rstrip(b"\x1b[0m").endswith((b": ", b"]: ")):
            os.write(here, answers.pop(0).encode() + b"\n")
    os.close(here)
    return process.wait(), shown.decode()


def test_questions_on_a_terminal(tmp_path: Path, shapes: Path, weights: Path) -> None:
    typed = [
        "resnet18",  # not understood: asked again
        "torchvision.models:resnet18", str(weights), str(shapes), "32", "", "", "quantize", "3", "",
    ]  # fmt: skip
    code, shown = on_terminal(["mine.yaml"], typed, tmp_path)
    assert code == 0, shown
    assert "torchvision.models:resnet18, timm:resnet18?" in " ".join(shown.split())
    assert "compress check mine.yaml" in shown
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert list(recipe.candidates) == ["int8"]
    assert recipe.budget is not None
    assert (recipe.budget.speedup, recipe.budget.max_accuracy_drop) == (3, 0.02)
    checked = subprocess.run(
        [sys.executable, "-m", "compress", "check", "mine.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "mine.yaml is right" in checked.stdout


@pytest.mark.parametrize(
    "noted", [{"class_to_idx": {"dot": 0, "ring": 1, "bar": 2}}, {"classes": "dot,ring,bar"}]
)
def test_weights_that_name_other_classes(
    make: Init, tmp_path: Path, noted: dict[str, object]
) -> None:
    state = resnet18(num_classes=len(CLASSES)).state_dict()
    torch.save({"model": state, **noted}, tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"1 only in the data \(cross\)"):
        make(weights=str(tmp_path / "net.pt"))


def test_classes_in_the_spec_of_weights(make: Init, tmp_path: Path) -> None:
    spec = InputSpec(height=32, width=32, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b", "c"))
    state = resnet18(num_classes=len(CLASSES)).state_dict()
    save_file(state, tmp_path / "net.safetensors", {"spec": spec.model_dump_json()})
    with pytest.raises(UserError, match="weights name other classes than the data"):
        make(weights=str(tmp_path / "net.safetensors"))


def test_what_weights_note_of_their_images(make: Init, tmp_path: Path) -> None:
    noted = {"height": 48, "width": 32, "mean": (0.5, 0.4, 0.3), "std": (0.3, 0.2, 0.1)}
    spec = InputSpec(**noted, channels="bgr", fit="stretch", classes=CLASSES)
    state = resnet18(num_classes=len(CLASSES)).state_dict()
    save_file(state, tmp_path / "net.safetensors", {"spec": spec.model_dump_json()})
    recipe = load_recipe(make(weights=str(tmp_path / "net.safetensors"), image_size=None))
    given = recipe.teacher.input_spec(recipe.data.image_fit, classes=CLASSES)
    assert given == spec

    save_file(state, tmp_path / "bytes.safetensors", {"mean": "123.675, 116.28, 103.53",
              "std": "58.395, 57.12, 57.375"})  # fmt: skip
    with pytest.raises(UserError, match="on the scale of bytes"):
        make("other.yaml", weights=str(tmp_path / "bytes.safetensors"))
