"""The options of a budget: every command that asks for one takes the same."""

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


def asked(**options: Any) -> Budget | None:
    """Return the budget of the options; None where none of them was given.

    Args:
        options: arguments of `Budget.typed`.
    """
    given = any(value is not None for value in options.values())
    return Budget.typed(**options) if given else None
