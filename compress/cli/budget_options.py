"""The options of a budget: every command that asks for one takes the same."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Annotated, Any

import typer

Bounds = dict[str, Any]  # arguments of `Budget.typed`, of the options that were given


def _options(
    *,
    speedup: Annotated[
        float | None,
        typer.Option(help="At least so many times faster than the teacher in the same runtime."),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(help="Accuracy that may be lost, as a fraction: 0.01 is one point."),
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="At most so many milliseconds a picture.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="At least this accuracy, as a fraction: 0.8 is 80 %.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="A file of at most this size: 5000000, or 5MB.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="At most this peak memory of its process, e.g. 200MB.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="onnxruntime, openvino or openvino-bf16 only.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="All bounds together must be met with this probability, e.g. 0.95; without it, "
            "by the numbers as measured."
        ),
    ] = None,
) -> None:
    """Only its signature is used."""


def with_bounds(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `bounds` stands for all these options on the command line."""
    options, own = signature(_options).parameters, signature(command)

    @wraps(command)
    def called(**values: Any) -> None:
        given = {name: values.pop(name) for name in options}
        command(bounds={k: v for k, v in given.items() if v is not None}, **values)

    shown = [
        parameter
        for name, one in own.parameters.items()
        for parameter in (options.values() if name == "bounds" else (one,))
    ]
    called.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
    return called
