"""Weights in and out: safetensors, or torch files read as data only."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from compress.models.torch_files import read_torch_file
from compress.utils.errors import UserError
from compress.utils.files import atomic

StateDicts = dict[str, dict[str, Tensor]]  # by where they lie in a file; "" is the file itself

_DEEPEST = 6  # dicts within dicts that are looked into
# What wrapping a part of a network puts into names.
_COMPILED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_USUAL = {
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
}
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|polyak|shadow)([._]|$)", re.IGNORECASE)
# Counts that AveragedModel and the FLOP counter thop leave among the weights.
_COUNTS = {"n_averaged", "total_ops", "total_params"}


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes a safetensors file atomically; each metadata value is stored as JSON."""
    ready = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic(path) as temporary:
        save_file(ready, temporary, {k: json.dumps(v) for k, v in metadata.items()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The largest state dict in a file, under the names that it has there, and the metadata.

    Raises:
        UserError: as `read_checkpoint`.
    """
    state_dicts, metadata = read_checkpoint(path)
    return max(state_dicts.values(), key=len), metadata


def read_checkpoint(path: Path) -> tuple[StateDicts, dict[str, Any]]:
    """All state dicts of a safetensors file or a torch file, and the former's metadata.

    Metadata values that are JSON are decoded.

    Raises:
        UserError: missing, damaged, no tensors in it, or a pickle that would run code.
    """
    if not path.is_file():
        raise UserError(f"No weights at {path}: check the path (it is relative to the recipe).")
    if path.suffix == ".onnx":
        raise UserError(f"{path} is an ONNX file: give it as teacher.onnx, without a builder.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if start[8:] == b"{":  # whatever its suffix: names deceive
        return _read_safetensors(path)
    saved = read_torch_file(path)
    state_dicts = dict(_state_dicts(saved, "", set()))
    if not state_dicts:
        what = ", ".join(map(str, saved)) if isinstance(saved, Mapping) else type(saved).__name__
        raise UserError(f"{path} holds no state dict (names to tensors), only: {what[:200]}.")
    return state_dicts, {}


def fitted(state_dicts: StateDicts, model: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that fit a network best, under the network's names, and notes on the choice.

    What comes before the names (dicts within dicts, `module.`, `model.`…) is removed where they
    are the network's then. Of state dicts that fit alike, averaged weights (EMA, SWA) are taken
    before others, then those under a usual name, then the first. Auxiliary heads that the network
    does not have are left out. Whatever else differs is for `load_into` to refuse.
    """
    wanted = model.state_dict()
    variants = [list(_readings(named, wanted)) for named in _variants(state_dicts)]
    readings = min(filter(None, variants), key=lambda v: min(r.faults for r in v), default=[])
    if not readings:
        return max(state_dicts.values(), key=len), []
    best = min(readings, key=lambda r: (r.faults, r.preference))
    alike = [r.prefix for r in readings if r.faults == best.faults]
    notes = []
    if len(alike) > 1:
        others = " and ".join(_shown(prefix) for prefix in alike if prefix != best.prefix)
        notes.append(
            f"weights are {_shown(best.prefix)}{', the averaged ones,' * best.averaged} and not "
            f"{others} (if you mean another state dict, save it alone)"
        )
    if best.auxiliary:
        modules = [name.partition(".")[0] for name in best.auxiliary]
        notes.append(_left_out(modules, "auxiliary heads that the network does not have"))
    beside = [name for name in best.beside if not name.startswith(tuple(alike))]
    if beside:
        modules = [name.rpartition(".")[0] or name for name in beside]
        notes.append(_left_out(modules, f"beside the network, which is {best.prefix}*"))
    return best.tensors, notes


def load_into(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Loads all weights, converted to the model's types.

    Raises:
        UserError: names or shapes that do not fit, the first few of each.
    """
    wanted = model.state_dict()
    missing, others, unknown = _differences(tensors, wanted)
    shapes = [f"{k} {tuple(tensors[k].shape)} instead of {tuple(wanted[k].shape)}" for k in others]
    faults = [("missing", missing), ("unknown", unknown), ("of another shape", shapes)]
    if any(names for _, names in faults):
        text = "; ".join(f"{len(n)} {what} ({', '.join(n[:3])})" for what, n in faults if n)
        advice = _advice(tensors, wanted)
        raise UserError(f"The weights in {path} do not fit the model: {text}. {advice}")
    try:
        model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise UserError(f"The weights in {path} do not fit the model: {error}") from error


@dataclass(frozen=True)
class _Reading:
    """A file's tensors as a network's: those whose names begin with a prefix, without it."""

    prefix: str
    tensors: dict[str, Tensor]
    auxiliary: list[str]  # names left out of `tensors`
    beside: list[str]  # whole names in the same state dicts that do not begin with the prefix
    faults: tuple[int, int, int]  # missing, of another shape, unknown
    averaged: bool

    @property
    def preference(self) -> tuple[bool, bool]:
        """Sorts before what fits as well but is less likely to be meant."""
        return not self.averaged, not _USUAL.issuperset(self.prefix.split(".")[:-1])


_Named = dict[str, tuple[str, Tensor]]  # by whole name: the state dict that it is in, the tensor


def _variants(state_dicts: StateDicts) -> Iterator[_Named]:
    """Tensors by their whole names, then without ever more of what wrapping puts between."""
    named = {
        f"{where}.{name}".removeprefix("."): (where, tensor)
        for where, tensors in state_dicts.items()
        for name, tensor in tensors.items()
    }
    yield named
    for wrapping in (_COMPILED, _COMPILED | {"module"}):
        bare = {
            ".".join(part for part in name.split(".") if part not in wrapping): place
            for name, place in named.items()
        }
        if len(bare) == len(named) and bare.keys() != named.keys():
            yield bare


def _readings(named: _Named, wanted: Mapping[str, Tensor]) -> Iterator[_Reading]:
    """Ways to read the file by which the network gets at least one tensor."""
    prefixes = dict.fromkeys(
        name[:cut]
        for name in named
        for cut in (0, *(dot.end() for dot in re.finditer(r"[.]", name)))
        if name[cut:] in wanted
    )
    modules = {name.partition(".")[0] for name in wanted}
    for prefix in prefixes:
        below = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
        homes = {where for name, (where, _) in below.items() if name in wanted}
        tensors = {
            name: tensor
            for name, (where, tensor) in below.items()
            if where in homes and (name in wanted or not _is_count(name))
        }
        auxiliary = [k for k in tensors if _is_auxiliary(k) and k.partition(".")[0] not in modules]
        tensors = {k: v for k, v in tensors.items() if k not in auxiliary}
        beside = [k for k, (where, _) in named.items() if where in homes and not _is_count(k)]
        missing, shapes, unknown = _differences(tensors, wanted)
        yield _Reading(
            prefix=prefix,
            tensors=tensors,
            auxiliary=auxiliary,
            beside=[k for k in beside if not k.startswith(prefix)],
            faults=(len(missing), len(shapes), len(unknown)),
            averaged=_AVERAGED.search(prefix) is not None
            or f"{prefix.removesuffix('module.')}n_averaged" in named,
        )


def _differences(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, of another shape, and unknown to the network.

    Counts of batches may be missing, and the second name of a tensor that the network has twice.
    """
    given = {_identity(v) for k, v in wanted.items() if k in tensors}
    missing = [
        k
        for k, v in wanted.items()
        if k not in tensors and not k.endswith("num_batches_tracked") and _identity(v) not in given
    ]
    shared = [k for k in wanted if k in tensors and not is_lazy(wanted[k])]
    shapes = [k for k in shared if tensors[k].shape != wanted[k].shape]
    return missing, shapes, [k for k in tensors if k not in wanted]


def _identity(tensor: Tensor) -> object:
    """What two names of the same tensor have in common."""
    if is_lazy(tensor) or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape


def _advice(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What to do about weights that do not fit."""
    missing, shapes, unknown = _differences(tensors, wanted)
    if any(map(_is_auxiliary, (*missing, *shapes))):
        return (
            "Auxiliary heads serve training only: build the network without them (settings: "
            "{aux_logits: false})."
        )
    layers = {k.rpartition(".")[0] for k in shapes}
    outputs_only = all(tensors[k].shape[1:] == wanted[k].shape[1:] for k in shapes)
    if missing or unknown or len(layers) != 1 or not outputs_only:
        return "Check builder, settings and number of classes."
    return (
        "They are of another number of classes: give the data that they were trained on, or train "
        f"the last part anew (teacher.train_only: {layers.pop()}, and teacher.train)."
    )


def _is_auxiliary(name: str) -> bool:
    return name.lower().startswith("aux")


def _is_count(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTS


def _shown(prefix: str) -> str:
    return f"those under {prefix.removesuffix('.')!r}" if prefix else "those not wrapped"


def _left_out(modules: list[str], reason: str) -> str:
    """A note on tensors that are not the network's; `modules` has an entry for each of them."""
    names = list(dict.fromkeys(modules))
    more = ", …" if len(names) > 5 else ""
    return f"weights left out: {', '.join(names[:5])}{more} ({len(modules)} tensors), {reason}"


def _read_safetensors(path: Path) -> tuple[StateDicts, dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = {k: _decoded(v) for k, v in (file.metadata() or {}).items()}
            return {"": {k: file.get_tensor(k) for k in file.keys()}}, metadata  # noqa: SIM118
    except Exception as error:  # whatever a broken file leads safetensors to
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error


def _state_dicts(saved: object, where: str, seen: set[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dicts that hold tensors, wherever they lie in what was saved."""
    if id(saved) in seen or where.count(".") > _DEEPEST:
        return
    seen.add(id(saved))
    if isinstance(saved, Mapping):
        entries = [(k, v) for k, v in saved.items() if isinstance(k, str | int)]
        if own := {str(k): v.detach() for k, v in entries if _is_plain(v)}:
            yield where, own
    else:
        entries = list(enumerate(saved)) if isinstance(saved, list | tuple) else []
    for key, entry in entries:
        if isinstance(entry, Mapping | list | tuple):
            yield from _state_dicts(entry, f"{where}.{key}".removeprefix("."), seen)


def _is_plain(entry: Any) -> bool:
    """Whether an entry is a tensor of numbers, and not one of rounded or of left-out ones."""
    return (
        type(entry) in (Tensor, nn.Parameter)
        and entry.layout is torch.strided
        and entry.device.type == "cpu"
        and not (entry.is_quantized or entry.is_nested)
    )


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
