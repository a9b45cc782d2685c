"""The one output of networks that have one."""

from collections.abc import Mapping

import numpy as np


def only(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the only output."""
    (output,) = outputs.values()
    return output
