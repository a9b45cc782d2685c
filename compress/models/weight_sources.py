"""How a recipe names the weights that a network begins with; light, imports no torch."""

import hashlib
from pathlib import Path

from compress.utils.errors import UserError

TORCHVISION = "torchvision:"  # begins the name of weights that torchvision offers
TIMM = "timm"  # those that timm itself loads into its network, by the tag in the network's name


def is_file(weights: str) -> bool:
    """Whether weights, as a recipe names them, are a file."""
    return weights != TIMM and not weights.startswith(TORCHVISION)


def fingerprint(path: Path) -> str:
    """Return the hash that stages know a weights file by.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"no weights at {path} ({error.strerror}): give the path of a safetensors or torch "
            "file, relative to the recipe."
        ) from error
