"""What a report says of cascades: predicted beside measured, by part and by photograph."""

from collections.abc import Iterator, Sequence

from compress.analysis.explain import name
from compress.results.schema import JudgedPhotograph, Result, Verdict
from compress.utils import units
from compress.utils.text_table import TextTable


def verdict_lines(said: Verdict) -> Iterator[str]:
    """Yield a verdict for a terminal; what was not judged is left out."""
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


def cascade_tables(rows: Sequence[Result]) -> list[TextTable]:
    """Return every table of a report of cascades; none where no row is one."""
    rows = [row for row in rows if row.pipeline is not None]
    return [_end_to_end(rows), _parts(rows), *_listed(rows)] if rows else []


def _end_to_end(rows: Sequence[Result]) -> TextTable:
    table = []
    for row in rows:
        assert row.pipeline is not None
        said, predicted = row.pipeline.verdict, row.pipeline.predicted_s
        off = None if predicted is None else row.latency_s / predicted - 1
        table.append(
            [
                row.candidate,
                row.artifact.runtime,
                units.ms(predicted),
                units.ms(row.latency_s),
                units.NONE if off is None else f"{100 * off:+.1f}",
                units.percent(row.pipeline.predicted_top1),
                units.percent(row.accuracy.top1.value),
                units.significant(said.mean_iou),
                units.percent(said.centres_inside),
                units.percent(said.median_distance),
                units.significant(said.median_angle_error_degrees),
            ]
        )
    return TextTable(
        "End to end: predicted and measured",
        "Every combination of networks was predicted. Times of parts, measured in a few cascades "
        "that have each network once, add up, and are scaled by what the teachers took when the "
        "front was timed: a machine is not always as fast. A stage that is right less often than "
        "its teacher, alone, lowers the whole in the same ratio. The front of the predictions was "
        "then measured from the photograph's bytes to the name, and the choice is made by that. "
        "Distances of points are in % of that "
        "between the true ones.",
        [
            *("cascade", "runtime", "ms, predicted", "ms, measured", "difference %"),
            *("top-1 %, predicted", "top-1 %, measured", "mean IoU", "centre inside %"),
            *("distance, median %", "angle error, median °"),
        ],
        table,
        words=2,
    )


def _parts(rows: Sequence[Result]) -> TextTable:
    taken = {row.key: row.pipeline.verdict.parts_s for row in rows if row.pipeline}
    parts = list(dict.fromkeys(part for seconds in taken.values() for part in seconds))
    return TextTable(
        "Where the time goes",
        "Median milliseconds of each part over the photographs, one after the other as they were "
        "judged. A part that a cascade has not is a dash.",
        ["cascade", *parts],
        [
            [str(key), *(units.ms(seconds.get(part)) for part in parts)]
            for key, seconds in taken.items()
        ],
        words=1,
    )


def _listed(rows: Sequence[Result]) -> Iterator[TextTable]:
    for row in rows:
        for which, judged in row.pipeline.listed.items() if row.pipeline else ():
            yield TextTable(
                f"{which}, one by one: {name(row)}",
                "",
                [
                    *("photograph", "who it is", "named", "centre inside", "rank"),
                    *("probability %", "IoU", "distance %", "angle error °", "ms"),
                ],
                [_line(x) for x in judged],
                words=4,
                folded=True,
            )


def _line(x: JudgedPhotograph) -> list[str]:
    return [
        x.image,
        x.label or units.NONE,
        x.named or units.NONE,
        {None: units.NONE, True: "yes", False: "no"}[x.centre_inside],
        units.whole(x.rank),
        units.percent(x.probability),
        units.significant(x.iou),
        units.percent(x.distance),
        units.significant(x.angle_error_degrees),
        units.ms(x.seconds),
    ]
