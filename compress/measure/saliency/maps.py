"""What makes a map of a method's raw numbers."""

import numpy as np


def as_maps(raw: np.ndarray) -> np.ndarray:
    """Clipped at 0, each of (n, height, width) scaled to the sum 1; an empty one stays empty."""
    kept = np.maximum(raw, 0).astype(np.float64)
    total = kept.sum((1, 2), keepdims=True)
    return np.divide(kept, total, out=np.zeros_like(kept), where=total > 0).astype(np.float32)
