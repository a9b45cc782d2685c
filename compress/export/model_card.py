"""What a model card says: the numbers with their intervals and conditions, and their limits."""

from collections.abc import Callable, Iterator
from typing import Any

from compress.data.input_spec import InputSpec
from compress.results.schema import Result
from compress.tasks import task_of
from compress.utils import units
from compress.utils.interval import Interval
from compress.utils.text import markdown_code, markdown_escape


def card(row: Result, spec: InputSpec, why: str) -> dict[str, Any]:
    """The values of README.md.j2, escaped."""
    return {
        "candidate": markdown_escape(f"{row.candidate} for {row.artifact.runtime}"),
        "why": markdown_escape(why),
        "facts": [(fact, markdown_escape(value)) for fact, value in _facts(row, spec)],
        "limits": [markdown_escape(limit) for limit in _limits(row, spec)],
        "lineage": [markdown_escape(step) for step in row.lineage],
        "command": markdown_code(row.command),
    }


def _facts(row: Result, spec: InputSpec) -> Iterator[tuple[str, str]]:
    accuracy, file, machine = row.accuracy, row.artifact, row.machine
    yield (
        accuracy.word,
        f"{_interval(accuracy.top1, units.percent, ' %')}, on {accuracy.images} validation "
        f"images (data {row.data})",
    )
    if accuracy.points is not None:
        yield "right means", accuracy.points.rule
        yield "median distance", f"{units.percent(accuracy.points.median_distance)} %"
    elif accuracy.task:
        for metric in accuracy.further:
            yield metric.name, units.significant(metric.value)
    else:
        yield "top-5", f"{units.percent(accuracy.top5)} %"
        yield "macro recall", f"{units.percent(accuracy.macro_recall)} %"
        yield "log loss", f"{units.significant(accuracy.log_loss)} nats"
    if accuracy.top1_drop is not None:
        drop = _interval(accuracy.top1_drop, units.points, " points")
        yield f"{accuracy.word} lost against the teacher", f"{drop}, on the same images"
    if row.speedup is not None and row.role != "teacher":
        ratio = _interval(row.speedup.ratio, units.significant, " times")
        yield "faster than the teacher", f"{ratio}, both in {row.speedup.runtime}"
    for latency in sorted(row.latency, key=lambda x: x.batch):
        yield (
            f"time of a call, batch {latency.batch}",
            f"{units.ms(latency.median_s)} ms (median; 19 of 20 take less than "
            f"{units.ms(latency.p95_s)} ms), {latency.threads} "
            f"thread{'s' if latency.threads != 1 else ''}",
        )
    if row.peak_memory_bytes is not None:
        yield "memory", f"{units.megabytes(row.peak_memory_bytes)} MB, Python and runtime included"
    yield "file", f"{units.megabytes(file.size_bytes)} MB, sha256 {file.sha256}"
    colours = {"rgb": "RGB", "bgr": "BGR (blue first)", "grey": "grey"}[spec.channels]
    yield "input", f"{colours}, {spec.height} x {spec.width} pixels ({spec.fit}); see model.json"
    yield from task_of(spec).described()
    yield "measured on", f"{machine.cpu}, {machine.cores} cores, {machine.system}"
    versions = ", ".join(f"{k} {v}" for k, v in sorted(machine.versions.items()))
    yield "versions", f"Python {machine.python}, {versions}"
    yield "measured at", row.measured_at


def _limits(row: Result, spec: InputSpec) -> Iterator[str]:
    yield (
        "Times were measured on this CPU with these versions only; on another one measure again: "
        "it may rank models otherwise."
    )
    yield (
        f"It always answers {task_of(spec).always}, also for an image that shows nothing of the "
        "kind. Its accuracy holds for images like those it was judged on."
    )
    if row.training and row.training.unlabelled_images:
        yield (
            f"It also learned from {row.training.unlabelled_images} unlabelled images. If it "
            "is judged or used on these, that is transductive: expect less on others."
        )
    if row.role == "control":
        yield "It was trained as a control: made like another candidate but for one thing."
    yield from row.notes


def _interval(interval: Interval, text: Callable[[float], str], unit: str) -> str:
    return (
        f"{text(interval.value)}{unit} ({100 * interval.confidence:g} % interval "
        f"{text(interval.low)} to {text(interval.high)})"
    )
