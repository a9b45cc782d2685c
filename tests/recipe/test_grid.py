"""A list of values makes a candidate of each; faults point at the list as it was written."""

import re
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from compress.cli.schema import recipe_schema
from compress.recipe.grid import MAX_CANDIDATES, expand
from compress.recipe.load import load_recipe
from compress.recipe.schema import NAME
from compress.recipe.yaml_file import read_recipe_file
from compress.utils.errors import UserError

Write = Callable[..., Path]

RECIPE = """\
name: x
data: {path: .}
teacher: {builder: teachers.vgg:vgg16_bn, train: {epochs: 1}}
candidates:
"""
STUDENT = "student: students.shufflenet:shufflenet_v2_x0_5, image_size: 32"


@cache
def editor() -> Draft202012Validator:
    return Draft202012Validator(recipe_schema())


def marked(file: Path) -> list[str]:
    """Where an editor that knows the schema sees a fault."""
    found = editor().iter_errors(read_recipe_file(file).data)
    return [".".join(map(str, error.absolute_path)) for error in found]


def loaded(write: Write, candidates: str, *assignments: str) -> dict[str, Any]:
    """The settings of each candidate's only step."""
    file = write(RECIPE + candidates)
    recipe = load_recipe(file, assignments=assignments)
    assert not marked(file)
    return {name: steps[0].distill for name, steps in recipe.candidates.items()}


def faults(write: Write, candidates: str, *assignments: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        loaded(write, candidates, *assignments)
    return [line.rpartition("/")[2].strip() for line in str(caught.value).splitlines()[1:]]


def test_a_list_of_values_makes_a_candidate_of_each(write_recipe: Write) -> None:
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 3, lr: [1e-3, 2e-3]}}}}\n"
    found = loaded(write_recipe, text)
    assert {name: settings.train.lr for name, settings in found.items()} == {
        "a-lr-0.001": 1e-3,
        "a-lr-0.002": 2e-3,
    }
    assert all(settings.train.epochs == 3 for settings in found.values())


def test_two_lists_make_the_product_in_order(write_recipe: Write) -> None:
    text = f"""\
  first:
    - distill: {{{STUDENT}, train: {{epochs: 9}}}}
  a:
    - distill: {{{STUDENT}, control: [true, false], train: {{epochs: [1, 2]}}}}
  last:
    - distill: {{{STUDENT}, train: {{epochs: 9}}}}
"""
    found = loaded(write_recipe, text)
    assert [(name, s.control, s.train.epochs) for name, s in found.items()] == [
        ("first", True, 9),
        ("a-control-true-epochs-1", True, 1),
        ("a-control-true-epochs-2", True, 2),
        ("a-control-false-epochs-1", False, 1),
        ("a-control-false-epochs-2", False, 2),
        ("last", True, 9),
    ]


def test_assignments_come_before_the_expansion(write_recipe: Write) -> None:
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 3}}}}\n"
    at = "candidates.a.0.distill.train.epochs"
    assert list(loaded(write_recipe, text, f"{at}=[2, 4]")) == ["a-epochs-2", "a-epochs-4"]
    text = text.replace("epochs: 3", "epochs: [3, 4]")
    assert list(loaded(write_recipe, text, f"{at}.1=5")) == ["a-epochs-3", "a-epochs-5"]
    assert faults(write_recipe, text, f"{at}.1=0") == [
        f"--set: {at}: input should be greater than or equal to 1, not 0"
    ]


def test_values_of_all_kinds_make_names(write_recipe: Write) -> None:
    text = """\
  a:
    - distill:
        student: ["students.shufflenet:shufflenet_v2_x0_5"]
        image_size: [[32, 32]]
        hard_weight: [1e-9]
        train: {epochs: 1}
"""
    student = "students.shufflenet_shufflenet_v2_x0_5"
    name = f"a-student-{student}-image_size-1-hard_weight-1e-09"
    assert list(loaded(write_recipe, text)) == [name]


def test_mappings_are_named_by_their_name_or_else_by_position(write_recipe: Write) -> None:
    text = f"""\
  a:
    - distill: {{{STUDENT}, loss: [{{name: kd}}, {{name: dist}}], train: {{epochs: 1}}}}
  b:
    - distill: {{{STUDENT}, train: [{{epochs: 1}}, {{epochs: 2}}]}}
  c:
    - distill:
      - {{{STUDENT}, train: {{epochs: 1}}}}
      - {{{STUDENT}, train: {{epochs: 2}}}}
"""
    found = loaded(write_recipe, text)
    assert list(found) == [
        *("a-loss-kd", "a-loss-dist"),
        *("b-train-1", "b-train-2"),
        *("c-distill-1", "c-distill-2"),
    ]
    assert found["a-loss-dist"].loss.name == "dist"
    assert found["b-train-2"].train.epochs == found["c-distill-2"].train.epochs == 2


def test_a_list_within_a_value_varies_only_there(write_recipe: Write) -> None:
    loss = "[{name: dkd, beta: [1, 2]}, {name: kd}]"
    text = f"  a:\n    - distill: {{{STUDENT}, loss: {loss}, train: {{epochs: 1}}}}\n"
    found = loaded(write_recipe, text)
    assert list(found) == ["a-loss-dkd-beta-1", "a-loss-dkd-beta-2", "a-loss-kd"]
    assert [getattr(s.loss, "beta", None) for s in found.values()] == [1, 2, None]


def test_settings_that_are_lists_are_no_grids(write_recipe: Write) -> None:
    phases = "[{epochs: 1, image_size: 16}, {epochs: 1, image_size: 24}]"
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 3, progressive: {phases}}}}}\n"
    assert list(loaded(write_recipe, text)) == ["a"]
    settings = "student_settings: {widths: [1, 2], any: [[1], [2]]}"
    text = f"  a:\n    - distill: {{{STUDENT}, {settings}, train: {{epochs: 3}}}}\n"
    found = loaded(write_recipe, text)
    assert found["a"].student_settings == {"widths": [1, 2], "any": [[1], [2]]}


def test_for_settings_that_are_lists_a_grid_is_a_list_of_lists(write_recipe: Write) -> None:
    phases = "[[], [{epochs: 1, image_size: 16}]]"
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 3, progressive: {phases}}}}}\n"
    found = loaded(write_recipe, text)
    lengths = {name: len(settings.train.progressive) for name, settings in found.items()}
    assert lengths == {"a-progressive-1": 0, "a-progressive-2": 1}


def test_keys_with_the_same_last_name_are_told_apart(write_recipe: Write) -> None:
    phase = "{epochs: [1, 2], image_size: 16}"
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: [4], progressive: [{phase}]}}}}\n"
    assert list(loaded(write_recipe, text)) == [
        "a-train.epochs-4-0.epochs-1",
        "a-train.epochs-4-0.epochs-2",
    ]


def test_names_that_collide_are_a_fault(write_recipe: Write) -> None:
    text = f"""\
  a-epochs-1:
    - distill: {{{STUDENT}, train: {{epochs: 1}}}}
  a:
    - distill: {{{STUDENT}, train: {{epochs: [1, 2, 2, 2]}}}}
"""
    what = "two candidates would be named 'a-epochs-{}': change a name or a value"
    assert faults(write_recipe, text) == [
        f"tiny.yaml:7: candidates.a: {what.format(1)}",
        f"tiny.yaml:7: candidates.a: {what.format(2)}",
    ]


def test_too_many_candidates_are_a_fault_and_cost_nothing(write_recipe: Write) -> None:
    tens = ", ".join(f"{key}: [{', '.join(map(str, range(1, 11)))}]" for key in ("views", "top_k"))
    many = ", ".join(map(str, range(1, 11)))
    train = "epochs: [N], lr: [N], weight_decay: [N], warmup_epochs: [N], batch_size: [N]"
    text = f"  a:\n    - distill: {{{STUDENT}, {tens}, train: {{{train.replace('N', many)}}}}}\n"
    what = f"the lists of values make more than {MAX_CANDIDATES} candidates"
    assert f"tiny.yaml:4: candidates: {what}" in faults(write_recipe, text)

    each = ", ".join(map(str, range(1, 52)))
    half = f"    - distill: {{{STUDENT}, train: {{epochs: [{each}]}}}}\n"
    assert faults(write_recipe, f"  a:\n{half}  b:\n{half}") == [f"tiny.yaml:4: candidates: {what}"]


def test_faults_are_reported_once_where_they_were_written(write_recipe: Write) -> None:
    text = f"""\
  a:
    - distill:
        {STUDENT.replace(", ", chr(10) + "        ")}
        view: [1, 2]
        loss:
          - {{name: kd, beta: [1, 2]}}
          - {{name: dkd, alpha: -1}}
        hard_weight: []
        train:
          epochs: [1, 2]
          batch: 2
          lr:
            - 1e-3
            - -1
            - fast
"""
    at = "candidates.a.0.distill"
    assert faults(write_recipe, text) == [
        f"tiny.yaml:9: {at}.view: unknown key; did you mean 'views'?",
        f"tiny.yaml:11: {at}.loss.0.beta: unknown key",
        f"tiny.yaml:12: {at}.loss.1.alpha: input should be greater than or equal to 0, not -1",
        f"tiny.yaml:13: {at}.hard_weight: an empty list: give at least one value",
        f"tiny.yaml:16: {at}.train.batch: unknown key; did you mean 'batch_size'?",
        f"tiny.yaml:19: {at}.train.lr: input should be greater than 0, not -1",
        f"tiny.yaml:20: {at}.train.lr: input should be a valid number, not 'fast'",
    ]


def test_faults_of_a_whole_step_or_name_are_those_of_the_written_candidate(
    write_recipe: Write,
) -> None:
    text = f"""\
  a b:
    - distill: {{{STUDENT}, train: {{epochs: [1, 2]}}}}
  b:
    - distill: {{student: students.x:y, train: {{epochs: [1, 2]}}}}
  c:
    - distill: {{train: {{epochs: [1, 2]}}}}
  d:
    - distill: {{image_size: 32, student: ["os:system", "students.x:y"], train: {{epochs: 1}}}}
"""
    found = faults(write_recipe, text)
    assert len(found) == 4
    assert "tiny.yaml:5: candidates.a b: use letters, digits, _ . - for a" in found[0]
    assert found[1] == "tiny.yaml:8: candidates.b.0.distill: a student needs an image_size"
    assert found[2].startswith("tiny.yaml:9: candidates.c: distill has nothing to learn first")
    assert found[3].startswith("tiny.yaml:12: candidates.d.0.distill.student: 'os:system' is")


def test_lists_elsewhere_are_no_grids(write_recipe: Write) -> None:
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 3}}}}\n"
    found = faults(write_recipe, text, "teacher.views=[1, 2]", "seed=[]", "budget.speedup=[1]")
    assert len(found) == 4
    assert "--set: teacher.views: input should be a valid integer, not [1, 2]" in found
    assert "--set: seed: input should be a valid integer, not []" in found


def test_an_editor_still_marks_what_is_no_grid(write_recipe: Write) -> None:
    for epochs, lr in (("[1, few]", "1e-3"), ("[]", "1e-3"), ("1", "[[1e-3]]")):
        train = f"{{epochs: {epochs}, lr: {lr}}}"
        text = f"  a:\n    - distill: {{{STUDENT}, train: {train}}}\n"
        assert marked(write_recipe(RECIPE + text)) == ["candidates.a.0.distill"]
    elsewhere = RECIPE.replace("epochs: 1", "epochs: [1, 2]").replace("data:", "seed: [1]\ndata:")
    text = f"  a:\n    - distill: {{{STUDENT}, train: {{epochs: 1}}}}\n"
    assert sorted(marked(write_recipe(elsewhere + text))) == ["seed", "teacher.train"]


@pytest.mark.parametrize(
    "candidates",
    [
        *("  []", "  3", "  a: 3", "  a: [[]]", "  a: [3, [4]]", "  a: [distill: []]"),
        *("  1: [distill: {train: {epochs: [1, 2]}}]", "  a: [distill: [[], 3, {}]]"),
    ],
)
def test_what_is_no_candidate_is_a_fault(candidates: str, write_recipe: Write) -> None:
    assert faults(write_recipe, candidates)


def schema_at(at: tuple[str | int, ...]) -> list[dict[str, Any]]:
    """Every key takes a number."""
    return [{"type": "number"}]


NUMBERS = st.lists(st.integers(-99, 99) | st.floats(-9, 9), min_size=1, max_size=4, unique_by=str)
SETTINGS = st.dictionaries(st.sampled_from("abcdef"), NUMBERS | st.integers(), max_size=3)


@given(st.lists(st.fixed_dictionaries({"step": SETTINGS}), min_size=1, max_size=2))
def test_points_are_the_product_with_names_of_their_own(chain: list[dict[str, Any]]) -> None:
    data = {"candidates": {"x": chain}}
    before = deepcopy(data)
    grid = expand(data, schema_at)
    assert data == before
    lists = [v for step in chain for v in step["step"].values() if isinstance(v, list)]
    size = 1
    for values in lists:
        size *= len(values)
    if size > MAX_CANDIDATES:
        assert [at for at, _ in grid.faults] == [("candidates",)]
        return
    assert not grid.faults
    made = grid.data["candidates"]
    assert len(made) == size
    assert all(re.match(NAME, name) for name in made)
    assert len({str(steps) for steps in made.values()}) == size
    for name, steps in made.items():
        for i, step in enumerate(steps):
            for key, value in step["step"].items():
                written, where = grid.written(("candidates", name, i, "step", key))
                assert written == ("candidates", "x", i, "step", key)
                there: Any = data
                for k in where:
                    there = there[k]
                assert there is value
