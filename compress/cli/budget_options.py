"""The options of a budget: every command that asks for one takes the same."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from compress.analysis.budget import Budget

Speedup = Annotated[
    str | None,
    typer.Option(help="At least so many times faster than the teacher in the same runtime: 5x."),
]
MaxAccuracyDrop = Annotated[
    str | None, typer.Option(help="Accuracy that may be lost: 1% is one point, and so is 0.01.")
]
Latency = Annotated[str | None, typer.Option(help="At most so long an image: 20ms, 0.02s, 500us.")]
MinAccuracy = Annotated[str | None, typer.Option(help="At least this accuracy: 80%, or 0.8.")]
MaxBytes = Annotated[
    str | None, typer.Option(help="A file of at most this size: 6MB, 6MiB, 6000000.")
]
MaxMemory = Annotated[
    str | None, typer.Option(help="At most this peak memory of its process: 200MB.")
]
Runtime = Annotated[str | None, typer.Option(help="onnxruntime, openvino or openvino-bf16 only.")]
Confidence = Annotated[
    str | None,
    typer.Option(
        help="All bounds together must be met with this probability: 95%, or 0.95; without it, by "
        "the numbers as measured."
    ),
]
OPTIONS = {
    "speedup": Speedup,
    "max_accuracy_drop": MaxAccuracyDrop,
    "latency": Latency,
    "min_accuracy": MinAccuracy,
    "max_bytes": MaxBytes,
    "max_memory": MaxMemory,
    "runtime": Runtime,
    "confidence": Confidence,
}


def takes_budget(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in the place of its parameter `budget`.

    It is called with the `Budget` that they make; None where none of them was given.
    """
    written = signature(command)
    options = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=option)
        for name, option in OPTIONS.items()
    ]
    parameters = [
        each
        for own in written.parameters.values()
        for each in (options if own.name == "budget" else [own])
    ]
    shown = written.replace(parameters=parameters)

    @wraps(command)
    def called(*words: Any, **named: Any) -> None:
        given = shown.bind(*words, **named).arguments
        limits = {name: given.pop(name, None) for name in OPTIONS}
        command(**given, budget=_asked(limits))

    called.__signature__ = shown  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def _asked(options: dict[str, Any]) -> Budget | None:
    given = any(value is not None for value in options.values())
    return Budget.typed(**options) if given else None
