"""What a model card says: the numbers with their intervals and conditions, and their limits."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from compress.data.input_spec import InputSpec
from compress.results.schema import Result
from compress.tasks import task_of
from compress.utils import units
from compress.utils.interval import Interval
from compress.utils.text import markdown_code, markdown_escape

OF_A_PHOTOGRAPH = "time from a photograph's bytes to the answer"
Fact = tuple[str, str]  # what, and what is said of it


def card(row: Result, why: str, own: Iterable[Fact], always: str) -> dict[str, Any]:
    """The values of README.md.j2, escaped.

    Args:
        own: what is to be known of the network, or of several, beside what was measured.
        always: what it answers whatever it is shown.
    """
    facts = [*_measured(row), *own, *_circumstances(row)]
    return {
        "candidate": markdown_escape(f"{row.candidate} for {row.artifact.runtime}"),
        "why": markdown_escape(why),
        "facts": [(fact, markdown_escape(value)) for fact, value in facts],
        "limits": [markdown_escape(limit) for limit in _limits(row, always)],
        "origins": [tuple(map(_said, (x.what, x.licence, x.source))) for x in row.origins],
        "lineage": [markdown_escape(step) for step in row.lineage],
        "command": markdown_code(row.command),
    }


def _said(text: str | None) -> str:
    return markdown_escape(text or "unknown")


def network_facts(spec: InputSpec) -> Iterator[Fact]:
    """Yield what a network takes and answers."""
    yield "input", f"{input_of(spec)} ({spec.fit}); see model.json"
    yield from task_of(spec).described()


def input_of(spec: InputSpec) -> str:
    """Return what a network takes, in words."""
    colours = {"rgb": "RGB", "bgr": "BGR (blue first)", "grey": "grey"}[spec.channels]
    return f"{colours}, {spec.height} x {spec.width} pixels"


def _measured(row: Result) -> Iterator[Fact]:
    accuracy, file = row.accuracy, row.artifact
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
            yield metric.name, units.with_half(metric.value, metric.interval)
    else:
        yield "top-5", f"{units.percent(accuracy.top5)} %"
        if accuracy.macro_recall is not None:
            yield "macro recall", f"{units.percent(accuracy.macro_recall)} %"
        if accuracy.log_loss is not None:
            yield "log loss", f"{units.significant(accuracy.log_loss)} nats"
    if accuracy.top1_drop is not None:
        drop = _interval(accuracy.top1_drop, units.points, " points")
        yield f"{accuracy.word} lost against the teacher", f"{drop}, on the same images"
    if row.speedup is not None and row.role != "teacher":
        ratio = _interval(row.speedup.ratio, units.significant, " times")
        yield "faster than the teacher", f"{ratio}, both in {row.speedup.runtime}"
    for latency in sorted(row.latency, key=lambda x: x.batch):
        yield (
            f"time of a call, batch {latency.batch}" if row.pipeline is None else OF_A_PHOTOGRAPH,
            f"{units.ms(latency.median_s)} ms (median; 19 of 20 take less than "
            f"{units.ms(latency.p95_s)} ms), {latency.threads} "
            f"thread{'s' if latency.threads != 1 else ''}",
        )
    if row.peak_memory_bytes is not None:
        yield "memory", f"{units.megabytes(row.peak_memory_bytes)} MB, Python and runtime included"
    what, of = ("file", "") if row.pipeline is None else ("files", " of their hashes")
    yield what, f"{units.megabytes(file.size_bytes)} MB, sha256{of} {file.sha256}"


def _circumstances(row: Result) -> Iterator[Fact]:
    machine = row.machine
    yield "measured on", f"{machine.cpu}, {machine.cores} cores, {machine.system}"
    versions = ", ".join(f"{k} {v}" for k, v in sorted(machine.versions.items()))
    yield "versions", f"Python {machine.python}, {versions}"
    yield "measured at", row.measured_at


def _limits(row: Result, always: str) -> Iterator[str]:
    yield (
        "Times were measured on this CPU with these versions only; on another one measure again: "
        "it may rank models otherwise."
    )
    yield (
        f"It always answers {always}, also for an image that shows nothing of the "
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
