"""Looks at somebody's images and teacher before anything is written or run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.data.input_spec import BYTE_STD, IMAGENET_MEAN, IMAGENET_STD
from compress.models.own_input import (
    OwnInput,
    library_input,
    noted_input,
    torchvision_input,
    torchvision_weights,
)
from compress.models.weight_sources import TORCHVISION
from compress.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.data.input_spec import InputSpec

VALIDATION_FRACTION = 0.2  # what a recipe draws unless it says otherwise
NAMES_SHOWN = 3
USUAL_SIZE = (224, 224)  # height and width in pixels, where nothing says


@dataclass(frozen=True)
class Images:
    """What a folder holds; nothing is decoded yet."""

    classes: tuple[str, ...]
    labelled: int
    unlabelled: int
    validation: int | None  # None: there is no split yet
    label_column: str | None = None  # of a table, where somebody named it
    notes: tuple[str, ...] = ()  # how they were read

    @property
    def judged(self) -> int:
        """Return how many images to judge by, roughly where the split is drawn later."""
        drawn = round(VALIDATION_FRACTION * self.labelled)
        return drawn if self.validation is None else self.validation

    @property
    def training(self) -> int:
        """Return how many images a student will learn from, the unlabelled ones included."""
        return self.labelled - self.judged + self.unlabelled

    def describe(self) -> str:
        names = ", ".join(self.classes[:NAMES_SHOWN])
        more = ", …" if len(self.classes) > NAMES_SHOWN else ""
        split = "to be drawn" if self.validation is None else "as the data says"
        return (
            f"{self.labelled} labelled of {len(self.classes)} classes ({names}{more}), "
            f"{self.unlabelled} unlabelled; {self.judged} to judge by, {split}"
        )


def look_at_images(path: Path, label_column: str | None = None) -> Images:
    """Read the layout, as a run would.

    Args:
        label_column: of a table; None: the one that is found.

    Raises:
        UserError: not there, in no layout that is understood, or fewer than two classes.
    """
    from compress.data.layouts import check_classes, read_folder

    data = read_folder(path, label_column=label_column)
    check_classes(data)
    labelled = [p for p in data.images if p.label is not None]
    split = all(p.split is not None for p in labelled)
    return Images(
        classes=data.classes,
        labelled=len(labelled),
        unlabelled=len(data.images) - len(labelled),
        validation=sum(p.split == "validation" for p in labelled) if split else None,
        label_column=label_column,
        notes=data.notes,
    )


@dataclass(frozen=True)
class Teacher:
    """What was found of the teacher, in a sentence, and what must be done about it."""

    found: str
    retrain: str | None = None  # the last layer, where the weights are of other classes


def look_at_onnx(path: Path, spec: "InputSpec") -> Teacher:
    """Load the file and run it once.

    Raises:
        UserError: nothing that onnxruntime loads, images of another size, other classes.
    """
    import numpy as np

    from compress.models.class_names import check_class_names
    from compress.models.onnx_teacher import noted_spec, read_onnx, taken_by
    from compress.runtimes.onnxruntime import OnnxSession

    model = read_onnx(path)
    noted, channels = noted_spec(model), taken_by(model).channels
    check_class_names(None if noted is None else list(noted.classes), spec.classes)
    session = OnnxSession(path, threads=1, size=spec.size)
    height, width = session.image_size
    if session.image_size != spec.size:
        size = said_size(session.image_size)
        raise UserError(f"{path} takes images of {height} x {width}: give --image-size {size}.")
    if channels not in (None, spec.shape[0]):
        raise UserError(
            f"{path} takes images of {channels} channels: give --mean and --std with one "
            "number for grey images (1 channel), with three for colours."
        )
    images = np.zeros((session.batch_size or 1, *spec.shape), np.float32)
    outputs = next(iter(session.run(images).values())).shape[1:]
    if outputs != (len(spec.classes),):
        raise UserError(
            f"{path} gives outputs of {outputs} for an image, the images are of "
            f"{len(spec.classes)} classes: give the folder that it was trained on."
        )
    fits = f"{len(model.graph.node)} operations, {len(spec.classes)} outputs: they fit"
    if channels is None:
        fits += f"; it leaves the channels of an image free, and gets {spec.shape[0]}"
    if spec.dtype == "uint8":
        fits += "; it takes bytes, and normalises them itself"
    return Teacher(fits)


def said_size(size: tuple[int, int]) -> str:
    """Return height and width as --image-size takes them."""
    height, width = size
    return f"{height}" if height == width else f"{height}x{width}"


def onnx_input(path: Path) -> OwnInput:
    """Return the size of the images that the file takes, or usually, and what else it says of them.

    Raises:
        UserError: not a model.
    """
    from compress.models.onnx_teacher import noted_spec, read_onnx, taken_by

    model = read_onnx(path)
    taken, noted = taken_by(model), noted_spec(model)
    size = (taken.height or USUAL_SIZE[0], taken.width or USUAL_SIZE[1])
    usual = IMAGENET_MEAN, IMAGENET_STD
    own = OwnInput(size, *usual, dtype=taken.kind, layout=taken.layout)
    if noted is not None:
        return replace(own, mean=noted.mean, std=noted.std, channels=noted.channels, fit=noted.fit)
    if own.dtype == "uint8":
        count = taken.channels or 3
        own = replace(own, mean=(0.0,) * count, std=(BYTE_STD,) * count)
    return replace(own, channels="grey") if taken.channels == 1 else own


def network_input(builder: str, weights: str, outputs: int, allowed: Sequence[str]) -> OwnInput:
    """Return what weights, or the library that they are of, say of their images, or what is usual.

    Args:
        weights: a file, or `torchvision:…`.
        outputs: how many classes to build the network for.

    Raises:
        UserError: the network cannot be built, torchvision has no such weights.
    """
    from compress.models.builders import build
    from compress.models.checkpoint import noted_in

    network = build(builder, {}, outputs, allowed)
    if weights.startswith(TORCHVISION):
        return torchvision_input(network, weights)
    if noted := noted_input(noted_in(Path(weights))):
        return noted
    own = library_input(network, builder) if hasattr(network, "pretrained_cfg") else None
    return own or OwnInput(USUAL_SIZE, IMAGENET_MEAN, IMAGENET_STD)


def look_at_network(
    builder: str, weights: str, spec: "InputSpec", allowed: Sequence[str]
) -> Teacher:
    """Build the network for the images' classes and compare it with the weights.

    Args:
        weights: a file, or `torchvision:…`, of which only the number of classes is looked up.

    Raises:
        UserError: weights of another network, a network that does not take such images.
    """
    from compress.models.builders import build, weight_conversion
    from compress.models.class_names import check_class_names, order_in
    from compress.models.trial import check_forward

    network = build(builder, {}, len(spec.classes), allowed, spec.shape)
    check_forward(network, spec, builder)
    if weights.startswith(TORCHVISION):
        tensors: dict[str, Tensor] = _downloadable(builder, weights, allowed)
        metadata: dict[str, Any] = {}
        notes: list[str] = []
    else:
        from compress.models.checkpoint import read_checkpoint
        from compress.models.weight_names import fitted

        found, metadata = read_checkpoint(Path(weights))
        tensors, notes = fitted(found, network)
        if weight_conversion(builder):
            return Teacher(f"{len(tensors)} tensors, which its builder converts; not compared yet")
    last = _other_classes(network, tensors)
    if last is not None:
        count = len(next(v for k, v in tensors.items() if k.startswith(f"{last}.")))
        return Teacher(f"{len(tensors)} tensors, for {count} classes: {last} does not fit", last)
    _load(network, tensors, weights)
    check_class_names(order_in(metadata), spec.classes)
    fits = f"{len(tensors)} tensors, {len(spec.classes)} classes: they fit"
    return Teacher("; ".join((fits, *notes)))


def refuse_unprunable(builder: str, spec: "InputSpec", allowed: Sequence[str]) -> None:
    """Raise the UserError that pruning would, before anything is trained."""
    from compress.methods.prune.channel_groups import PrunableNetwork
    from compress.models.builders import build

    PrunableNetwork(build(builder, {}, len(spec.classes), allowed, spec.shape), spec)


def _load(network: "nn.Module", tensors: "dict[str, Tensor]", weights: str) -> None:
    from compress.models.checkpoint import load_into

    load_into(network, tensors, Path(weights))


def _downloadable(builder: str, weights: str, allowed: Sequence[str]) -> "dict[str, Tensor]":
    """Return tensors of the shapes that the weights must have: nothing is downloaded yet."""
    from compress.models.builders import build

    categories = torchvision_weights(weights).meta["categories"]
    return build(builder, {}, len(categories), allowed).state_dict()


def _other_classes(network: "nn.Module", tensors: "dict[str, Tensor]") -> str | None:
    """Return the layer that is of other classes, where it is the only one that does not fit."""
    wanted = network.state_dict()
    if wanted.keys() - {k for k in wanted if k.endswith("num_batches_tracked")} - tensors.keys():
        return None
    others = [k for k, v in wanted.items() if k in tensors and tensors[k].shape != v.shape]
    layers = {k.rpartition(".")[0] for k in others}
    same_inputs = all(tensors[k].shape[1:] == wanted[k].shape[1:] for k in others)
    return layers.pop() if len(layers) == 1 and same_inputs else None
