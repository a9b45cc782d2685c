"""Builders as people write them: what the number of classes is called, and what they return."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.models.builders import CLASS_ARGUMENTS, build, class_argument, resolve, split_name
from compress.utils.errors import UserError

SOURCE = """
import functools
import warnings
import torch
from torch import nn

class Plain(nn.Linear):
    def __init__(self, num_classes, width=3):
        super().__init__(width, num_classes)

class Fixed(nn.Linear):
    def __init__(self):
        super().__init__(3, 4)

class OfNoArguments(nn.Linear):
    def __init__(self, in_features=3, classes=7):
        super().__init__(in_features, classes)

class Inherited(OfNoArguments):
    pass

def n_classes(n_classes=10, **settings):
    assert not settings
    return nn.Linear(3, n_classes)

def num_labels(*, num_labels): return nn.Linear(3, num_labels)
def nclass(nclass): return nn.Linear(3, nclass)
def out_features(out_features=5): return nn.Linear(3, out_features)
def n_class(n_class=10): return nn.Linear(3, n_class)
def class_num(class_num=10): return nn.Linear(3, class_num)
def output_dim(output_dim=10): return nn.Linear(3, output_dim)
def nc(nc=10): return nn.Linear(3, nc)
def cls_num(cls_num=10): return nn.Linear(3, cls_num)
def channels(nc=5, **settings): return nn.Linear(nc, settings["num_classes"])
def channels_too(nc=5, class_num=10): return nn.Linear(nc, class_num)
def num_outputs(num_outputs): return nn.Linear(3, num_outputs)
def both(classes=2, num_classes=3): return nn.Linear(classes, num_classes)
def any_settings(**settings): return nn.Linear(3, settings["num_classes"])
def backbone(out_features=5, **settings): return nn.Linear(out_features, settings["num_classes"])

@functools.wraps(num_labels)
def wrapped(*args, **settings): return num_labels(*args, **settings)

partial = functools.partial(Plain, width=8)

def unusual(k): return nn.Linear(3, k)
def default(k=7): return nn.Linear(3, k)
def failing(num_classes, width): raise ValueError(f"no width {width}")
def pair(num_classes): return nn.Linear(3, num_classes), None
def listed(num_classes): return [nn.Linear(3, num_classes)]
def nothing(num_classes): nn.Linear(3, num_classes)
def a_class(num_classes): return Plain
def scripted(num_classes): return torch.jit.script(nn.Linear(3, num_classes))
def traced(num_classes): return torch.jit.trace(nn.Linear(3, num_classes), torch.zeros(1, 3))
def warning(num_classes):
    warnings.warn("The default will change", FutureWarning)
    return nn.Linear(3, num_classes)
network = Fixed()
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Networks in a package of the user's, in the folder where they stand."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "builders_of_a_user.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield "builders_of_a_user"


@pytest.fixture
def make(package: str) -> Callable[..., nn.Module]:
    def run(name: str, outputs: int = 4, **settings: Any) -> nn.Module:
        return build(f"{package}:{name}", settings, outputs, [package])

    return run


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("Plain", 6),
        ("OfNoArguments", 6),
        ("Inherited", 6),
        ("n_classes", 6),
        ("num_labels", 6),
        ("nclass", 6),
        ("out_features", 6),
        ("num_outputs", 6),
        *((name, 6) for name in ("n_class", "class_num", "output_dim", "nc", "cls_num")),
        ("channels", 6),
        ("channels_too", 6),
        ("both", 6),
        ("any_settings", 6),
        ("backbone", 6),
        ("wrapped", 6),
        ("partial", 6),
        ("Fixed", 4),  # knows its classes: whether they fit is for the trial to say
        ("default", 7),
    ],
)
def test_the_number_of_classes_is_told_whatever_it_is_called(
    make: Callable[..., nn.Module], name: str, outputs: int
) -> None:
    assert make(name, 6).out_features == outputs  # type: ignore[union-attr]


@given(st.sampled_from(CLASS_ARGUMENTS), st.sets(st.sampled_from(["width", "depth", "k"])))
def test_any_name_of_the_classes(name: str, others: set[str]) -> None:
    taken = ", ".join(f"{other}=1" for other in (*others, name))
    assert class_argument(eval(f"lambda {taken}: None")) == name
    assert class_argument(eval(f"lambda {', '.join(others)}: None")) is None
    assert class_argument(eval(f"lambda {', '.join([*others, '**more'])}: None")) == "num_classes"


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("failing", {"width": 8}, r"cannot be built with \(num_classes=4, width=8\): no width 8"),
        ("Plain", {"depth": 2}, r"\(num_classes=4, depth=2\): .*unexpected keyword .*'depth'"),
        ("Fixed", {"depth": 2}, r"\(depth=2\): .*unexpected keyword argument 'depth'"),
        ("unusual", {}, r"with \(\): .* argument: 'k' A builder is told .* num_classes, n_classes"),
        ("n_classes", {"n_classes": 4}, "n_classes cannot be set: the data gives the classes"),
        ("n_classes", {"num_classes": 4}, "num_classes cannot be set"),
        ("pair", {}, "returned a tuple of Linear, NoneType, not a .*returns the network alone"),
        ("listed", {}, "returned a list of Linear, not a torch.nn.Module"),
        ("nothing", {}, "returned a NoneType, not a torch.nn.Module"),
        ("a_class", {}, "returned a type, not a torch.nn.Module"),
        ("scripted", {}, "returned a TorchScript module, whose layers cannot be changed"),
        ("traced", {}, "returned a TorchScript module"),
        ("network", {}, "is a network: name the function or the class that builds it"),
    ],
)
def test_builders_that_are_refused(
    make: Callable[..., nn.Module], name: str, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make(name, **settings)


def test_warnings_for_programmers_are_not_shown(make: Callable[..., nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(make("warning"), nn.Linear)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "test_vit3.r160_in1k"])
def test_timms_names(name: str) -> None:
    model = build(f"timm:{name}", {}, 5, ())
    assert model(torch.zeros(2, 3, 160, 160)).shape == (2, 5)
    assert split_name(f"timm:{name}") == ("timm", name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet18.a9", r"no network 'resnet18.a9': choose of resnet18, resnet18\.a1_in1k"),
        ("timm:resnet81", "timm has no network 'resnet81'. Did you mean resnet"),
        ("timm:hf-hub:timm/resnet18", "is no builder name"),
        ("timm:../x", "is no builder name"),
        ("timm:", "is no builder name"),
        ("torchvision.models:resnet18.a1", "is no builder name"),
    ],
)
def test_timms_names_that_are_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(name)


def test_what_a_file_of_code_is_called(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="allow it with --allow-builders mine"):
        split_name("mine.nets:big")
