"""Writes a recipe for somebody's own model and images, with the reason beside every line."""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from compress.cli.init.inspect import VALIDATION_FRACTION, Images
from compress.data.input_spec import InputSpec

# What may be asked for; int8 is measured always, since it needs no training.
METHODS = {
    "pretrained": "fine-tune MobileNetV2 from ImageNet's weights, by the teacher's answers",
    "shufflenet": "distil into ShuffleNetV2 from fresh weights, the smaller student",
    "mobilenet": "distil into MobileNetV3 from fresh weights, the larger student",
    "prune": "remove channels of the teacher and train on, alone and with int8",
    "factorize": "split the teacher's layers and train on",
    "quantize": "int8 only: no training at all",
}
CHANGING = ("prune", "factorize")  # methods that need the network's code

SEEN = 200_000  # images that a student shall see while it is trained, all epochs together
LEAST_EPOCHS, MOST_EPOCHS = 10, 100
LARGEST_BATCH, SMALLEST_BATCH = 64, 8
STEPS = 16  # an epoch at least, or the batch is made smaller
LR = 2e-3  # at the largest batch
MOST_PRUNED = 4.0  # times faster: beyond it a network is better distilled
SPEEDUPS = (1.5, 2.0, 3.0, 4.0, 6.0)  # that a search prunes to
COMMENTS = 38  # the column in front of them
INT8_GAIN = 3.0  # times, about what int8 gives a large network where the CPU has VNNI


@dataclass(frozen=True)
class Schedule:
    """How long to train, by how many images there are."""

    batch_size: int
    epochs: int
    views: int  # of each image that the teacher answers, once

    @classmethod
    def of(cls, images: int) -> "Schedule":
        batch = LARGEST_BATCH
        while batch > SMALLEST_BATCH and images // batch < STEPS:
            batch //= 2
        epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(SEEN / max(1, images))))
        views = 8 if images <= 5_000 else 4 if images <= 20_000 else 2
        return cls(batch, epochs, views)

    def lr(self, factor: float = 1.0) -> str:
        """Return the learning rate, smaller with smaller batches, as people write it: 2e-3."""
        rate = factor * LR * math.sqrt(self.batch_size / LARGEST_BATCH)
        return f"{rate:.0e}".replace("e-0", "e-")


@dataclass(frozen=True)
class Answers:
    """What the user said, looked at and found to fit together."""

    teacher: str  # a builder, or the path of an ONNX file
    weights: str | None  # a path or torchvision:…; None with an ONNX file
    retrain: str | None  # the layer to train anew
    data: Path
    images: Images
    spec: InputSpec
    methods: tuple[str, ...]
    speedup: float
    max_accuracy_drop: float
    space: bool = False  # lists of values, for a search to choose from

    @property
    def image_size(self) -> int | list[int]:
        """Of the network's input, as a recipe says it."""
        height, width = self.spec.size
        return height if height == width else [height, width]

    @property
    def sizes(self) -> list[list[int]]:
        """Of a student's input, [height, width]: the teacher's, and about 3/4 and 1/2 of it."""
        height, width = self.spec.size
        smaller = [[_near(share * height), _near(share * width)] for share in (0.75, 0.5)]
        return [[height, width], *(size for size in smaller if size[0] < height)]

    @property
    def is_onnx(self) -> bool:
        return self.weights is None


def recipe_for(answers: Answers, path: Path) -> str:
    """Return the recipe's text; its paths are relative to the folder of its file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("compress.cli.init", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # YAML: text from outside goes through `quoted`
    )
    environment.filters["quoted"] = _quoted
    folder = path.resolve().parent
    text = environment.get_template("recipe.yaml.j2").render(
        a=answers,
        name=re.sub(r"[^\w.-]+", "_", path.stem, flags=re.ASCII).lstrip("._-") or "recipe",
        network=Path(answers.teacher).stem if answers.is_onnx else answers.teacher.split(":")[-1],
        schedule=Schedule.of(answers.images.training),
        data=os.path.relpath(answers.data.resolve(), folder),
        teacher=os.path.relpath(Path(answers.teacher).resolve(), folder),
        weights=_from(folder, answers.weights),
        validation_fraction=VALIDATION_FRACTION,
        pruned=min(answers.speedup, MOST_PRUNED),
        speedups=_nearest_first(answers.speedup),
        speedups_before_int8=_nearest_first(answers.speedup / INT8_GAIN),
        pruned_before_int8=min(max(1.5, round(answers.speedup / INT8_GAIN, 1)), MOST_PRUNED),
    )
    return "".join(f"{_aligned(line)}\n" for line in text.splitlines())


def _near(side: float) -> int:
    """Return the multiple of 32, which most networks halve it to, that is nearest."""
    return max(32, 32 * round(side / 32))


def _nearest_first(speedup: float) -> list[float]:
    """Return what a network may be pruned to, that first which is nearest to what is asked."""
    return sorted(SPEEDUPS, key=lambda each: abs(math.log(each / speedup)))


def _from(folder: Path, weights: str | None) -> str | None:
    if weights is None or weights.startswith("torchvision:"):
        return weights
    return os.path.relpath(Path(weights).resolve(), folder)


def _aligned(line: str) -> str:
    """Align the line's comment with the others, where there is room."""
    code, mark, comment = line.rpartition("  # ")  # what comes first may hold a # in quotes
    return f"{code.rstrip():<{COMMENTS - 1}}  # {comment}" if mark and code.strip() else line


def _quoted(text: str) -> str:
    """Return a YAML scalar in double quotes, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False)
