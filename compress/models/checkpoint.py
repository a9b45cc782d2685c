"""Weights in and out: safetensors, or torch files read as data only."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from compress.models.class_names import NOTED_AS, Unclear, order_noted
from compress.models.torch_files import NumpyArray, NumpyScalar, read_torch_file
from compress.models.weight_names import StateDicts, differences, is_auxiliary
from compress.utils.errors import UserError
from compress.utils.files import atomic

_DEEPEST = 6  # dicts within dicts that are looked into


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
    """All state dicts of a safetensors file or a torch file, and what is noted beside them.

    Of the former that is all its metadata, values that are JSON decoded; of the latter what it says
    of classes. Their order, however it is written, is in `classes` (`order_noted`).

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
        tensors, metadata = _read_safetensors(path)
        return tensors, _with_order(metadata)
    saved = read_torch_file(path)
    state_dicts = dict(_state_dicts(saved))
    if not state_dicts:
        if any(isinstance(x, NumpyArray) for _, m in _mappings(saved) for x in m.values()):
            raise UserError(
                f"{path} holds NumPy arrays where tensors are expected: save tensors, "
                "{name: torch.from_numpy(array), …}."
            )
        what = ", ".join(map(str, saved)) if isinstance(saved, Mapping) else type(saved).__name__
        raise UserError(f"{path} holds no state dict (names to tensors), only: {what[:200]}.")
    return state_dicts, _with_order(_noted_in(saved))


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file as they are; none of any other file."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except Exception:  # whatever safetensors says of a file that is none
        return {}


def noted_in(path: Path) -> dict[str, Any]:
    """The same, values that are JSON decoded."""
    return {key: _decoded(value) for key, value in metadata_of(path).items()}


def load_into(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Loads all weights, converted to the model's types.

    Raises:
        UserError: names or shapes that do not fit, the first few of each.
    """
    wanted = model.state_dict()
    missing, others, unknown = differences(tensors, wanted)
    shapes = [f"{k} {tuple(tensors[k].shape)} instead of {tuple(wanted[k].shape)}" for k in others]
    if rounded := [k for k, v in tensors.items() if v.is_quantized]:
        raise UserError(
            f"The weights in {path} do not fit the model: {rounded[0]} is a quantized tensor, and "
            "float weights are needed: save those that it was quantized from (or x.dequantize())."
        )
    faults = [("missing", missing), ("unknown", unknown), ("of another shape", shapes)]
    if any(names for _, names in faults):
        text = "; ".join(f"{len(n)} {what} ({', '.join(n[:3])})" for what, n in faults if n)
        advice = _advice(missing, others, unknown, tensors, wanted)
        raise UserError(f"The weights in {path} do not fit the model: {text}. {advice}")
    unreal = [k for k, v in tensors.items() if v.is_complex() and not wanted[k].is_complex()]
    if unreal:
        raise UserError(
            f"The weights in {path} do not fit the model: {unreal[0]} holds complex numbers, of "
            "which it would lose a part. Save them as real ones."
        )
    if odd := [k for k, v in tensors.items() if _is_odd(v, wanted[k])]:
        raise UserError(
            f"{odd[0]} in {path} holds numbers that are not finite (NaN or infinite): the training "
            "that made it diverged. Give weights from before that."
        )
    try:
        set_weights(model, {k: v.to(wanted[k].dtype) for k, v in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise UserError(f"The weights in {path} do not fit the model: {error}") from error


def _is_odd(tensor: Tensor, own: Tensor) -> bool:
    """Return whether a tensor is not finite, and the network's own is: masks may be infinite."""
    if not tensor.is_floating_point() or tensor.element_size() == 1:  # 8 bits: nothing adds those
        return False
    # The sum is quicker, and may be infinite where no number is.
    if tensor.sum().isfinite() or tensor.isfinite().all():
        return False
    return is_lazy(own) or bool(own.isfinite().all())


def set_weights(model: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load weights that are named and shaped as the network's own.

    They are said to be of its version: layers that were others once (torchvision's MNASNet) ask for
    it, and files do not tell.

    Args:
        strict: whether all of the network's must be there.
    """
    state = OrderedDict(tensors)
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=strict)


def _advice(
    missing: list[str],
    shapes: list[str],
    unknown: list[str],
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
) -> str:
    """What to do about weights that do not fit; names as `differences` gives them."""
    if any(name.endswith("zero_point") for name in unknown):
        return "They are of a quantized network: float weights are needed, from before that."
    auxiliary = any(map(is_auxiliary, (*missing, *shapes)))
    if auxiliary and all(map(is_auxiliary, missing)) and not unknown:
        return (
            "Auxiliary heads serve training only: build the network without them (settings: "
            "{aux_logits: false})."
        )
    channels = None if missing or unknown else _channels(shapes, tensors, wanted)
    if channels == 1:
        return (
            "They are of a network for 1 channel: say channels: grey, with mean and std of one "
            "number each."
        )
    if channels == 3:
        return "They are of a network for 3 channels: say channels: rgb (or bgr)."
    layers = {k.rpartition(".")[0] for k in shapes}
    outputs_only = all(tensors[k].shape[1:] == wanted[k].shape[1:] for k in shapes)
    if missing or unknown or len(layers) != 1 or not outputs_only:
        return "Check builder, settings and number of classes."
    return (
        "They are of another number of classes: give the data that they were trained on, or train "
        f"the last part anew (teacher.train_only: {layers.pop()}, and teacher.train)."
    )


def _channels(
    shapes: list[str], tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> int | None:
    """Return 1 or 3 where one convolution takes so many channels, and is to take the other."""
    if len(shapes) != 1:
        return None
    there, here = tensors[shapes[0]].shape, wanted[shapes[0]].shape
    if len(there) != 4 or len(here) != 4 or {there[1], here[1]} != {1, 3}:
        return None
    return there[1] if (*there[:1], *there[2:]) == (*here[:1], *here[2:]) else None


def _noted_in(saved: object) -> dict[str, Any]:
    """Return what a torch file says of classes beside its weights, not tensors of such a name."""
    if not isinstance(saved, Mapping):
        return {}
    noted = {key: saved[key] for key in NOTED_AS if key in saved}
    return {
        key: value if (numpy := _of_numpy(value)) is None else Unclear(numpy)
        for key, value in noted.items()
        if not isinstance(value, Tensor) and not dict(_state_dicts(value))
    }


def _with_order(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata with the order of classes as a list, or as what is unclear of it."""
    others = {key: value for key, value in metadata.items() if key != "classes"}
    if not isinstance(others.get("spec"), Mapping):  # some other tool's word
        others.pop("spec", None)
    order = order_noted(metadata)
    return others if order is None else others | {"classes": order}


def _read_safetensors(path: Path) -> tuple[StateDicts, dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = {k: _decoded(v) for k, v in (file.metadata() or {}).items()}
            return {"": {k: file.get_tensor(k) for k in file.keys()}}, metadata  # noqa: SIM118
    except Exception as error:  # whatever a broken file leads safetensors to
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error


def _state_dicts(saved: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the tensors of each mapping that holds some, by their names, and where it lies."""
    for where, found in _mappings(saved):
        if own := {k: v.detach() for k, v in found.items() if _is_weight(v)}:
            yield where, own


def _mappings(
    saved: object, where: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the mappings in what was saved, each once, and where it lies."""
    seen = set() if seen is None else seen
    if id(saved) in seen or where.count(".") > _DEEPEST:
        return
    seen.add(id(saved))
    if isinstance(saved, Mapping):
        entries = [(str(k), v) for k, v in saved.items() if isinstance(k, str | int)]
        yield where, dict(entries)
    else:
        several = saved if isinstance(saved, list | tuple) else ()
        entries = [(str(place), entry) for place, entry in enumerate(several)]
    for key, entry in entries:
        if isinstance(entry, Mapping | list | tuple):
            yield from _mappings(entry, f"{where}.{key}".removeprefix("."), seen)


def _is_weight(entry: Any) -> bool:
    """Return whether an entry is a tensor whose numbers are all there, quantized ones included."""
    return (
        type(entry) in (Tensor, nn.Parameter)
        and entry.layout is torch.strided
        and entry.device.type == "cpu"
        and not entry.is_nested
    )


def _of_numpy(noted: Any) -> str | None:
    """Return what of NumPy stands where names or numbers are expected; None: nothing does."""
    if isinstance(noted, NumpyArray):
        return "is a NumPy array, which is not read (.tolist() makes a list of it)"
    inside = [*noted, *noted.values()] if isinstance(noted, Mapping) else noted
    if isinstance(inside, list | tuple) and any(isinstance(x, NumpyScalar) for x in inside):
        return "holds NumPy's own names or numbers, which are not read (.item() makes plain ones)"
    return None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
