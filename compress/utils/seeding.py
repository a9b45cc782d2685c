"""The one place where random seeds are made. Same recipe, same machine: same numbers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, independent of every other purpose of the same `seed`."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> "np.random.Generator":
    """NumPy's generator for one purpose."""
    import numpy as np

    return np.random.default_rng(derive(seed, *purpose))


@contextmanager
def torch_seed(seed: int, *purpose: object) -> Iterator[None]:
    """Seeds torch inside the block and restores its random state afterwards."""
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *purpose))
        yield
