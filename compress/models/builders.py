"""Networks by name. A recipe is data from somebody: it may name builders under a few packages only.

A builder is a function `builder(num_classes=..., **settings) -> nn.Module`; of a network that
predicts points, `num_classes` is the number of its coordinates. It is named
`package.module:function`, or `package.function`. `timm:resnet18` goes through `timm.create_model`.
"""

import functools
import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from compress.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn

ALLOWED = ("teachers", "students", "torchvision.models", "timm")


def split_name(name: str, allowed: Sequence[str] = ()) -> tuple[str, str]:
    """Module and function of a builder's name, checked without importing anything.

    Raises:
        UserError: not a name of this form, or outside the allowed packages.
    """
    module, _, function = name.partition(":") if ":" in name else name.rpartition(".")
    if (
        not module
        or not function.isidentifier()
        or not all(map(str.isidentifier, module.split(".")))
    ):
        raise UserError(f"{name!r} is no builder name: write package.module:function.")
    prefixes = (*ALLOWED, *allowed)
    if not _below(module, prefixes):
        raise UserError(
            f"{name!r} is refused: builders may come from {', '.join(prefixes)}. If you trust it, "
            f"allow it with --allow-builders {module.split('.')[0]}."
        )
    return module, function


def _below(module: str, prefixes: Sequence[str]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


def resolve(name: str, allowed: Sequence[str] = ()) -> Callable[..., Any]:
    """The function that a name stands for.

    Raises:
        UserError: outside the allowed packages, no such module, no such function.
    """
    module_name, function = split_name(name, allowed)
    module = load_module(name, allowed)
    if module_name == "timm":
        return functools.partial(module.create_model, function)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        near = get_close_matches(function, known, 3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"{module_name} has no function {function!r}.{hint}")
    # What the module itself imported (os.system, say) is not its own to offer.
    if not _below(getattr(found, "__module__", ""), (*ALLOWED, *allowed)):
        raise UserError(f"{name!r} is refused: {function} is not defined below {module_name}.")
    return found  # type: ignore[no-any-return]


def load_module(name: str, allowed: Sequence[str] = ()) -> ModuleType:
    """Imports the module of a builder's name."""
    module_name, _ = split_name(name, allowed)
    if any(_below(module_name, [a]) for a in allowed) and str(Path.cwd()) not in sys.path:
        # The user's own package lies where they stand; last, or a folder of images called z3
        # would hide the package of that name from everybody else.
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name!r}: there is no module {error.name!r} here. Install the package it is in, or "
            "run from the folder that holds it."
        ) from error


def identity(name: str, allowed: Sequence[str] = ()) -> str:
    """What changes when the builder's code does: its file's hash, or its library's version.

    Raises:
        UserError: no such module.
    """
    module_name, _ = split_name(name, allowed)
    library = module_name.split(".")[0]
    if library in ("torchvision", "timm"):
        return f"{library} {_version(library)}"
    origin = load_module(name, allowed).__file__
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if origin else module_name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def build(
    name: str,
    settings: dict[str, Any],
    outputs: int,
    allowed: Sequence[str],
    image: tuple[int, int, int] | None = None,
) -> "nn.Module":
    """Calls a builder; makes what it built for RGB into a network for grey images.

    Args:
        outputs: the numbers that the network gives for an image.
        image: channels, height and width of its input; None: as it is built.

    Raises:
        UserError: settings that the builder does not take.
    """
    from torch import nn

    builder = resolve(name, allowed)
    if refused := settings.keys() & {"num_classes", "pretrained", "checkpoint_path"}:
        raise UserError(
            f"{name}: {', '.join(sorted(refused))} cannot be set: the data gives the classes, and "
            "weights come from teacher.weights."
        )
    try:
        model = builder(num_classes=outputs, **settings)
    except Exception as error:  # whatever somebody's builder raises
        raise UserError(f"{name} cannot be built with {settings}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{name} returned {type(model).__name__}, not a torch.nn.Module.")
    if image is not None and image[0] == 1:
        from compress.models.channels import for_one_channel

        return for_one_channel(model, image)
    return model
