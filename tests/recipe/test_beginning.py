"""A candidate may begin where another ends, as if that one's steps had been written out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.measure.machine import machine
from compress.recipe.beginning import MAX_LINKS
from compress.recipe.load import load_recipe
from compress.utils.errors import UserError
from compress.workflow.plan import Plan, make_plan
from tests.conftest import tiny_recipe

Write = Callable[..., Path]

RECIPE = """\
name: x
data: {path: .}
teacher: {builder: teachers.vgg:vgg16_bn, train: {epochs: 1}}
candidates:
"""
STUDENT = "student: students.shufflenet:shufflenet_v2_x0_5, image_size: 32"


def chains(write: Write, candidates: str, *assignments: str) -> dict[str, Any]:
    """Each candidate's steps as a recipe would say them, without defaults."""
    recipe = load_recipe(write(RECIPE + candidates), assignments=assignments)
    return {
        name: [step.model_dump(exclude_unset=True) for step in steps]
        for name, steps in recipe.candidates.items()
    }


def faults(write: Write, candidates: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        chains(write, candidates)
    return [line.rpartition("/")[2].strip() for line in str(caught.value).splitlines()[1:]]


def test_it_begins_with_the_others_steps_in_any_order(write_recipe: Write) -> None:
    text = """\
  third:
    - from: second
    - quantize: {}
  first:
    - prune: {ratio: 0.5}
  second:
    - from: first
    - factorize: {energy: 0.9}
    - distill: {train: {epochs: 2}}
"""
    found = chains(write_recipe, text)
    assert list(found) == ["third", "first", "second"]
    assert found["second"] == [
        {"prune": {"ratio": 0.5}},
        {"factorize": {"energy": 0.9}},
        {"distill": {"train": {"epochs": 2}}},
    ]
    assert found["third"] == [*found["second"], {"quantize": {}}]
    changed = chains(write_recipe, text, "candidates.first.0.prune.ratio=0.3")
    assert [steps[0]["prune"]["ratio"] for steps in changed.values()] == [0.3, 0.3, 0.3]
    other = chains(write_recipe, text, "candidates.third.0.from=first")
    assert other["third"] == [{"prune": {"ratio": 0.5}}, {"quantize": {}}]


def test_where_the_other_is_a_grid_it_is_one_too(write_recipe: Write) -> None:
    text = """\
  pruned:
    - prune: {ratio: [0.25, 0.5]}
  int8:
    - from: pruned
    - quantize: {ranges: [mse, minmax]}
"""
    found = chains(write_recipe, text)
    assert {name: (s[0]["prune"], s[1:]) for name, s in found.items()} == {
        "pruned-ratio-0.25": ({"ratio": 0.25}, []),
        "pruned-ratio-0.5": ({"ratio": 0.5}, []),
        **{
            f"int8-ratio-{ratio}-ranges-{how}": ({"ratio": ratio}, [{"quantize": {"ranges": how}}])
            for ratio in (0.25, 0.5)
            for how in ("mse", "minmax")
        },
    }


def planned(write: Write, data: Path, candidates: dict[str, Any]) -> Plan:
    recipe = tiny_recipe(data)
    return make_plan(load_recipe(write(recipe | {"candidates": candidates})), machine(), 1)


def test_its_stages_are_those_of_the_chain_written_out(write_recipe: Write, shapes: Path) -> None:
    [step] = tiny_recipe(shapes)["candidates"]["shufflenet_v2_x0_5"]
    alone = {"distill": step["distill"] | {"control": False}}
    quantize = {"quantize": {"bias_correction": True}}
    short = planned(write_recipe, shapes, {"a": [step], "b": [{"from": "a"}, quantize]})
    written_out = planned(write_recipe, shapes, {"a": [step], "b": [alone, quantize]})
    assert [stage.key for stage in short.stages] == [stage.key for stage in written_out.stages]
    assert short.key == written_out.key


def test_controls_of_the_others_steps_are_the_others(write_recipe: Write, shapes: Path) -> None:
    [step] = tiny_recipe(shapes)["candidates"]["shufflenet_v2_x0_5"]
    more: dict[str, Any] = {"distill": {"views": 2, "train": {"epochs": 1, "batch_size": 8}}}
    plan = planned(write_recipe, shapes, {"a": [step], "b": [{"from": "a"}, more]})
    controls = {entry.candidate for entry in plan.entries if entry.role == "control"}
    assert controls == {"a (no teacher)", "b (from scratch)"}


def test_what_is_impossible_is_told_where_it_was_written(write_recipe: Write, shapes: Path) -> None:
    student = {"student": "students.binary:binary_resnet18", "image_size": 32}
    lost: dict[str, Any] = {"distill": student | {"train": {"epochs": 1}}}
    ok: dict[str, Any] = {"prune": {"ratio": 0.5}}
    plan = planned(
        write_recipe, shapes, {"b": [{"from": "a"}, {"quantize": {}}], "a": [lost], "c": [ok]}
    )
    assert set(plan.impossible) == {"a", "b"}
    [fault] = plan.faults
    assert fault.startswith("candidates.a.0.distill: students.binary:binary_resnet18 has binary")


def test_every_fault_names_the_candidate_that_wrote_it(write_recipe: Write) -> None:
    text = f"""\
  student:
    - distill: {{{STUDENT}, train: {{epochs: 1}}}}
  un known:
    - from: studnet
    - distill: {{train: {{epoch: 1}}}}
  behind_unknown:
    - from: un known
    - quantize: {{}}
  one:
    - from: other
    - quantize: {{}}
  other:
    - from: one
    - prune: {{ratio: 0.5}}
  itself:
    - from: itself
    - prune: {{ratio: 0.5}}
  int8:
    - from: student
    - quantize: {{}}
  behind_int8:
    - from: int8
    - prune: {{ratio: 0.5}}
  the_same:
    - from: student
  second:
    - prune: {{ratio: 0.5}}
    - from: student
  beside:
    - from: student
      quantize: {{}}
  number:
    - from: 3
  lists:
    - from: [student, int8]
"""
    found = faults(write_recipe, text)
    alone = "from: NAME stands alone, in the first item of a candidate"
    last = "int8 is made of the finished float network; put quantize last"
    assert found == [
        "tiny.yaml:7: candidates.un known: use letters, digits, _ . - for a candidate's name",
        "tiny.yaml:8: candidates.un known.0.from: there is no candidate 'studnet'; did you mean "
        "'student'?",
        "tiny.yaml:9: candidates.un known.1.distill.train.epoch: unknown key; did you mean "
        "'epochs'?",
        "tiny.yaml:9: candidates.un known.1.distill.train.epochs: is missing",
        "tiny.yaml:14: candidates.one.0.from: one from other from one: write one of them out",
        "tiny.yaml:17: candidates.other.0.from: other from one from other: write one of them out",
        "tiny.yaml:20: candidates.itself.0.from: itself from itself: write one of them out",
        "tiny.yaml:26: candidates.behind_int8.0.from: int8 ends with quantize, after which nothing "
        f"follows: {last}",
        "tiny.yaml:29: candidates.the_same.0.from: the_same adds no step to student: add one, or "
        "remove the candidate",
        f"tiny.yaml:32: candidates.second.1: {alone}",
        f"tiny.yaml:34: candidates.beside.0: {alone}",
        "tiny.yaml:37: candidates.number.0.from: give the name of one candidate, not 3",
        "tiny.yaml:39: candidates.lists.0.from: give the name of one candidate, not ['student', "
        "'int8']",
    ]


def test_a_fault_in_the_others_steps_is_told_once(write_recipe: Write) -> None:
    text = """\
  a:
    - prune: {ratio: [0.5, 2]}
    - distill: {train: {epoch: 1}}
  b:
    - from: a
    - distill: {train: {epochs: 0}}
"""
    assert faults(write_recipe, text) == [
        "tiny.yaml:6: candidates.a.0.prune.ratio: input should be less than 1, not 2",
        "tiny.yaml:7: candidates.a.1.distill.train.epoch: unknown key; did you mean 'epochs'?",
        "tiny.yaml:7: candidates.a.1.distill.train.epochs: is missing",
        "tiny.yaml:10: candidates.b.1.distill.train.epochs: input should be greater than or equal "
        "to 1, not 0",
    ]


def test_endless_lines_are_refused(write_recipe: Write) -> None:
    links = [f"  c{i}: [from: c{i + 1}, prune: {{ratio: 0.5}}]\n" for i in range(MAX_LINKS + 1)]
    text = "".join(links) + f"  c{MAX_LINKS + 1}: [prune: {{ratio: 0.5}}]\n"
    what = f"more than {MAX_LINKS} candidates begin one from the other: write one out"
    assert faults(write_recipe, text) == [f"tiny.yaml:5: candidates.c0.0.from: {what}"]
