"""Vectors as JSON: in half precision, which moves a unit vector by a 2000th of its length."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np


def pack(vectors: np.ndarray) -> dict[str, Any]:
    """Return unit vectors (n, dimension) as JSON."""
    text = base64.b64encode(np.ascontiguousarray(vectors, "<f2").tobytes()).decode("ascii")
    return {"shape": list(vectors.shape), "float16": text}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """Return what was packed, float32 (n, dimension), of length 1 again."""
    halves = np.frombuffer(base64.b64decode(packed["float16"]), "<f2")
    return unit(halves.astype(np.float32).reshape(packed["shape"]))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, dimension) at length 1; what is 0 stays so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)
