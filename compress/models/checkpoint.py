"""Weights in and out: safetensors, or torch files read as data only."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress.utils.errors import UserError
from compress.utils.files import atomic


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes a safetensors file atomically; each metadata value is stored as JSON."""
    ready = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic(path) as temporary:
        save_file(ready, temporary, {k: json.dumps(v) for k, v in metadata.items()})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file, or of a torch file that holds tensors only.

    Metadata values that are JSON are decoded.

    Raises:
        UserError: missing, damaged, or a pickle that would run code.
    """
    if not path.is_file():
        raise UserError(f"No weights at {path}: check the path (it is relative to the recipe).")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                metadata = {k: _decoded(v) for k, v in (file.metadata() or {}).items()}
                return {k: file.get_tensor(k) for k in file.keys()}, metadata  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is refused: it is damaged, or a pickle that could run code. Save the weights "
            "alone (safetensors.torch.save_file(model.state_dict(), 'model.safetensors'))."
        ) from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dict (names to tensors).")
    return {k.removeprefix("module."): v for k, v in state.items()}, {}


def load_into(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Loads all weights, converted to the model's types.

    Raises:
        UserError: names or shapes that do not fit, the first few of each.
    """
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in tensors and not k.endswith("num_batches_tracked")]
    unknown = [k for k in tensors if k not in wanted]
    shapes = [
        f"{k} {tuple(tensors[k].shape)} instead of {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    faults = [("missing", missing), ("unknown", unknown), ("of another shape", shapes)]
    if any(names for _, names in faults):
        text = "; ".join(f"{len(n)} {what} ({', '.join(n[:3])})" for what, n in faults if n)
        raise UserError(
            f"The weights in {path} do not fit the model: {text}. Check builder, settings and "
            "number of classes."
        )
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()}, strict=False)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
