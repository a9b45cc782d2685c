"""`compress bench`: which of these files is faster, and by how much?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.paths import on_disk

if TYPE_CHECKING:
    from compress.measure.bench import Timing


def bench(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="ONNX files or OpenVINO models (.xml); each is compared with the first.",
            callback=on_disk,
        ),
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, openvino or openvino-bf16; repeatable. Without it, by the file's "
            "format."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Images a call; repeatable.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Without it, all cores.")] = None,
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes, each times all.")] = 5,
    rounds: Annotated[int, typer.Option(min=5, help="A process's samples at batch 1.")] = 20,
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels of a side, or height x width, for models that leave them free: 224, "
            "480x640."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers and samples.")] = False,
) -> None:
    """Time model files, interleaved in several fresh processes, with intervals.

    Speedups are against the first file, within one runtime and with the same threads. Inputs may be
    of any number, type and shape; they are random numbers.
    """
    from compress.measure.bench import bench as time_files
    from compress.measure.deployable import height_and_width
    from compress.measure.machine import usable_threads
    from compress.report.bench import show_timings

    chosen = threads or usable_threads()
    timings = time_files(
        files,
        _known(runtime or []),
        sorted(set(batch or [1])),
        chosen,
        processes,
        rounds,
        lambda done, total: typer.echo(f"process {done} of {total}", err=True),
        None if size is None else height_and_width(size),
    )
    for line in dict.fromkeys(f"{x.file} was fed random numbers: {x.fed}" for x in timings):
        typer.echo(line, err=True)
    said = (f"{x.file} in {x.runtime}: {x.differs}" for x in timings if x.differs is not None)
    for line in dict.fromkeys(said):  # once, not for every batch
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps([_as_json(timing) for timing in timings], indent=2))
    else:
        show_timings(timings, chosen, processes)


def _known(runtimes: list[str]) -> list[str]:
    """Return the runtimes.

    Raises:
        UserError: one of them does not exist.
    """
    from compress.runtimes import runtime_named

    return [runtime_named(name).name for name in runtimes]


def _as_json(timing: "Timing") -> dict[str, object]:
    return asdict(timing) | {
        "latency": timing.latency.model_dump(),
        "speedup": timing.speedup and timing.speedup.model_dump(),
    }
