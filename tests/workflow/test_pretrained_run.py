"""Students that begin with weights, learn from other candidates, and from unlabelled images."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from compress.data.input_spec import InputSpec
from compress.measure.machine import machine
from compress.methods.distill.student import fresh_student
from compress.methods.distill.teacher_cache import CachedTeacher
from compress.models.candidate import Candidate
from compress.models.checkpoint import save_tensors
from compress.models.pretrained import Pretrained, begin_with
from compress.models.provenance import Provenance
from compress.recipe.load import load_recipe
from compress.tasks import task_of
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import run_stage
from compress.workflow.origins import origins_of
from compress.workflow.plan import Plan, files_of, in_order, make_plan
from compress.workflow.precision import Precisions, resolved
from compress.workflow.run import context_of
from compress.workflow.stages import step
from students.binary import binary_resnet18
from students.shufflenet import shufflenet_v2_x0_5
from tests.conftest import CLASSES, POINTS, tiny_recipe

MEAN, STD = [0.4, 0.4, 0.4], [0.2, 0.2, 0.2]


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """Weights of a ShuffleNetV2 of 1000 classes, as their file says for 40 px."""
    torch.manual_seed(7)
    path = tmp_path / "pretrained.safetensors"
    metadata = {"mean": "0.4,0.4,0.4", "std": "0.2,0.2,0.2", "size": 40}
    save_tensors(path, shufflenet_v2_x0_5().state_dict(), metadata)
    return path


def with_student(data: Path, **distill: Any) -> dict[str, Any]:
    recipe = tiny_recipe(data)
    recipe["teacher"]["train"]["epochs"] = 1
    settings = recipe["candidates"]["shufflenet_v2_x0_5"][0]["distill"]
    del settings["views"]
    settings |= {"control": False, "train": {"epochs": 1, "batch_size": 8}, **distill}
    return recipe


def planned(path: Path, out: Path, allowed: tuple[str, ...] = ()) -> tuple[Plan, Store, Any]:
    recipe = load_recipe(path, allowed=allowed)
    plan = make_plan(recipe, machine(), 1, allowed)
    store = Store(out / "runs/stages")
    progress = Progress(Console(quiet=True))
    context = context_of(recipe, out, machine(), 1, progress, allowed, files_of(recipe))
    return plan, store, context


def made(
    path: Path, out: Path, candidate: str, allowed: tuple[str, ...] = ()
) -> tuple[Candidate, Plan, Store]:
    """Run all that a candidate's network needs; return it."""
    plan, store, context = planned(path, out, allowed)
    end = next(entry.model for entry in plan.entries if entry.candidate == candidate)
    for stage in in_order([end]):
        context.progress.titles[stage.key] = stage.title
        run_stage(stage, store, context)
    return Candidate.load(store.folder(end), allowed), plan, store


def test_a_student_begins_with_the_weights_of_a_file_but_for_its_head(
    shapes: Path, body: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    recipe = with_student(shapes, weights=str(body), image_size=None)
    plan, store, context = planned(write_recipe(recipe), tmp_path)
    end = next(entry.model for entry in plan.entries if entry.role == "candidate")
    for stage in in_order([end]):
        context.progress.titles[stage.key] = stage.title
        if stage is not end:
            run_stage(stage, store, context)
    given = step._given(store.folders(end), tmp_path, context)
    _, settings = step._method(end)
    begun = fresh_student("distill", settings, given, "distil kd", context)

    wanted = shufflenet_v2_x0_5().state_dict() | _tensors(body)
    for name, tensor in begun.model.state_dict().items():
        if name.startswith("fc."):
            assert tensor.shape[0] == 3 and not torch.equal(tensor, wanted[name][:3])
        else:
            assert torch.equal(tensor, wanted[name]), name
    assert (begun.spec.size, begun.spec.mean, begun.spec.std) == ((40, 40), tuple(MEAN), tuple(STD))
    (report,) = begun.provenance.steps
    assert "fc.bias" in report.notes[0] and "fc.weight" in report.notes[0]

    run_stage(end, store, context)
    trained = Candidate.load(store.folder(end), ())
    assert trained.spec == begun.spec and trained.name.endswith("from pretrained.safetensors")
    assert not torch.equal(trained.model.conv1[0].weight, begun.model.conv1[0].weight)


def test_a_student_of_somebody_s_own_builder_begins_with_their_weights(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    from tests.input_networks import small

    file = tmp_path / "own.safetensors"
    save_tensors(file, small(7).state_dict(), {"mean": MEAN, "std": STD, "size": 32})
    student = {"student": "tests.input_networks:small", "student_settings": {}}
    recipe = with_student(shapes, weights=str(file), views=1, **student)
    found, _, _ = made(write_recipe(recipe), tmp_path, "shufflenet_v2_x0_5", ("tests",))
    assert found.name.endswith("from own.safetensors")


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from compress.models.checkpoint import load_tensors

    return load_tensors(path)[0]


@pytest.mark.parametrize("named", [False, True])
def test_a_head_that_fits_is_taken_only_where_the_weights_name_the_same_classes(
    shapes: Path, tmp_path: Path, named: bool
) -> None:
    torch.manual_seed(3)
    file = tmp_path / "mine.safetensors"
    classes = {"classes": ["bar", "cross", "dot"]} if named else {}
    own = {"mean": MEAN, "std": STD, "size": 32}
    save_tensors(file, shufflenet_v2_x0_5(num_classes=3).state_dict(), own | classes)
    found = Pretrained.read(str(file), "students.shufflenet:shufflenet_v2_x0_5", file)
    network = shufflenet_v2_x0_5(num_classes=3)
    fresh = network.fc.weight.detach().clone()
    spec = InputSpec(height=32, width=32, mean=tuple(MEAN), std=tuple(STD), classes=CLASSES)
    same = task_of(spec).same_outputs(found.metadata)
    begin_with(found, network, "students.shufflenet:shufflenet_v2_x0_5", [], Tensor, same)
    assert torch.equal(network.fc.weight, _tensors(file)["fc.weight"] if named else fresh)
    begun = network.fc.weight.detach().clone()
    said = begin_with(
        found, network, "students.shufflenet:shufflenet_v2_x0_5", ["fc"], Tensor, same
    )
    assert torch.equal(network.fc.weight, begun) and said[0].endswith("of the file are left out")
    other = spec.model_copy(update={"classes": CLASSES[::-1]})
    assert not task_of(other).same_outputs(found.metadata)


def test_where_the_weights_lie_is_not_part_of_the_key(
    shapes: Path, body: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    def key(weights: Path | None, **more: Any) -> str:
        given = {} if weights is None else {"weights": str(weights)}
        recipe = with_student(shapes, **given, **more)
        plan, _, _ = planned(write_recipe(recipe), tmp_path)
        return plan.entries[-1].model.key

    elsewhere = tmp_path / "elsewhere" / "w.safetensors"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(body.read_bytes())
    assert key(body) == key(elsewhere) != key(None)
    save_tensors(elsewhere, shufflenet_v2_x0_5().state_dict(), {"mean": MEAN, "std": STD})
    assert key(body) != key(elsewhere)


def test_a_binary_student_begins_with_the_weights_of_a_file_known_by_its_contents(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    def weights(path: Path) -> Path:
        network = binary_resnet18(num_classes=1000, width=0.125)
        save_tensors(path, network.state_dict(), {"mean": MEAN, "std": STD, "size": 32})
        return path

    def prepared(file: Path) -> tuple[Stage, Store, Any]:
        recipe = with_student(shapes)
        student = {
            "student": "students.binary:binary_resnet18",
            "student_settings": {"width": 0.125},
        }
        step = {**student, "image_size": 32, "views": 2, "control": False, "weights": str(file)}
        train = {"epochs": 1, "batch_size": 8}
        recipe["candidates"] = {"binary": [{"binarize": step | {"train": train}}]}
        recipe["measure"]["runtimes"] = ["onnxruntime", "openvino"]
        plan, store, context = planned(write_recipe(recipe), tmp_path)
        return plan.entries[-1].model.inputs["previous"], store, context

    one, other = weights(tmp_path / "one.safetensors"), tmp_path / "other.safetensors"
    other.write_bytes(one.read_bytes())
    stage, store, context = prepared(one)
    assert stage.kind == "prepare" and stage.key == prepared(other)[0].key
    for each in in_order([stage]):
        context.progress.titles[each.key] = each.title
        run_stage(each, store, context)
    assert Candidate.load(store.folder(stage), ()).name.endswith("from one.safetensors")
    weights(other)
    assert stage.key != prepared(other)[0].key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "missing.safetensors"}, "No weights at"),
        ({"student": "students.shufflenet:shufflenet_v2_x1_0"}, "do not fit"),
        ({"head": "classifier"}, "no module 'classifier'"),
        ({"mean": [120.0, 120.0, 120.0], "std": [50.0, 50.0, 50.0]}, "divide by 255"),
        ({"mean": MEAN}, "both mean and std"),
    ],
)
def test_weights_that_no_student_can_begin_with_are_refused_before_anything_runs(
    shapes: Path,
    body: Path,
    tmp_path: Path,
    write_recipe: Callable[..., Path],
    change: dict[str, Any],
    said: str,
) -> None:
    recipe = with_student(shapes, **{"weights": str(body), **change})
    with pytest.raises(UserError, match=said):
        planned(write_recipe(recipe), tmp_path)


def test_weights_without_mean_and_std_are_refused_unless_the_recipe_says_them(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    path = tmp_path / "bare.safetensors"
    save_tensors(path, shufflenet_v2_x0_5().state_dict(), {})
    builder = {"student": "teachers.vgg:vgg16_bn", "student_settings": {"pool": 1, "width": 0.1}}
    from teachers.vgg import vgg16_bn

    own = tmp_path / "vgg.safetensors"
    save_tensors(own, vgg16_bn(9, pool=1, width=0.1).state_dict(), {})
    with pytest.raises(UserError, match="give mean and std"):
        planned(write_recipe(with_student(shapes, weights=str(own), **builder)), tmp_path)
    said = {"mean": MEAN, "std": STD}
    planned(write_recipe(with_student(shapes, weights=str(own), **builder, **said)), tmp_path)
    # torchvision says what its own networks' weights were trained on.
    planned(write_recipe(with_student(shapes, weights=str(path))), tmp_path)


@pytest.mark.parametrize(
    "settings", [{"weights": "x.safetensors"}, {"head": "fc"}, {"mean": MEAN, "std": STD}]
)
def test_weights_are_for_a_student(
    shapes: Path, write_recipe: Callable[..., Path], settings: dict[str, Any]
) -> None:
    recipe = with_student(shapes)
    train = {"epochs": 1, "batch_size": 8}
    recipe["candidates"]["pruned"] = [
        {"prune": {"macs": 0.7}},
        {"distill": {"train": train, "control": False, **settings}},
    ]
    with pytest.raises(UserError, match="for a student"):
        load_recipe(write_recipe(recipe))


def chain(data: Path, teacher: str | list[str], **more: Any) -> dict[str, Any]:
    """A recipe with two students, and a third that learns from them."""
    recipe = with_student(data)
    first = recipe["candidates"]["shufflenet_v2_x0_5"]
    other = copy.deepcopy(first)
    other[0]["distill"]["train"]["lr"] = 5e-4
    third = copy.deepcopy(first)
    third[0]["distill"] |= {"teacher": teacher, **more}
    recipe["candidates"] = {"third": third, "first": first, "second": other}
    return recipe


def test_a_candidate_learns_from_the_mean_answer_of_others(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    path = write_recipe(chain(shapes, ["first", "second"], views=1))
    _, plan, store = made(path, tmp_path, "third")
    by_name = {entry.candidate: entry.model for entry in plan.entries}
    third = by_name["third"]
    cached = [third.inputs[role] for role in ("teacher_outputs", "teacher_outputs_1")]
    assert [stage.inputs["teacher"].key for stage in cached] == [
        by_name["first"].key,
        by_name["second"].key,
    ]
    from compress.methods.distill.teachers import Average
    from compress.methods.distill.unlabelled import _batch

    spec = Candidate.load(store.folder(by_name["first"]), ()).spec
    loaded = [CachedTeacher.load(store.folder(stage), spec) for stage in cached]
    batch = _batch(np.arange(5))
    both = [teacher(batch)["logits"].softmax(1) for teacher in loaded]
    found = Average(loaded, task_of(spec))(batch)["logits"].softmax(1)
    torch.testing.assert_close(found, (both[0] + both[1]) / 2)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize(
    ("views", "role"), [("cached", "teacher_outputs"), ("online", "taught_by")]
)
def test_the_recipes_teacher_may_be_one_of_several(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path], views: str, role: str
) -> None:
    path = write_recipe(chain(shapes, ["first", "teacher"], teacher_outputs=views))
    network, plan, _ = made(path, tmp_path, "third")
    by_name = {entry.candidate: entry.model for entry in plan.entries}
    teachers = [by_name["third"].inputs[name] for name in (role, f"{role}_1")]
    if views == "cached":
        teachers = [stage.inputs["teacher"] for stage in teachers]
    assert [stage.key for stage in teachers] == [by_name["first"].key, by_name["teacher"].key]
    assert network.provenance.training is not None
    recipe = load_recipe(path)
    precisions = Precisions(machine(), torch.device("cpu"), folders=[tmp_path])
    assert resolved(recipe, precisions).candidates.keys() == recipe.candidates.keys()
    assert len(origins_of(recipe, "third")) == len(set(origins_of(recipe, "third")))


def test_unlabelled_images_that_the_teacher_is_sure_of_take_part(
    shapes: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    sure = {"share": 0.25, "min_confidence": 0.0, "temperature": 0.5}
    path = write_recipe(chain(shapes, "first", unlabelled=sure, hard_weight=1.0))
    _, plan, store = made(path, tmp_path, "third")
    end = next(entry.model for entry in plan.entries if entry.candidate == "third")
    training = Provenance.load(store.folder(end)).training
    assert training is not None and training.unlabelled_images == 6
    facts = training.pseudo_labels
    assert facts is not None and (facts.kept, facts.of) == (6, 6)
    assert facts.validation_kept == facts.validation_of == 9
    assert facts.validation_right is not None

    most = write_recipe(chain(shapes, "first", unlabelled=sure | {"min_confidence": 1.0}))
    with pytest.raises(UserError, match="lower it"):
        made(most, tmp_path, "third")


@pytest.mark.parametrize(
    ("teacher", "said"),
    [("frist", "did you mean 'first'"), ("third", "learn from itself"), ("int8", "it is a file")],
)
def test_who_cannot_teach(
    shapes: Path, write_recipe: Callable[..., Path], teacher: str, said: str
) -> None:
    recipe = chain(shapes, teacher)
    recipe["candidates"]["int8"] = [{"quantize": {}}]
    with pytest.raises(UserError, match=said):
        load_recipe(write_recipe(recipe))


def test_a_student_of_points_begins_with_weights_of_classes(
    dots: Path, body: Path, tmp_path: Path, write_recipe: Callable[..., Path]
) -> None:
    recipe = with_student(dots / "points.csv", weights=str(body), image_size=None)
    recipe["data"]["points"] = POINTS
    plan, _, _ = planned(write_recipe(recipe), tmp_path)
    assert not plan.faults and not plan.impossible
