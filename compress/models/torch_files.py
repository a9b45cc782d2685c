"""Torch files read as data: tensors are taken out, nothing that a pickle names is ever run.

Training scripts save their arguments, paths, dates, losses and NumPy values beside the weights.
Harmless classes of that kind are admitted by name, and even those are not made: a stand-in takes
what the file says of them, so that it reads alike whichever system and NumPy wrote it.
"""

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from compress.utils.errors import UserError
from compress.utils.other_files import other_file

_ALONE = "Save the weights alone: torch.save(model.state_dict(), 'weights.pt')."
_ZIP = b"PK\x03\x04"
_TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OTHER_FILES = {  # by what stands where
    (0, b"\x1f\x8b"): "is compressed by gzip: unpack it (gunzip, or tar -xzf)",
    (257, b"ustar"): "is a tar archive: unpack it (tar -xf)",
    (0, b"\x93NUMPY"): "is one NumPy array, not weights by name: save those",
}


class _Ignored:
    """Stands for an object beside the weights and keeps nothing of it."""

    def __new__(cls, *_: object) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


class NumpyArray(_Ignored):
    """Stands for an array, so that it can be named."""


class NumpyScalar(_Ignored):
    """Stands for a number or a text of NumPy's own, likewise."""


def _empty_dict(*_: object) -> dict[Any, Any]:
    return {}


def _empty_list(*_: object) -> list[Any]:
    return []


_PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
_IGNORED = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "builtins": "bool bytes dict float frozenset int list range slice str tuple",
    "datetime": "date datetime time timedelta timezone",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,  # Python 3.13
    "numpy": " ".join({"ndarray", "dtype", "bool_"} | {t.__name__ for t in np.ScalarType}),
    "numpy.dtypes": " ".join(np.dtypes.__all__),
    "torch.nn.modules.loss": " ".join(nn.modules.loss.__all__),
}
_OF_NUMPY: dict[str, type[_Ignored]] = {"scalar": NumpyScalar, "_reconstruct": NumpyArray}
_ADMITTED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_Ignored, f"{module}.{name}") for module in _IGNORED for name in _IGNORED[module].split()),
    *(
        (made, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")  # NumPy 2
        for name, made in _OF_NUMPY.items()
    ),
    (_empty_dict, "collections.defaultdict"),
    (_empty_list, "collections.deque"),
]


def read_torch_file(path: Path) -> Any:
    """What was saved, on the CPU, with stand-ins for all but containers, numbers and tensors.

    Raises:
        UserError: damaged, a network with its code, or objects of classes that are not admitted.
    """
    with path.open("rb") as file:
        start = file.read(300)
    found = (what for (at, known), what in _OTHER_FILES.items() if start[at:].startswith(known))
    if what := other_file(start) or next(found, None):
        raise UserError(f"{path} {what}.")
    pickled = b""
    if start.startswith(_ZIP):
        pickled = _pickle_in_archive(path)
    elif start.startswith(b"\x80") and not start.startswith(_TORCH_BEFORE_1_6):
        raise UserError(
            f"{path} is refused: it is a pickle that torch.save did not write, and could run code. "
            f"{_ALONE}"
        )
    try:
        with (
            path.open("rb") as file,  # of a path torch judges by its suffix
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_ADMITTED),
        ):
            warnings.simplefilter("ignore")  # of pickle protocols: `_refuse` says it
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file leads torch to
        _refuse(path, pickled or path.read_bytes(), error)


def _pickle_in_archive(path: Path) -> bytes:
    """The pickle in what torch.save wrote, as bytes.

    Raises:
        UserError: damaged, or an archive of another kind, which is called by its name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.rpartition("/")[2]: name for name in archive.namelist()}
            broken = archive.testzip()  # torch does not compare checksums
            pickled = archive.read(members["data.pkl"]) if "data.pkl" in members else b""
    except Exception as error:  # whatever a broken file leads zipfile to
        raise UserError(f"{path} is damaged: {error}.") from error
    if broken is not None:
        raise UserError(f"{path} is damaged: {broken} in it does not fit its checksum.")
    kind = None
    if "constants.pkl" in members:
        kind = "a TorchScript archive"
    elif members.keys() & {"archive_format", "serialized_exported_program.json"}:
        kind = "a program of torch.export"
    if kind is not None:
        raise UserError(
            f"{path} is {kind}, a network with its code: export the network to ONNX and give that "
            "as teacher.onnx, or save its weights alone: torch.save(model.state_dict(), "
            "'weights.pt')."
        )
    if not pickled and any(name.endswith(".npy") for name in members):
        raise UserError(
            f"{path} is an archive of NumPy arrays: save them as tensors, torch.save({{name: "
            f"torch.from_numpy(x) for name, x in np.load({path.name!r}).items()}}, 'weights.pt')."
        )
    if not pickled:
        raise UserError(f"{path} is a zip archive that torch.save did not write. {_ALONE}")
    return pickled


def _refuse(path: Path, pickled: bytes, error: Exception) -> NoReturn:
    """Names the class that is not admitted, or says what else is wrong."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named is None and pickled[:1] == b"\x80" and pickled[1:2] > b"\x02":
        raise UserError(
            f"{path} is refused: it was saved with pickle_protocol={pickled[1]}, of which weights "
            "cannot be read as mere data. Save it again without pickle_protocol."
        ) from error
    if named is None and "persistent_load" in str(error):  # as torch saved modules before 1.6
        raise UserError(
            f"{path} is refused: it holds an object of torch.nn beside the weights. {_ALONE}"
        ) from error
    if named is None:
        raise UserError(f"{path} is damaged or no checkpoint. {_ALONE}") from error
    if re.search(rb"torch\.nn\.modules\.(?!loss\b)", pickled):
        raise UserError(
            f"{path} is refused: it holds a whole pickled model ({named[1]}), which is code. Where "
            f"that class is at hand, save its weights alone: model = torch.load({path.name!r}, "
            "weights_only=False) (or what of it is the model); torch.save(model.state_dict(), "
            "'weights.pt')."
        ) from error
    raise UserError(
        f"{path} is refused: it holds {named[1]}, which is not among the classes known to be "
        f"harmless, and a pickle can run code. {_ALONE} From a file that you trust: torch.save("
        f"torch.load({path.name!r}, weights_only=False)['model'], 'weights.pt'), or whatever the "
        "weights are called in it."
    ) from error
