"""What a report says of pipelines: predicted beside measured, by part and by photograph."""

from collections.abc import Iterator, Sequence

from compress.report import units
from compress.report.say import name
from compress.results import Judged, Result, Verdict

Rows = list[list[str]]  # the heading's first


def verdict_lines(said: Verdict) -> Iterator[str]:
    """A verdict for a terminal; what was not judged is left out."""
    if said.top1 is not None:
        top1 = said.top1
        yield (
            f"top-1 {units.percent(top1.value)} % (95 %: {units.percent(top1.low)} to "
            f"{units.percent(top1.high)}), top-5 {units.percent(said.top5)} %, a name given for "
            f"{units.percent(said.named)} %"
        )
    if said.mean_iou is not None:
        yield (
            f"box: mean IoU {units.significant(said.mean_iou)}, its centre inside the true one in "
            f"{units.percent(said.centres_inside)} %"
        )
    if said.median_distance is not None:
        yield (
            f"points: median distance {units.percent(said.median_distance)} % of that between the "
            f"true points, median angle error "
            f"{units.significant(said.median_angle_error_degrees)} degrees"
        )
    p50, p95 = units.ms(said.p50_s), units.ms(said.p95_s)
    yield f"time from the file's bytes to the answer: p50 {p50} ms, p95 {p95} ms"
    parts = [f"{part} {units.ms(seconds)}" for part, seconds in said.parts_s.items()]
    yield f"parts, median ms: {', '.join(parts)}"


def end_to_end(rows: Sequence[Result]) -> Rows:
    """A table of the pipelines: what was predicted, and what was measured from bytes to name."""
    heading = [
        *("pipeline", "runtime", "ms, predicted", "ms, measured", "difference %"),
        *("top-1 %, predicted", "top-1 %, measured", "mean IoU", "centre inside %"),
        *("distance, median %", "angle error, median °", "p95 ms"),
    ]
    table = [heading]
    for row in rows:
        if (facts := row.pipeline) is None:
            continue
        said, predicted = facts.verdict, facts.predicted_s
        off = None if predicted is None else row.latency_s / predicted - 1
        table.append(
            [
                row.candidate,
                row.artifact.runtime,
                units.ms(predicted),
                units.ms(row.latency_s),
                units.NONE if off is None else f"{100 * off:+.1f}",
                units.percent(facts.predicted_top1),
                units.percent(row.accuracy.top1.value),
                units.significant(said.mean_iou),
                units.percent(said.centres_inside),
                units.percent(said.median_distance),
                units.significant(said.median_angle_error_degrees),
                units.ms(row.latency[0].p95_s),
            ]
        )
    return table if len(table) > 1 else []


def parts(rows: Sequence[Result]) -> Rows:
    """A table of where the time goes: median milliseconds of each part on the photographs."""
    names = list(
        dict.fromkeys(p for row in rows if row.pipeline for p in row.pipeline.verdict.parts_s)
    )
    table = [["pipeline", *(f"{part}, ms" for part in names)]]
    for row in rows:
        if row.pipeline:
            taken = row.pipeline.verdict.parts_s
            table.append([name(row), *(units.ms(taken.get(part)) for part in names)])
    return table if names else []


def listed(rows: Sequence[Result]) -> dict[str, Rows]:
    """Every further photograph, one by one: a table for each pipeline and set of photographs."""
    return {
        f"{name(row)}: {which}": [_LISTED, *map(_line, judged)]
        for row in rows
        if row.pipeline
        for which, judged in row.pipeline.listed.items()
    }


_LISTED = [
    *("photograph", "who it is", "named", "probability %", "rank"),
    *("IoU", "centre inside", "distance %", "angle error °", "ms"),
]


def _line(x: Judged) -> list[str]:
    inside = {None: units.NONE, True: "yes", False: "no"}[x.centre_inside]
    return [
        x.picture,
        x.label or units.NONE,
        x.named or units.NONE,
        units.percent(x.probability),
        units.whole(x.rank),
        units.significant(x.iou),
        inside,
        units.percent(x.distance),
        units.significant(x.angle_error_degrees),
        units.ms(x.seconds),
    ]
