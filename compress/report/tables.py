"""The columns that every format shows, as text, and the plain numbers for the CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.analysis.controls import beside_name
from compress.analysis.summary import Summary
from compress.results.schema import TOP1, Result, Speedup
from compress.utils import units
from compress.utils.interval import Interval

MARK = "\u2605"  # a star, readable without colour


@dataclass(frozen=True)
class Column:
    """A heading with its unit, how to fill it, and what it means."""

    heading: str
    cell: Callable[[Result], str]
    meaning: str
    numeric: bool = True


def labelled(row: Result) -> str:
    """The candidate's name with its role, and whether it was dropped."""
    return ", ".join([row.candidate, *beside_name(row)])


def ratio(speedup: Speedup | None) -> Interval | None:
    """The ratio, where one was measured."""
    return None if speedup is None else speedup.ratio


def largest_batch(rows: Sequence[Result]) -> str:
    """`batch 32`, or `largest batch` where rows differ."""
    batches = {max(x.batch for x in row.latency) for row in rows}
    return f"batch {batches.pop()}" if len(batches) == 1 else "largest batch"


def smallest_batch(rows: Sequence[Result]) -> str:
    """`batch 1`, or `smallest batch` where rows differ."""
    batches = {min(x.batch for x in row.latency) for row in rows}
    return f"batch {batches.pop()}" if len(batches) == 1 else "smallest batch"


def task_word(rows: Sequence[Result]) -> str:
    """What the share of right answers is called; rows of one table have one task."""
    return rows[0].accuracy.word if rows else TOP1


def bound_s(row: Result, percent: int) -> float | None:
    """What so many calls take at most; None where there were too few samples to say."""
    return next(
        (x.bound_s for x in row.at_smallest_batch.percentiles if x.percent == percent), None
    )


def columns(rows: Sequence[Result]) -> list[Column]:
    """The main table."""
    small, large, word = smallest_batch(rows), largest_batch(rows), task_word(rows)
    return [
        Column("candidate", labelled, "the model, and its role", numeric=False),
        Column("runtime", lambda r: r.artifact.runtime, "what loads the file", numeric=False),
        Column(
            f"{word} %",
            lambda r: units.percent_half(r.accuracy.top1),
            "right answers on the validation split, with half the interval",
        ),
        Column(
            "drop, points",
            lambda r: units.points_interval(r.accuracy.top1_drop),
            f"{word} of the teacher minus this, paired on the same images, with its interval",
        ),
        Column(
            f"ms, {small}",
            lambda r: units.ms(r.latency_s),
            "of one call: the median of the processes' medians",
        ),
        Column(
            f"images per s, {large}",
            lambda r: units.significant(r.throughput),
            "throughput of one process",
        ),
        Column(
            "speedup, same runtime",
            lambda r: units.times(ratio(r.speedup)),
            "against the teacher in the same runtime: what compression alone gave",
        ),
        Column(
            "speedup, as served",
            lambda r: units.times(ratio(r.speedup_as_served)),
            "against the teacher in torch eager: what a user of the teacher gains in all",
        ),
        Column("MB", lambda r: units.megabytes(r.artifact.size_bytes), "the deployed file"),
        Column("MACs", lambda r: units.count(r.artifact.macs), "multiply-accumulates an image"),
    ]


def more_columns(summary: Summary) -> list[Column]:
    """The second table: what the first has no room for."""
    rows, chances = summary.rows, summary.front_probability
    small, large = smallest_batch(rows), largest_batch(rows)
    return [
        Column("candidate", labelled, "the model, and its role", numeric=False),
        Column("runtime", lambda r: r.artifact.runtime, "what loads the file", numeric=False),
        Column(
            "on the front %",
            lambda r: units.percent(chances[r.key]),
            f"probability of the front, by latency and {task_word(rows)}",
        ),
        *_of_task(rows),
        _percentile(90, small),
        _percentile(99, small),
        Column(
            "speedup with interval",
            lambda r: units.times_interval(ratio(r.speedup)),
            "same runtime; Student's t over the processes",
        ),
        Column(
            f"speedup, {large}",
            lambda r: units.times(ratio(r.throughput_speedup)),
            "same runtime, in throughput",
        ),
        Column(
            "memory MB",
            lambda r: units.megabytes(r.peak_memory_bytes),
            "peak of a fresh process that loads the file and runs it once",
        ),
        Column(
            "cold start ms",
            lambda r: units.ms(r.cold_start_s),
            "loading the file and the first call in a fresh process",
        ),
        Column(
            "energy mJ",
            lambda r: units.significant(r.energy_j and 1e3 * r.energy_j),
            "of the CPU for one call; a dash where the system does not count it",
        ),
        Column("parameters", lambda r: units.count(r.artifact.parameters), "in the file"),
        Column(
            "input",
            lambda r: f"{r.artifact.input_height} x {r.artifact.input_width}",
            "height x width in pixels",
        ),
    ]


def _of_task(rows: Sequence[Result]) -> list[Column]:
    """Return the columns of what the rows' task tells beside the number they are judged by."""
    tells_itself = any(row.accuracy.task for row in rows)
    built_in = [] if tells_itself else _of_points(rows) or _of_classes()
    return [*built_in, *_of_further(rows)]


def _of_further(rows: Sequence[Result]) -> list[Column]:
    """Return the columns of the numbers that come with a name of their own."""

    def column(name: str, meaning: str) -> Column:
        def cell(row: Result) -> str:
            found = next((x for x in row.accuracy.further if x.name == name), None)
            return units.NONE if found is None else units.with_half(found.value, found.interval)

        return Column(name, cell, meaning)

    told = {
        x.name: f"{x.meaning}; {x.better}: better" for row in rows for x in row.accuracy.further
    }
    return [column(name, meaning) for name, meaning in told.items()]


def _of_classes() -> list[Column]:
    return [
        Column("top-5 %", lambda r: units.percent(r.accuracy.top5), "right within five answers"),
        Column("log loss, nats", lambda r: units.significant(r.accuracy.log_loss), "lower: better"),
        Column(
            "macro recall %",
            lambda r: units.percent(r.accuracy.macro_recall),
            "mean recall of the classes in the validation split",
        ),
        Column(
            "agreement %",
            lambda r: units.percent(r.accuracy.agreement),
            "images to which the teacher in the same runtime gives the same answer",
        ),
        Column(
            "calibration error %",
            lambda r: units.percent(r.accuracy.calibration_error),
            "mean distance of confidence from the share of right answers, in 15 bins",
        ),
    ]


def _of_points(rows: Sequence[Result]) -> list[Column]:
    """Those that any of the rows has a number for; none where classes are predicted."""
    apart = "between true and predicted points, in % of the largest between true points"
    found = {
        "mean_iou": ("mean IoU %", 100, "of the true and the predicted box"),
        "median_distance": ("distance, median %", 100, apart),
        "p90_distance": ("distance, p90 %", 100, f"{apart}; nine of ten are nearer"),
        "median_angle_degrees": (
            "angle error, median °",
            1,
            "between the true and the predicted direction from the second point to the first",
        ),
    }

    def number(row: Result, name: str) -> float | None:
        return getattr(row.accuracy.points, name, None)

    def column(name: str, heading: str, factor: int, meaning: str) -> Column:
        def cell(row: Result) -> str:
            value = number(row, name)
            return units.significant(None if value is None else factor * value)

        return Column(heading, cell, meaning)

    return [
        column(name, *described)
        for name, described in found.items()
        if any(number(row, name) is not None for row in rows)
    ]


def _percentile(percent: int, batch: str) -> Column:
    return Column(
        f"p{percent} ms, {batch}",
        lambda r: units.ms(bound_s(r, percent)),
        f"{percent} of 100 calls take at most this (99 % confidence); a dash: too few samples",
    )


def csv_text(summary: Summary) -> str:
    """One line a row, SI units and fractions, unrounded; empty where not measured."""
    out = io.StringIO()
    front, chances = summary.front, summary.front_probability
    lines = [_plain(row, row in front, chances[row.key]) for row in summary.rows]
    columns = dict.fromkeys(column for line in lines for column in line)
    writer = csv.DictWriter(out, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _plain(row: Result, in_front: bool, chance: float | None) -> dict[str, object]:
    served = ratio(row.speedup_as_served)
    small, large = row.at_smallest_batch, row.at_largest_batch
    return {
        "recipe": row.recipe,
        "candidate": row.candidate,
        "role": row.role,
        "runtime": row.artifact.runtime,
        "front": int(in_front),
        "front_probability": chance,
        "dropped": int(row.dropped is not None),
        **_ends("top1", row.accuracy.top1),
        **_ends("top1_drop", row.accuracy.top1_drop),
        "top1_drop_p_value": row.accuracy.drop_p_value,
        "agreement": row.accuracy.agreement,
        "top5": row.accuracy.top5,
        "log_loss_nats": row.accuracy.log_loss,
        "macro_recall": row.accuracy.macro_recall,
        **(row.accuracy.points.model_dump() if row.accuracy.points else {}),
        **_further(row),
        "calibration_error": row.accuracy.calibration_error,
        "images": row.accuracy.images,
        "threads": small.threads,
        "batch": small.batch,
        "latency_s": small.median_s,
        "latency_p95_s": small.p95_s,
        "latency_p99_bound_s": bound_s(row, 99),
        "largest_batch": large.batch,
        "images_per_s": large.images_per_s,
        **_ends("speedup", ratio(row.speedup)),
        "speedup_as_served": served and served.value,
        "size_bytes": row.artifact.size_bytes,
        "parameters": row.artifact.parameters,
        "macs": row.artifact.macs,
        "peak_memory_bytes": row.peak_memory_bytes,
        "cold_start_s": row.cold_start_s,
        "energy_j": row.energy_j,
        "sha256": row.artifact.sha256,
    }


def _further(row: Result) -> dict[str, object]:
    """What the task gives beside the number that networks are judged by; in its own units."""
    found: dict[str, object] = {}
    for metric in row.accuracy.further:
        found[metric.name] = metric.value
        if metric.interval is not None:
            found |= _ends(metric.name, metric.interval)
    return found


def _ends(name: str, interval: Interval | None) -> dict[str, object]:
    """The value and the two ends, a column each."""
    return {
        name: interval and interval.value,
        f"{name}_low": interval and interval.low,
        f"{name}_high": interval and interval.high,
    }
