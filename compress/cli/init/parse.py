"""What somebody types into `compress init`, turned into values; errors name the option."""

import math
from collections.abc import Sequence

from compress.utils.errors import UserError
from compress.utils.files import local
from compress.utils.quantities import behind, parse_share, parse_times
from compress.utils.settings import LARGEST, SMALLEST


def teacher(text: str, allowed: Sequence[str]) -> str:
    """Return the path of an ONNX file that is there, or the name of a builder that exists."""
    from compress.models.builders import resolve

    path = local(text)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise UserError(f"--teacher: no file at {path}.")
        return str(path)
    if path.is_file():
        raise UserError(
            f"--teacher: {path} holds weights; name what builds the network "
            "(torchvision.models:resnet50, timm:…, mine.nets:big) and give the file as --weights."
        )
    if ":" not in text and "." not in text:
        raise UserError(
            f"--teacher: {text!r} does not say where it is from: torchvision.models:{text}, "
            f"timm:{text}?"
        )
    resolve(text, allowed)
    return text


def weights(text: str) -> str:
    """Return the path of a file that is there, or torchvision's name of one."""
    if text.startswith("torchvision:"):
        return text
    path = local(text)
    if not path.is_file():
        raise UserError(f"--weights: no file at {path}.")
    return str(path)


def size(text: str) -> tuple[int, int]:
    """Return height and width in pixels, as many as recipes allow; one number is of a square."""
    both = [part.strip() for part in text.split("x")]
    possible = [x.isdecimal() and SMALLEST <= int(x) <= LARGEST for x in both]
    if len(both) > 2 or not all(possible):
        raise UserError(
            f"--image-size: {text!r} is no whole number from {SMALLEST} to {LARGEST}, nor two as "
            "HEIGHTxWIDTH."
        )
    return int(both[0]), int(both[-1])


def channels(text: str, flag: str = "--mean") -> tuple[float, ...]:
    """Return three numbers, which have commas between them, or the one of grey images."""
    numbers = [_number(part, flag) for part in text.split(",")]
    if len(numbers) not in (1, 3):
        raise UserError(
            f"{flag}: give three numbers (red,green,blue), or one for grey images, not {text!r}."
        )
    return tuple(numbers)


def deviations(text: str) -> tuple[float, ...]:
    """Return one or three numbers above zero."""
    found = channels(text, "--std")
    if min(found) <= 0:
        raise UserError(f"--std: {text!r} must be above zero: images are divided by it.")
    return found


def methods(text: str, possible: Sequence[str]) -> tuple[str, ...]:
    """Return names, which have commas between them, each once."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in possible]
    if unknown or not names:
        wanted = f"choose of {', '.join(possible)}"
        why = " (an ONNX file cannot be changed)" if "prune" not in possible else ""
        raise UserError(f"--methods: {', '.join(unknown) or 'none'}: {wanted}{why}.")
    return tuple(dict.fromkeys(names))


def speedup(text: str) -> float:
    """Return a number of at least 1."""
    found = behind("--speedup", parse_times, text)
    if found < 1:
        raise UserError(f"--speedup: {text} is below 1; 5x is five times faster.")
    return found


def drop(text: str) -> float:
    """Return a fraction from 0 to 1."""
    found = behind("--max-accuracy-drop", parse_share, text)
    if found > 1:
        raise UserError(f"--max-accuracy-drop: {text} is more than all; 2%, or 0.02, is 2 points.")
    return found


def _number(text: str, flag: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UserError(f"{flag}: {text.strip()!r} is no number.")
    return found
