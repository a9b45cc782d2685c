"""The options of a budget: every command that asks for one takes the same."""

from typing import Annotated, Any

import typer

from compress.analysis.budget import Budget

Speedup = Annotated[
    float | None,
    typer.Option(help="At least so many times faster than the teacher in the same runtime."),
]
MaxAccuracyDrop = Annotated[
    float | None, typer.Option(help="Accuracy that may be lost, as a fraction: 0.01 is one point.")
]
LatencyMs = Annotated[float | None, typer.Option(help="At most so many milliseconds an image.")]
MinAccuracy = Annotated[
    float | None, typer.Option(help="At least this accuracy, as a fraction: 0.8 is 80 %.")
]
MaxBytes = Annotated[str | None, typer.Option(help="A file of at most this size: 5000000, or 5MB.")]
MaxMemory = Annotated[
    str | None, typer.Option(help="At most this peak memory of its process, e.g. 200MB.")
]
Runtime = Annotated[str | None, typer.Option(help="onnxruntime, openvino or openvino-bf16 only.")]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="All bounds together must be met with this probability, e.g. 0.95; without it, by the "
        "numbers as measured."
    ),
]


def asked(**options: Any) -> Budget | None:
    """Return the budget of the options; None where none of them was given.

    Args:
        options: arguments of `Budget.typed`.
    """
    given = any(value is not None for value in options.values())
    return Budget.typed(**options) if given else None
