"""A network is tried on two empty images: what of its answer is meant, and that it can be used."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.input_spec import InputSpec
from compress.models.channels import other_channels
from compress.models.output_shapes import why_other
from compress.models.reparametrized import reparametrized
from compress.models.repeatability import refuse_unrepeatable
from compress.models.weight_names import is_auxiliary
from compress.runtimes.outputs import by_name, fitting_parts, parts_of
from compress.utils.errors import UserError

# Pixels that networks are made for: those of other sizes are told one that would do.
USUAL_SIZES = (28, 32, 64, 96, 128, 160, 192, 224, 256, 299, 384, 448, 518)

NOISES = 4  # images: half of them are two, which batch norms need


def check_forward(model: nn.Module, spec: InputSpec, builder: str) -> list[str]:
    """Run two empty images in both modes, and some noise twice: better now than after hours.

    Returns:
        What is taken of several outputs and what is left out, a sentence each.

    Raises:
        UserError: the network does not take such images, gives no such outputs, or several that
            could be meant, or answers the same images otherwise each time; it cannot be copied.
    """
    trial = _copied(model, builder)  # batch norms take notice of what they see
    answered = _run(trial.eval(), spec, builder)
    taken = _taken(answered, spec, builder, training=False)
    _refuse_unrepeatable(trial, spec, builder)
    trained = _run(trial.train(), spec, builder)
    taken_in_training = _taken(trained, spec, builder, training=True)
    if len(spec.outputs) == 1:
        _check_first_head(trial, trained, spec, builder)
    notes = []
    parts, parts_in_training = parts_of(answered), parts_of(trained)
    if len(parts) > len(taken):
        notes.append(f"{_where(taken, parts)} is taken of its outputs ({', '.join(parts)})")
    if len(parts_in_training) > len(parts):
        notes.append(
            f"{_where(taken_in_training, parts_in_training)} is taken of what it gives in training "
            f"({', '.join(parts_in_training)})"
        )
    return notes


def _copied(model: nn.Module, builder: str) -> nn.Module:
    """Return a copy; refuse a network whose weights are computed before it is called."""
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever somebody's network raises
        why = reparametrized(model) or (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{builder} gives a network that cannot be copied: {why}.") from error


def _taken(given: Any, spec: InputSpec, builder: str, training: bool) -> dict[str, Any]:
    """Return the task's outputs for two images by name; refuse those of another shape."""
    try:
        taken = by_name(given, spec.outputs, training)
    except UserError as error:
        raise UserError(f"{builder}: {error}") from error
    for name, shape in spec.outputs.items():
        if tuple(taken[name].shape) != (2, *shape):
            why = why_other(taken[name], 2, shape, spec) or f"it is to predict {spec.named}"
            raise UserError(
                f"{builder} gives {tuple(taken[name].shape)} for two images; expected "
                f"{(2, *shape)}: {why}."
            )
    return taken


def _refuse_unrepeatable(trial: nn.Module, spec: InputSpec, builder: str) -> None:
    """Refuse a network in evaluation mode that the export would refuse, once it is trained.

    Whoever draws random numbers behind this gets the same as without it.
    """
    noise = torch.randn(NOISES, *spec.shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        refuse_unrepeatable(trial, noise, builder)


def _where(taken: dict[str, Any], parts: dict[str, Any]) -> str:
    """Say which of the parts are taken."""
    return " and ".join(p for p, part in parts.items() if any(part is x for x in taken.values()))


def _check_first_head(trial: nn.Module, trained: Any, spec: InputSpec, builder: str) -> None:
    """Refuse a network whose first output in training is not what it answers otherwise.

    An output is known by the weights that it comes from: numbers differ with dropout.

    Args:
        trained: what it gives in training, where the first of several of the shape is taken.

    Raises:
        UserError: the first is another head's, or its answer is made of several.
    """
    ((name, shape),) = spec.outputs.items()
    fitting = fitting_parts(parts_of(trained), shape)
    if len(fitting) < 2:
        return
    images = torch.zeros(2, *spec.shape)
    with torch.enable_grad():
        heads = by_name(trial.train()(images), spec.outputs, training=True)
        answer = by_name(trial.eval()(images), spec.outputs)
    if _weights_of(heads[name], trial) != _weights_of(answer[name], trial):
        raise UserError(
            f"{builder} gives {' and '.join(fitting)} in training, and the one that would be "
            f"taken is not what it answers otherwise: let it return that one first, or call it "
            f"{name}."
        )


def _weights_of(output: Tensor, model: nn.Module) -> set[str]:
    """Return the names of the weights that an output depends on."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not output.requires_grad:
        return set()
    found = torch.autograd.grad(output.float().sum(), list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, found, strict=True) if gradient is not None}


@torch.no_grad()
def _run(trial: nn.Module, spec: InputSpec, builder: str) -> Any:
    """Return what the network gives for two empty images.

    Raises:
        UserError: nothing; says which size it takes.
    """
    try:
        return trial(torch.zeros(2, *spec.shape))
    except Exception as error:  # whatever somebody's network raises
        if reason := other_channels(trial, spec.shape):
            raise UserError(f"{builder} {reason}.") from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        when = " in training" if trial.training else ""
        remedy = ", or ".join(_remedies(trial, spec))
        raise UserError(
            f"{builder} does not take images of {spec.height} x {spec.width}{when}"
            + (f": {remedy} ({lines[0]})" if remedy else f": {lines[0]}")
        ) from error


def _remedies(trial: nn.Module, spec: InputSpec) -> Iterator[str]:
    """Yield what to do about a network that does not take images of this size in this mode."""
    size = max(spec.height, spec.width)
    other = _size_taken(trial, size, spec.shape[0])
    if other is not None:
        why = "they are too small, it takes" if other > size else "it takes"
        yield f"{why} {other} x {other}"
    if trial.training and any(is_auxiliary(name) for name, _ in trial.named_children()):
        yield "build it without its auxiliary heads (settings: {aux_logits: false})"


def _size_taken(trial: nn.Module, size: int, channels: int) -> int | None:
    """Return the least of the larger sizes that the network takes, or else a smaller one."""

    def takes(pixels: int) -> bool:
        try:
            trial(torch.zeros(2, channels, pixels, pixels))
        except Exception:  # as above
            return False
        return True

    fails = size
    for larger in (x for x in USUAL_SIZES if x > size):
        if takes(larger):
            while larger - fails > 1:
                middle = (fails + larger) // 2
                fails, larger = (fails, middle) if takes(middle) else (middle, larger)
            return larger
        fails = larger
    return next((x for x in reversed(USUAL_SIZES) if x < size and takes(x)), None)
