"""What is wrong with an answer of another shape than a task's output, where that can be told."""

from math import prod
from typing import Any

from compress.data.input_spec import InputSpec, Shape


def why_other(answer: Any, images: int, shape: Shape, spec: InputSpec) -> str | None:
    """Return what a network answers instead of an output, and what to do; None: it does not tell.

    Args:
        answer: an array or tensor, of another shape than (images, *shape).
        images: how many it is for.
        shape: what the task's output has for one image.
    """
    if images == 1 and tuple(answer.shape) in (shape, ()):
        return "it drops the axis of images where there is one: name the axis in squeeze(…)"
    if tuple(answer.shape[:1]) != (images,):
        return None
    given = tuple(answer.shape[1:])
    if given[: len(shape)] == shape and set(given[len(shape) :]) == {1}:
        return "it has further axes of 1: flatten it (torch.flatten(x, 1) at the end)"
    count = len(spec.classes)
    if not count:
        return None
    if prod(given) == 1:
        whole = bool((answer * 1.0 % 1 == 0).all())
        if count == 2 and not (whole and given == ()):
            return (
                "it has one output, the probability (or logit) of the second class: give it two, "
                "torch.cat([-z, z], 1) / 2 of its logit z"
            )
        if whole:
            return "it answers with a class number: let it give the logits, without argmax"
    if given == (count + 1,):
        return (
            "it has one class more than the data, a background class or one whose folder is "
            "missing: leave that output out, or add the folder"
        )
    return None
