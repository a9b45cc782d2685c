"""A cascade's recipe from end to end on tiny real networks."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from compress.cascade.cascade import Cascade
from compress.cascade.recipe import load_any, load_cascade_recipe
from compress.cli import app
from compress.results.file import read
from compress.utils.errors import UserError
from teachers.whale_frames import frames
from tests.alone import run_script
from tests.cascade.test_bundle import without_times

pytestmark = pytest.mark.slow
FRAMES = {"individuals": 4, "pictures": 40, "width": 160, "height": 107}
CANONICAL = {"bonnet_tip": [0.8, 0.5], "blowhead": [0.26, 0.5]}


def network(data, size):
    """A recipe with a narrow teacher and an int8 candidate."""
    return {
        "version": 1,
        "seed": 0,
        "device": "cpu",
        "data": data,
        "teacher": {
            "builder": "teachers.vgg:vgg16_bn",
            "settings": {
                "width": 0.07, "pool": 1, "classifier_width": 16, "hidden_layers": 1, "dropout": 0.0
            },
            "image_size": size,
            "train": {"epochs": 2, "batch_size": 8, "lr": 0.002},
        },
        "candidates": {"int8": [{"quantize": {"max_drop_vs_float": 1.0}}]},
        "measure": {"processes": 1, "rounds": 5, "throughput_batch": 2, "throughput_rounds": 1},
    }  # fmt: skip


POINTS = {"bonnet_tip": ["bonnet_tip_x", "bonnet_tip_y"], "blowhead": ["blowhead_x", "blowhead_y"]}
RECIPES = {
    "find": network(
        {
            "builder": "teachers.whale_frames:frames",
            "settings": FRAMES,
            "box": ["x", "y", "width", "height"],
            "fit": "stretch",
        },
        32,
    ),
    "turn": network(
        {
            "builder": "teachers.whale_frames:synthetic_head_crops",
            "settings": FRAMES | {"size": 32},
            "points": POINTS,
        },
        32,
    ),
    "turn_at_once": network(
        {
            "builder": "teachers.whale_frames:frames",
            "settings": FRAMES,
            "points": POINTS,
            "fit": "stretch",
        },
        32,
    ),
    "name": network(
        {
            "builder": "teachers.whale_frames:synthetic_aligned_heads",
            "settings": FRAMES | {"size": 32},
        },
        32,
    )
    | {"saliency": {"images": 4, "methods": ["grad_cam"]}},
}
CASCADE = {
    "version": 1,
    "name": "tiny_pipeline",
    "data": {"path": "own", "licence": "CC0"},
    "stages": {
        "find": {"recipe": "find.yaml"},
        "turn": {"recipe": "turn.yaml", "crop": {"around": ["top_left", "bottom_right"]}},
        "turn_at_once": {"recipe": "turn_at_once.yaml"},
        "box": {"annotated": ["top_left", "bottom_right"]},
        "name": {"recipe": "name.yaml", "warp": CANONICAL},
    },
    "paths": [["find", "turn", "name"], ["turn_at_once", "name"], ["box", "turn", "name"]],
    "also_judge": {"others": "others"},
    "measure": {"processes": 1, "rounds": 5},
    "budget": {"speedup": 1.0, "max_accuracy_drop": 1.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipeline")
    for name, recipe in (RECIPES | {"pipeline": CASCADE}).items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    frames(root / "others", **FRAMES | {"pictures": 12})
    frames(root / "own", **FRAMES | {"seed": 1})  # of which the stages' recipes see none
    # A whale that nothing is trained on there: its name is the classifier's from other images.
    table = root / "own" / "train.csv"
    whale = table.read_text().splitlines()[1].split(",")[1]
    of_it = {line.split(",")[0] for line in table.read_text().splitlines() if whale in line}
    split = root / "own" / "split.csv"
    lines = [line.split(",") for line in split.read_text().splitlines()]
    kept = [f"{name},{'validation' if name in of_it else part}" for name, part in lines]
    split.write_text("\n".join(kept) + "\n")
    return root


@pytest.fixture(scope="module")
def done(folder):
    result = CliRunner().invoke(
        app, ["run", str(folder / "pipeline.yaml"), "--out", str(folder)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_front_is_measured_end_to_end(folder, done):
    rows = read(folder / "reports" / "tiny_pipeline").rows
    by_name = {(row.candidate, row.artifact.runtime): row for row in rows}
    teacher, served = by_name["teacher", "onnxruntime"], by_name["teacher", "torch"]
    assert teacher.role == served.role == "teacher"
    assert "turn_at_once + name: teacher" in {row.candidate for row in rows}
    members = [row for row in rows if row.role == "candidate"]
    assert members
    for row in members:
        assert row.speedup.against == "teacher" and row.speedup_as_served is not None
        assert row.accuracy.top1_drop is not None
        assert row.accuracy.images == teacher.accuracy.images == len(row.accuracy.correct)
        assert set(row.pipeline.networks.values()) <= {"teacher", "int8"}
        # The whole takes at least its parts' files, and time that is no network's.
        assert row.artifact.size_bytes > 0 and row.artifact.macs > 0
        assert sum(row.pipeline.verdict.parts_s.values()) > 0
        assert row.saliency.images == 4 and set(row.saliency.looks) == {"grad_cam"}
    predicted = [row for row in rows if row.pipeline.predicted_s is not None]
    assert predicted
    # Images of each stage and of the whole, once each.
    images = {origin.what: origin.licence for origin in members[-1].origins}
    assert len(images) == len(members[-1].origins) > 1 and images["images: own"] == "CC0"
    smallest = min(members, key=lambda row: row.artifact.size_bytes)
    assert smallest.artifact.size_bytes < teacher.artifact.size_bytes
    assert (folder / "reports" / "tiny_pipeline" / "report.html").is_file()


def test_annotations_in_the_place_of_a_stage_say_what_a_perfect_one_is_worth(
    folder, done, monkeypatch
):
    monkeypatch.chdir(folder)
    rows = {row.candidate: row for row in read(folder / "reports" / "tiny_pipeline").rows}
    told = rows["box + turn + name: teacher"]
    assert told.dropped.startswith("It shows what a perfect stage would be worth: top_left")
    assert told.pipeline.networks == {"turn": "teacher", "name": "teacher"}
    verdict, own = told.pipeline.verdict, rows["teacher"].pipeline.verdict
    assert verdict.mean_iou is None and verdict.centres_inside is None  # it found no box
    assert own.mean_iou is not None and verdict.median_distance is not None
    assert told.accuracy.top1_drop is not None and told.latency[0].median_s > 0

    arguments = ["choose", "reports/tiny_pipeline", "--max-accuracy-drop", "1", "--explain"]
    chosen = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert "box + turn + name: teacher in onnxruntime: dropped" in " ".join(chosen.output.split())
    place = folder / told.artifact.path
    photograph = next((folder / "others" / "imgs").glob("*.jpg"))
    arguments = ["predict", "--pipeline", str(place), str(photograph)]
    refused = CliRunner().invoke(app, arguments)
    assert "This cascade finds no bottom_right, top_left" in str(refused.exception)
    arguments = ["eval", str(place), "--data", str(folder / "others")]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0


def test_a_member_is_a_folder_that_runs_by_itself(folder, done):
    row = read(folder / "reports" / "tiny_pipeline").rows[0]
    cascade = Cascade.load(folder / row.artifact.path, threads=1)
    frames = sorted(folder.glob("runs/stages/data-*/**/imgs/*.jpg"))
    found = cascade.find(frames[0].read_bytes())
    assert len(found.probabilities) == 4
    assert set(found.points) == {"top_left", "bottom_right", "bonnet_tip", "blowhead"}
    # What training images say of large ones; the first looks at whole photographs.
    first, *others = [network.stage.least_photograph_px for network in cascade.networks]
    assert first is None and all(least and least > 32 for least in others)


def test_what_is_chosen_runs_alone_and_names_as_compress_does(folder, done, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    ready, frames = tmp_path / "ready", sorted((folder / "others" / "imgs").glob("*.jpg"))
    arguments = ["choose", "reports/tiny_pipeline", "--max-accuracy-drop", "1", "--speedup", "0.01"]
    chosen = CliRunner().invoke(app, [*arguments, "--export", str(ready)], catch_exceptions=False)
    assert chosen.exit_code == 0, chosen.output
    alone = run_script(ready, "onnxruntime", *frames)
    assert (alone.returncode, alone.stderr) == (0, "")
    arguments = ["predict", "--pipeline", str(ready), *map(str, frames)]
    here = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert without_times(alone.stdout) == without_times(here)
    assert len(without_times(here)) > 5 * len(frames)


def test_a_teacher_that_is_a_file_is_served_from_nowhere_else(folder, done):
    """It was told to measure in torch, where a file cannot run."""
    row = next(
        row
        for row in read(folder / "reports" / "tiny_pipeline").rows
        if row.candidate == "teacher" and row.artifact.runtime == "onnxruntime"
    )
    spec = json.loads((folder / row.artifact.path / "pipeline.json").read_text())
    model = (folder / row.artifact.path / spec["stages"][-1]["model"]).resolve()
    given = {key: value for key, value in RECIPES["name"].items() if key != "teacher"}
    given["teacher"] = {"onnx": str(model), "image_size": 32}
    (folder / "name_given.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    stages = CASCADE["stages"] | {"name": {"recipe": "name_given.yaml", "warp": CANONICAL}}
    recipe = CASCADE | {"name": "given", "stages": stages}
    (folder / "given.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    result = CliRunner().invoke(
        app, ["run", str(folder / "given.yaml"), "--out", str(folder)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    rows = read(folder / "reports" / "given").rows
    assert {row.artifact.runtime for row in rows} == {"onnxruntime"}
    assert all(row.speedup_as_served is None for row in rows)
    [same] = [x for x in rows if x.candidate == "teacher"]
    assert same.accuracy.answers == row.accuracy.answers


def test_a_second_run_re_uses_everything(folder, done):
    before = json.loads((folder / "reports/tiny_pipeline/results.jsonl").read_text().split("\n")[0])
    arguments = ["run", str(folder / "pipeline.yaml"), "--out", str(folder)]
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert again.exit_code == 0
    assert "running" not in again.output
    after = json.loads((folder / "reports/tiny_pipeline/results.jsonl").read_text().split("\n")[0])
    assert after["latency"] == before["latency"]
    assert after["pipeline"] == before["pipeline"]  # with the seconds of every photograph


def test_further_photographs_are_judged_again_when_they_change(folder, done):
    rows = read(folder / "reports" / "tiny_pipeline").rows
    stages = set(folder.glob("runs/stages/*"))
    table = folder / "others" / "train.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    arguments = ["run", str(folder / "pipeline.yaml"), "--out", str(folder)]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    made = set(folder.glob("runs/stages/*")) - stages
    assert made and all(path.name.startswith("cascade_further-") for path in made)
    again = read(folder / "reports" / "tiny_pipeline").rows
    for before, after in zip(rows, again, strict=True):
        assert len(before.pipeline.listed["others"]) == 12
        assert len(after.pipeline.listed["others"]) == 11
        assert all(photograph.rank is not None for photograph in after.pipeline.listed["others"])
        assert after.latency == before.latency


def test_a_cascades_recipe_is_checked_with_those_of_its_stages(folder):
    arguments = ["check", str(folder / "pipeline.yaml")]
    checked = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert "find:\n" in checked and "name:\n" in checked and "pipeline.yaml is right: " in checked
    with pytest.raises(UserError, match="--data is for the recipe of one network"):
        load_any(folder / "pipeline.yaml", folder)


def test_what_is_asked_is_shown_without_doing_it(folder):
    arguments = ["run", str(folder / "pipeline.yaml"), "--dry-run", "--out", str(folder / "new")]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert "Then the pipelines" in shown and "to do" in shown
    assert not (folder / "new" / "runs").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paths": [["find", "name"], ["nobody"]]}, "paths names 'nobody'"),
        ({"paths": [["find", "turn", "name"]]}, "no path goes through 'turn_at_once'"),
        ({"paths": [["name", "name"]]}, "goes through each stage once"),
        ({"measure": {"runtimes": ["onnxruntime", "openvino"]}}, "one runtime"),
        ({"paths": [["box", "turn", "name"], ["find", "turn_at_once"]]}, "put one of networks"),
        ({"paths": [["find", "turn", "name"], ["turn_at_once", "box"]]}, "before all networks"),
        ({"paths": [["find", "turn", "name"], ["box"]]}, "nothing in this path is a network"),
        ({"stages": CASCADE["stages"] | {"box": {}}}, "give a recipe, or the names"),
        (
            {"stages": CASCADE["stages"] | {"box": {"annotated": ["nose"], "turns": 2}}},
            "annotated points are not looked for",
        ),
    ],
)
def test_faults_of_a_cascades_recipe_are_said(folder, tmp_path, change, said):
    for file in folder.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(CASCADE | change, sort_keys=False))
    assert not load_any(tmp_path / "find.yaml").stages
    with pytest.raises(UserError, match=said):
        load_cascade_recipe(tmp_path / "bad.yaml")


def test_a_stage_for_another_task_is_refused_before_it_is_trained(folder, tmp_path):
    for file in folder.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    data = {k: x for k, x in RECIPES["name"]["data"].items() if k not in ("points", "box")}
    changed = RECIPES["name"] | {"data": data | {"task": {"multilabel": {}}}}
    (tmp_path / "name.yaml").write_text(yaml.safe_dump(changed))
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(CASCADE, sort_keys=False))
    with pytest.raises(UserError, match="is for multilabel; a cascade is of networks that find"):
        load_cascade_recipe(tmp_path / "bad.yaml")


def test_faults_of_all_files_are_said_at_once(folder, tmp_path):
    for file in folder.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    stages = CASCADE["stages"] | {"find": {"recipe": "nowhere.yaml"}}
    (tmp_path / "turn.yaml").write_text(yaml.safe_dump(RECIPES["turn"] | {"teachers": 1}))
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(CASCADE | {"stages": stages}))
    with pytest.raises(UserError) as caught:
        load_cascade_recipe(tmp_path / "bad.yaml")
    assert "nowhere.yaml" in str(caught.value)
    assert "unknown key" in str(caught.value)


FAULTY = """\
sed: 1
data:
  builder: os:system
  pth: frames
stages:
  find: {recpie: find.yaml}
  turn:
    recipe: turn.yaml
    crop: {around: [top_left, bottom_right], margin: '0.5'}
  name: {recipe: name.yaml, warp: {blowhead: [0.5, 0.5]}}
  n/ame: {recipe: nowhere.yaml}
paths: [[find, turn, name]]
"""


def faults(path, *assignments):
    """Each without the folder and the file's suffix, as "pipeline:1: key: what"."""
    with pytest.raises(UserError) as caught:
        load_cascade_recipe(path, assignments)
    title, *lines = str(caught.value).splitlines()
    own = [line for line in lines if not line.startswith("    ")]
    assert f" has {len(own)} fault" in title
    return [line.strip().replace(f"{path.parent}/", "").replace(".yaml:", ":") for line in lines]


def test_faults_are_told_as_those_of_other_recipes(tmp_path):
    (tmp_path / "pipeline.yaml").write_text(FAULTY)
    turn = {"seed": "1"} | {k: v for k, v in RECIPES["turn"].items() if k != "seed"}
    (tmp_path / "turn.yaml").write_text(yaml.safe_dump(turn, sort_keys=False))
    (tmp_path / "name.yaml").write_text(yaml.safe_dump(RECIPES["name"]))
    found = faults(tmp_path / "pipeline.yaml", "stages.turn.turns=17")
    refused = found.pop(2)
    assert refused.startswith("pipeline:3: data.builder: 'os:system' is refused: builders may")
    assert found == [
        "--set: stages.turn.turns: input should be less than or equal to 16, not 17",
        "pipeline:1: sed: unknown key; did you mean 'seed'?",
        "pipeline:4: data.pth: unknown key; did you mean 'path'?",
        "pipeline:6: stages.find.recpie: unknown key; did you mean 'recipe'?",
        "pipeline:8: stages.turn.recipe: turn.yaml has 1 fault:",
        "turn:1: seed: '1' is text: write the number without quotes",
        "pipeline:9: stages.turn.crop.margin: '0.5' is text: write the number without quotes",
        "pipeline:10: stages.name.warp: name two points and two different places for them",
        "pipeline:11: stages.n/ame: 'n/ame': use letters, digits, _ . -",
        "pipeline:11: stages.n/ame.recipe: No recipe at nowhere.yaml.",
    ]


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("seed=[0, 1]", "seed: input should be a valid integer, not [0, 1]"),
        ("seed=[]", "seed: input should be a valid integer, not []"),
        ("stages.turn.turns=[1, 4]", "stages.turn.turns: input should be a valid integer, not "),
        ("stages.turn.recipe=[a.yaml, b.yaml]", "stages.turn.recipe: input should be a valid stri"),
        ("stages.turn.crop=[{around: [a]}]", "stages.turn.crop: expected keys and values, not "),
        ("budget.speedup=[2, 4]", "budget.speedup: input should be a valid number, not [2, 4]"),
        ("candidates={a: [prune: {speedup: [2, 4]}]}", "candidates: unknown key"),
        ("data.builder=teachers", "data.builder: 'teachers' is no builder name: write package.mod"),
        ("data.builder=os:system", "data.builder: 'os:system' is refused: builders may come from"),
        ("data.points={a: [x, y]}", "data.points: is for the recipe of one network; a cascade is"),
        ("data.box=[x, y, width, height]", "data.box: is for the recipe of one network; a cascad"),
        ("data.fit=stretch", "data.fit: is for the recipe of one network; each stage's own recipe"),
        ("measure.throughput_batch=8", "measure.throughput_batch: is for the recipe of one netw"),
        ("also_judge.a=https://x.org/y", "also_judge.a: https://x.org/y is an address: download"),
        ("measure.iou=0.5", "measure.iou: is for the recipe of one network; the stages' own"),
        (
            "paths=[[find, turn, name], [turn_at_once, nam], [box, turn, name]]",
            "paths.1.1: paths names 'nam', which",
        ),
    ],
)
def test_what_a_cascade_cannot_use_is_refused(folder, assignment, said):
    found = faults(folder / "pipeline.yaml", assignment)
    assert len(found) == 1 and found[0].startswith(f"--set: {said}")


def test_a_cascade_without_a_name_is_called_like_its_file(folder, tmp_path):
    for file in folder.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    nameless = {key: value for key, value in CASCADE.items() if key != "name"}
    (tmp_path / "my whales.yaml").write_text(yaml.safe_dump(nameless))
    assert load_cascade_recipe(tmp_path / "my whales.yaml")[0].name == "my_whales"


def test_data_of_one_network_is_not_a_cascades(folder):
    arguments = ["run", str(folder / "pipeline.yaml"), "--data", str(folder)]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UserError)
    assert "--data is for the recipe of one network" in str(refused.exception)


def test_the_folder_of_a_way_is_relative_to_the_output(folder, done):
    for row in read(folder / "reports" / "tiny_pipeline").rows:
        assert not Path(row.artifact.path).is_absolute()
        assert (folder / row.artifact.path / "pipeline.json").is_file()
