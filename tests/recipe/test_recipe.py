"""A recipe's faults are all reported at once, with line, key path and a hint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.cascade.recipe import load_any
from compress.data.input_spec import BOX
from compress.data.keypoints import PointColumns
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe
from compress.utils.errors import UserError
from tests.conftest import POINTS, shipped_recipes, tiny_recipe

Write = Callable[..., Path]


def fault(path: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(path, **arguments)
    return str(caught.value)


def test_two_faults_are_reported_at_once_with_line_and_key_path(write_recipe: Write) -> None:
    text = fault(
        write_recipe(
            "name: x\n"
            "sed: 1\n"
            "data: {path: .}\n"
            "teacher:\n"
            "  builder: os:system\n"
            "  train: {epochs: 2, lr: '1e-3'}\n"
            "candidates:\n"
            "  a:\n"
            "    - distill: {student: students.x:y, image_size: 32, train: {epoch: 2}}\n"
        )
    )
    assert "5 faults" in text
    assert "tiny.yaml:2: sed: unknown key; did you mean 'seed'?" in text
    assert "tiny.yaml:5: teacher.builder: 'os:system' is refused" in text
    assert "tiny.yaml:6: teacher.train.lr: '1e-3' is text: write the number without quotes" in text
    assert "candidates.a.0.distill.train.epoch: unknown key; did you mean 'epochs'?" in text
    assert "tiny.yaml:9: candidates.a.0.distill.train.epochs: is missing" in text


def points_recipe(data: Path, **changes: Any) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["data"] |= {"points": POINTS}
    return recipe | changes


def test_points_bring_their_loss(write_recipe: Write, tmp_path: Path) -> None:
    recipe = points_recipe(tmp_path)
    train = {"train": {"epochs": 1}}
    recipe["candidates"]["vgg"] = [{"prune": {"ratio": 0.5}}, {"quantize": {"train": train}}]
    loaded = load_recipe(write_recipe(recipe)).candidates
    assert loaded["shufflenet_v2_x0_5"][0].distill.loss.name == "points"
    assert loaded["vgg"][1].quantize.train.loss.name == "points"
    del recipe["data"]["points"]
    recipe["data"]["box"] = ["x", "y", "width", "height"]
    assert load_recipe(write_recipe(recipe)).data.point_columns == PointColumns.of(BOX)
    del recipe["data"]["box"]
    assert load_recipe(write_recipe(recipe)).candidates["vgg"][1].quantize.train.loss.name == "kd"


def test_mirrors_as_new_classes_are_for_labels_alone(write_recipe: Write, shapes: Path) -> None:
    """A teacher knows each class once: so where int8 is trained for, too."""
    recipe = tiny_recipe(shapes)
    train = {"epochs": 1, "augmentation": {"mirror": "new_class"}}
    recipe["candidates"]["int8"] = [{"quantize": {"train": {"train": train}}}]
    recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]["train"] = train
    text = fault(write_recipe(recipe))
    for at in ("int8.0.quantize.train", "shufflenet_v2_x0_5.0.distill"):
        assert f"candidates.{at}.train.augmentation.mirror: new_class has twice" in text


def test_points_are_mirrored_but_are_no_other_class(write_recipe: Write, tmp_path: Path) -> None:
    recipe = points_recipe(tmp_path)
    recipe["teacher"]["train"]["augmentation"] = {"mirror": "new_class"}
    text = fault(write_recipe(recipe))
    assert "teacher.train.augmentation.mirror: new_class is for images that each have one" in text
    recipe["teacher"]["train"]["augmentation"] = {"mirror": "same"}
    assert load_recipe(write_recipe(recipe)).teacher.train.augmentation.mirror == "same"


def test_what_is_for_the_other_task_is_refused(write_recipe: Write, tmp_path: Path) -> None:
    recipe = points_recipe(tmp_path)
    recipe["teacher"]["train"] |= {"mixup": 0.2}
    distill = recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]
    distill |= {"loss": {"name": "kd"}}
    distill["train"] |= {"label_smoothing": 0.1}
    recipe["measure"] |= {"iou": 0.6}
    text = fault(write_recipe(recipe))
    at = "candidates.shufflenet_v2_x0_5.0.distill"
    assert "4 faults" in text
    assert f"{at}.loss: kd is not for keypoints: remove it, or choose points" in text
    assert f"{at}.train.label_smoothing: mixes classes" in text
    assert "teacher.train.mixup: mixes classes" in text
    assert "measure.iou: is for a box" in text

    recipe = tiny_recipe(tmp_path)
    recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]["loss"] = {"name": "points"}
    recipe["measure"]["tolerance"] = 0.2
    text = fault(write_recipe(recipe))
    assert (
        f"{at}.loss: points is not for classification: remove it, or choose kd, dkd, dist" in text
    )
    assert "measure.tolerance: is for points" in text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"points": {"red": ["red_x"]}}, "data.points.red: "),
        ({"points": {"a/b": ["x", "y"]}}, "data.points.a/b: "),
        ({"points": {}}, "data.points: "),
        ({"box": ["x", "y", "w"]}, "data.box: "),
        ({"points": {BOX[0]: ["x", "y"]}, "box": ["x", "y", "w", "h"]}, "are a box: give box"),
        ({"points": POINTS, "label_column": "whale"}, "label_column is for classes"),
        ({"points": {name: ["x", "y"] for name in BOX}}, "are a box: give box"),
    ],
)
def test_faults_of_points(
    data: dict[str, Any], expected: str, write_recipe: Write, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["data"] |= data
    assert expected in fault(write_recipe(recipe))


def test_a_box_and_points_are_asked_at_once(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["data"] |= {"points": POINTS, "box": ["x", "y", "w", "h"]}
    recipe["measure"] = {"tolerance": 0.2, "iou": 0.6}
    loaded = load_recipe(write_recipe(recipe))
    columns = loaded.data.point_columns
    assert (
        columns is not None and columns.names[:2] == BOX and set(columns.names[2:]) == set(POINTS)
    )
    assert columns.columns[:4] == ("x", "y", "w", "h") and len(columns.columns) == 4 + 2 * len(
        POINTS
    )
    assert loaded.measure.keypoint_tolerance == (0.2, 0.6)


def test_yaml_1_2_numbers_are_numbers(write_recipe: Write, tmp_path: Path) -> None:
    path = write_recipe(tiny_recipe(tmp_path))
    path.write_text(path.read_text().replace("batch_size: 8", "lr: 1e-3", 1))
    assert 1e-3 in {
        load_recipe(path).candidates["shufflenet_v2_x0_5"][0].distill.train.lr,
        load_recipe(path).teacher.train.lr,
    }


def test_duplicate_keys_are_a_fault(write_recipe: Write) -> None:
    text = fault(write_recipe("name: a\nseed: 1\nseed: 2\n"))
    assert "tiny.yaml:3: seed: is given twice (first on line 2)" in text


@pytest.mark.parametrize(
    "builder", ["os:system", "subprocess.run", "teachersx:f", "../evil:f", "teachers.vgg:a.b", ""]
)
def test_builders_outside_the_allowed_packages_are_refused(
    builder: str, write_recipe: Write, tmp_path: Path
) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["teacher"]["builder"] = builder
    assert "builder" in fault(write_recipe(recipe))


def test_user_packages_are_allowed_on_request(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["teacher"]["builder"] = "mine.nets:small"
    path = write_recipe(recipe)
    assert "--allow-builders mine" in fault(path)
    assert load_recipe(path, allowed=["mine"]).teacher.builder == "mine.nets:small"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "expected keys and values"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("", "expected keys and values"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: \0", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(text: str, expected: str, write_recipe: Write) -> None:
    assert expected in fault(write_recipe(text))


@pytest.mark.parametrize(
    "value", ["0b_", "9" * 5000, "!!int ''", "!!float x", "!!bool x", "!!timestamp x"]
)
def test_a_value_that_is_not_what_it_says_is_told_with_its_line(
    value: str, write_recipe: Write, tmp_path: Path
) -> None:
    said = fault(write_recipe(f"name: a\nseed: {value}\n"))
    assert "tiny.yaml:2: not valid YAML" in said and "cannot be read as" in said
    path = write_recipe(tiny_recipe(tmp_path))
    assert "the value is not valid YAML" in fault(path, assignments=[f"seed={value}"])


def test_dates_are_words(write_recipe: Write, tmp_path: Path) -> None:
    path = write_recipe(tiny_recipe(tmp_path))
    path.write_text(f"{path.read_text()}description: 2026-02-30\n")
    assert load_recipe(path).description == "2026-02-30"
    assert load_recipe(path, assignments=["description=2026-02-28"]).description == "2026-02-28"


@pytest.mark.parametrize(
    ("candidates", "assignment", "expected"),
    [
        ({1: [{"quantize": {}}]}, "candidates.a.0=1", "no candidate 'a'; there is 1"),
        ({1: [{"quantize": {}}]}, "candidates.1.0=3", "candidates.1: input should be a valid str"),
        (5, "candidates.a.0=1", "'a' is not there"),
        ({"a": [{"quantize": {}}]}, "candidates.a.²=1", "'²' is not there"),
        ({"a": [{"quantize": {}}]}, f"candidates.a.{'9' * 5000}=1", "is not there"),
        ({"a": [{"quantize": {}}]}, "seed.²=1", "'²' is not there"),
        ({"a": [{"quantize": {}}]}, f"description={'[' * 3000}", "nested too deeply"),
        ({"a": [{"quantize": {}}]}, "description=&a [*a]", "an alias within itself"),
    ],
)
def test_assignments_that_cannot_be(
    candidates: Any, assignment: str, expected: str, write_recipe: Write, tmp_path: Path
) -> None:
    path = write_recipe(tiny_recipe(tmp_path) | {"candidates": candidates})
    assert expected in fault(path, assignments=[assignment])


def test_aliases_of_aliases_are_refused(write_recipe: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "aliases" in fault(write_recipe("\n".join(lines)))


def test_set_and_data_take_the_recipes_place(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(Path("elsewhere"))
    recipe["data"] = {"builder": "teachers.synthetic_whales:heads", "validation_fraction": 0.3}
    path = write_recipe(recipe)
    step = "candidates.shufflenet_v2_x0_5.0.distill"
    loaded = load_recipe(path, tmp_path, ["seed=7", f"{step}.loss={{name: dkd, beta: 2}}"])
    assert loaded.seed == 7
    assert loaded.data.path == str(tmp_path.resolve())
    assert loaded.data.builder is None
    assert loaded.data.validation_fraction == 0.3
    assert loaded.candidates["shufflenet_v2_x0_5"][0].distill.loss.beta == 2
    assert "is not there" in fault(path, assignments=["candidates.shufflenet_v2_x0_5.4.x=1"])
    assert "key.path=value" in fault(path, assignments=["seed"])
    assert "--set: data.pth: unknown key" in fault(path, assignments=["data.pth=3"])
    assert "no candidate 'nope'" in fault(path, assignments=["candidates.nope.0.distill.views=1"])


def test_steps_that_would_throw_work_away_are_refused(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["candidates"]["shufflenet_v2_x0_5"] *= 2
    text = fault(write_recipe(recipe))
    assert "candidates.shufflenet_v2_x0_5: distill with a student must come first" in text


PRUNE: dict[str, Any] = {"prune": {"ratio": 0.5}}
FACTORIZE: dict[str, Any] = {"factorize": {"energy": 0.9}}
QUANTIZE: dict[str, Any] = {"quantize": {}}
RECOVER: dict[str, Any] = {"distill": {"train": {"epochs": 1}}}


@pytest.mark.parametrize(
    "chain",
    [
        [PRUNE],
        [PRUNE, RECOVER, FACTORIZE, RECOVER, QUANTIZE],
        [FACTORIZE, PRUNE, QUANTIZE],
        [QUANTIZE],
    ],
)
def test_sensible_orders(write_recipe: Write, tmp_path: Path, chain: list[Any]) -> None:
    recipe = tiny_recipe(tmp_path) | {"candidates": {"a": chain}}
    assert len(load_recipe(write_recipe(recipe)).candidates["a"]) == len(chain)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ([QUANTIZE, PRUNE], "prune cannot follow quantize: int8 is made of the finished float"),
        ([QUANTIZE, RECOVER], "distill cannot follow quantize"),
        ([RECOVER], "distill has nothing to learn first"),
        ([{"prune": {"ratio": 0.5, "speedup": 2}}], "exactly one of ratio, macs and speedup"),
        ([{"prune": {}}], "exactly one of ratio, macs and speedup: none is given"),
        ([{"prune": {"speedup": 0.5}}], "greater than or equal to 1"),
        ([{"factorize": {"energy": 0.9, "time": 0.5}}], "exactly one of energy, ratio and time"),
        ([{"factorize": {"energy": 1.5}}], "less than or equal to 1"),
        ([{"factorize": {"ratio": 0.5, "linear": "none", "conv": "none"}}], "nothing to factor"),
        ([{"quantize": {"ranges": "max"}}], "'minmax', 'percentile', 'entropy' or 'mse'"),
        ([PRUNE | QUANTIZE], "give one step in each list item"),
    ],
)
def test_chains_and_settings_that_make_no_sense(
    write_recipe: Write, tmp_path: Path, chain: list[Any], reason: str
) -> None:
    recipe = tiny_recipe(tmp_path) | {"candidates": {"a": chain}}
    text = fault(write_recipe(recipe))
    assert reason in text
    assert "1 fault:" in text


def test_candidates_that_cannot_be(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    chain = recipe["candidates"]["shufflenet_v2_x0_5"]
    recipe["candidates"] = {"a b": chain, "teacher": chain, "empty": []}
    text = fault(write_recipe(recipe))
    assert "3 faults" in text
    assert "candidates.a b: use letters" in text
    assert "candidates.teacher: is the teacher's own name" in text
    assert "candidates.empty: has no steps" in text


def test_contradictions_are_named(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["teacher"].pop("train")
    assert "a teacher must know something" in fault(write_recipe(recipe))
    recipe = tiny_recipe(tmp_path)
    recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]["train"]["head_only_epochs"] = 3
    assert "head_only_epochs must leave" in fault(write_recipe(recipe))
    recipe = tiny_recipe(tmp_path)
    recipe["name"] = "../../outside"
    assert "name" in fault(write_recipe(recipe))


@pytest.mark.parametrize("value", [".inf", ".nan", "0", "-1"])
def test_numbers_that_cannot_be_learned_with(
    value: str, write_recipe: Write, tmp_path: Path
) -> None:
    path = write_recipe(tiny_recipe(tmp_path))
    assert "teacher.train.lr" in fault(path, assignments=[f"teacher.train.lr={value}"])
    assert "teacher.std" in fault(path, assignments=[f"teacher.std=[1.0, 1.0, {value}]"])


def test_recipes_of_the_project_are_right() -> None:
    recipes = shipped_recipes()
    assert len(recipes) >= 3
    for path in recipes:
        assert all(recipe.candidates for recipe in load_any(path).of_networks)


def test_schema_knows_the_steps() -> None:
    assert "distill" in Recipe.model_json_schema()["$defs"]["Step"]["properties"]


def test_home_and_environment_variables_in_paths(
    write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STORE", str(tmp_path / "store"))
    recipe = tiny_recipe(tmp_path)
    recipe["data"]["path"] = "~/shapes"
    recipe["teacher"]["weights"] = "${STORE}/net.safetensors"
    loaded = load_recipe(write_recipe(recipe))
    assert loaded.data.path == str(tmp_path / "home" / "shapes")
    assert loaded.teacher.weights == str(tmp_path / "store" / "net.safetensors")
    recipe["teacher"] = {"onnx": "$STORE/net.onnx"}
    loaded = load_recipe(write_recipe(recipe), Path("~/others"))
    assert loaded.teacher.onnx == str(tmp_path / "store" / "net.onnx")
    assert loaded.data.path == str(tmp_path / "home" / "others")


def test_addresses_are_no_paths(write_recipe: Write, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["data"]["path"] = "s3://bucket/shapes"
    recipe["teacher"]["weights"] = "https://example.org/net.safetensors"
    text = fault(write_recipe(recipe))
    assert "2 faults" in text
    assert "data.path: s3://bucket/shapes is an address: download what is there first" in text
    assert "teacher.weights: https://example.org/net.safetensors is an address" in text
    assert "is an address" in fault(write_recipe(recipe), data=Path("https://example.org/a.zip"))
