"""Networks by name. A recipe is data from somebody: it may name builders under a few packages only.

A builder is a function or class `builder(num_classes=..., **settings) -> nn.Module`; of a network
that predicts points, `num_classes` is the number of its coordinates. The argument may be called
otherwise (CLASS_ARGUMENTS), and a network that knows its classes may take none. A builder is named
`package.module:function`, or `package.function`. `timm:resnet18` goes through `timm.create_model`,
with timm's tag or without (`timm:resnet18.a1_in1k`).
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from compress.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

OWN = ("teachers", "students")
# Where they lie in a wheel (setup.py): out of the way of others' packages of these names. In a
# checkout they stand at its top.
OWN_FOLDER = Path(__file__).parents[1] / "networks"
ALLOWED = (*OWN, "torchvision.models", "timm")
# What the number of classes is called, the likeliest first where a builder takes several.
CLASS_ARGUMENTS = (
    "num_classes",
    "n_classes",
    "nclasses",
    "nclass",
    "num_class",
    "n_class",
    "class_num",
    "cls_num",
    "num_labels",
    "n_labels",
    "classes",
    "num_outputs",
    "n_outputs",
    "out_features",
    "output_dim",
    "nc",  # last: elsewhere it counts channels
)
NEVER_SET = {"num_classes", "pretrained", "checkpoint_path"}


def split_name(name: str, allowed: Sequence[str] = ()) -> tuple[str, str]:
    """Module and function of a builder's name, checked without importing anything.

    Raises:
        UserError: not a name of this form, or outside the allowed packages.
    """
    module, function = _apart(name)
    of_timm = name.startswith("timm:") and re.fullmatch(r"\w[\w.-]*", function) is not None
    if (
        not module
        or not (function.isidentifier() or of_timm)
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


def _apart(name: str) -> tuple[str, str]:
    module, _, function = name.partition(":") if ":" in name else name.rpartition(".")
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
        _check_timm(module, function)
        return functools.partial(module.create_model, function)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        near = get_close_matches(function, known, 3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"{module_name} has no function {function!r}.{hint}")
    # What the module itself imported (os.system, say) is not its own to offer.
    own = found.func if isinstance(found, functools.partial) else found
    if not _below(getattr(own, "__module__", ""), (*ALLOWED, *allowed)):
        raise UserError(f"{name!r} is refused: {function} is not defined below {module_name}.")
    return found  # type: ignore[no-any-return]


def _check_timm(timm: ModuleType, name: str) -> None:
    """Refuse what timm has no network of, or not with this tag.

    Raises:
        UserError: names what is near.
    """
    network = name.partition(".")[0]
    if not timm.is_model(network):
        near = get_close_matches(network, timm.list_models(), 3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"timm has no network {network!r}.{hint}")
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{network}.*")
        known = f"choose of {', '.join([network, *tags])}" if tags else f"write {network}"
        raise UserError(f"timm has no network {name!r}: {known}.") from error


def load_module(name: str, allowed: Sequence[str] = ()) -> ModuleType:
    """Imports the module of a builder's name.

    Raises:
        UserError: there is no such module, or another package took its name.
    """
    module_name, _ = split_name(name, allowed)
    if _below(module_name, OWN) and OWN_FOLDER.is_dir():
        _put_first(module_name.split(".")[0])
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


def weight_conversion(name: str) -> "Callable[..., dict[str, Tensor]] | None":
    """Return what a builder's module has to make other weights fit, where it has something.

    That is `prepare_weights(network, tensors, images)`. A network was built before, so that the
    module is there, and was allowed.
    """
    return getattr(sys.modules.get(_apart(name)[0]), "prepare_weights", None)


def _put_first(package: str) -> None:
    """Let a package of a wheel's own be found before others of its name.

    Raises:
        UserError: another one was imported already, so that its name is taken.
    """
    if str(OWN_FOLDER) not in sys.path:
        sys.path.insert(0, str(OWN_FOLDER))
    there = getattr(sys.modules.get(package), "__path__", None)
    if there is not None and Path(next(iter(there))).parent != OWN_FOLDER:
        raise UserError(
            f"{package} is another package in this process, imported from {next(iter(there))}: run "
            "the recipe by `compress run`, or before that import."
        )


def identity(name: str, allowed: Sequence[str] = ()) -> str:
    """What changes when the builder's code does: the hash of its file and of those of its package
    that this imports, or its library's version.

    Raises:
        UserError: no such module.
    """
    module_name, _ = split_name(name, allowed)
    library = module_name.split(".")[0]
    if library in ("torchvision", "timm"):
        return f"{library} {_version(library)}"
    load_module(name, allowed)
    files = _imported(module_name, (*OWN, library))
    hashes = [hashlib.sha256(x.read_bytes()).hexdigest() for x in files]
    if len(hashes) < 2:
        return hashes[0] if hashes else module_name
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _imported(module: str, packages: Sequence[str]) -> list[Path]:
    """Return the files of a module and of what it imports of these packages, directly or not."""
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name) if name not in files and _below(name, packages) else None
        if path is not None:
            files[name] = path
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imports(path, package)
    return [files[name] for name in sorted(files, key=lambda x: (x != module, x))]


def _file_of(module: str) -> Path | None:
    """Return a module's Python file; None: it is a function, or something compiled."""
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _imports(path: Path, package: str) -> list[str]:
    """Return what a file imports, by its whole names; of some it is not known if they are modules.

    Args:
        package: that the file lies in.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [x.name for x in node.names]
        if isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            start = ".".join(filter(None, (above, node.module)))
            found += [start, *(f"{start}.{x.name}" for x in node.names)]
    return found


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
        image: channels, height and width of its input; lazy layers (nn.LazyLinear, say) then get
            their sizes. None: as it is built.

    Raises:
        UserError: settings that the builder does not take, images that its network does not.
    """
    from torch import nn

    builder = resolve(name, allowed)
    if isinstance(builder, nn.Module):
        raise UserError(f"{name} is a network: name the function or the class that builds it.")
    argument = class_argument(builder)
    if refused := settings.keys() & (NEVER_SET | {argument}):
        raise UserError(
            f"{name}: {', '.join(map(str, sorted(refused)))} cannot be set: the data gives the "
            "classes, and weights come from teacher.weights."
        )
    arguments = settings if argument is None else {argument: outputs, **settings}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of defaults: for who calls the builder
            model = builder(**arguments)
    except Exception as error:  # whatever somebody's builder raises
        shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        unnamed = f" A builder is told the number of classes as {', '.join(CLASS_ARGUMENTS)}."
        raise UserError(
            f"{name} cannot be built with ({shown}): {error}{unnamed * (argument is None)}"
        ) from error
    _check_network(model, name)
    if image is None:
        return model
    _settle(model, name, image)
    if image[0] == 1:
        from compress.models.channels import for_one_channel

        return for_one_channel(model, image)
    return model


def class_argument(builder: Callable[..., Any]) -> str | None:
    """Return what a builder calls the number of classes; None where it takes no such argument."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):  # of C code, say
        return "num_classes"
    own = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    for name in CLASS_ARGUMENTS:
        # Beside **settings, which may take num_classes, numbers of outputs are a layer's, and nc
        # is one of channels.
        if name in own and not (takes_any and ("out" in name or name == "nc")):
            return name
    return "num_classes" if takes_any else None


def _check_network(model: object, name: str) -> None:
    """Refuse what a builder gave that is no network, or none whose layers can be changed."""
    import torch
    from torch import nn

    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            f"{name} returned a TorchScript module, whose layers cannot be changed: name what "
            "builds the network that it was made of."
        )
    if isinstance(model, nn.Module):
        return
    given = type(model).__name__
    if isinstance(model, tuple | list):
        given += f" of {', '.join(type(item).__name__ for item in model)}"
    raise UserError(
        f"{name} returned a {given}, not a torch.nn.Module: name a function that returns the "
        "network alone."
    )


def _settle(model: "nn.Module", name: str, image: tuple[int, int, int]) -> None:
    """Give lazy layers their sizes by one empty image: until then they cannot even be copied.

    A network that is yet to be made into one for grey images gets one of three channels.
    """
    import torch
    from torch.nn.parameter import is_lazy

    if not any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        return
    training = model.training
    shapes = [image] if image[0] == 3 else [image, (3, *image[1:])]
    for number, shape in enumerate(shapes, 1):
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(1, *shape))
            break
        except Exception as error:  # whatever somebody's network raises
            if number == len(shapes):
                size = f"{image[1]} x {image[2]}"
                raise UserError(f"{name} does not take images of {size}: {error}") from error
    model.train(training)
