"""The sentences of a choice: why this one, what the others lack, what is not certain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.analysis.controls import role
from compress.metrics.sample_size import images_needed
from compress.metrics.significance import same_images
from compress.results.schema import FROM_SCRATCH, NO_TEACHER, Result
from compress.utils import units
from compress.utils.interval import Interval

if TYPE_CHECKING:
    from compress.analysis.budget import Budget, Constraint

CHANCE = 0.05  # a p-value above it may be chance: the counterpart of the 95 % intervals
DROP = "max_accuracy_drop"  # the bound that images are counted for
SURE = 0.95  # a probability from which nothing is said to be uncertain

# What a control is not given, and so what did not pay where the control is picked.
WITHOUT = {
    NO_TEACHER: ("trained without the teacher", "the teacher"),
    FROM_SCRATCH: (
        "trained from scratch",
        "the weights kept from the network it was made of",
    ),
}


def name(row: Result) -> str:
    """Candidate and runtime: what tells a row from the others."""
    return str(row.key)


def names(group: Sequence[Result]) -> str:
    """Rows by candidate: `small in onnxruntime, openvino and openvino-bf16; large in openvino`."""
    runtimes: dict[str, list[str]] = defaultdict(list)
    for row in group:
        runtimes[row.candidate].append(row.artifact.runtime)
    return "; ".join(f"{candidate} in {listed(found)}" for candidate, found in runtimes.items())


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def why(row: Result, probability: float | None) -> str:
    """What the pick gives, with every interval; its role when it is the teacher itself.

    Args:
        probability: of meeting the budget; None: that is certain.
    """
    top1, word = row.accuracy.top1, row.accuracy.word
    facts = (
        f"{units.percent(top1.value)} % {word} ({_confidence(top1)} {units.percent(top1.low)} to "
        f"{units.percent(top1.high)}), {units.ms(row.latency_s)} ms an image, "
        f"{units.megabytes(row.artifact.size_bytes)} MB"
    )
    best = "It is the most accurate row that meets the budget."
    if probability is not None:
        best += f" With {units.probability(probability)} probability it meets your budget."
    if row.role == "teacher":
        return f"{name(row)} is the teacher itself: {facts}. {best}"
    if row.speedup is None or row.accuracy.top1_drop is None:
        return f"{name(row)} was not compared with a teacher: {facts}. {best}"
    speedup, drop = row.speedup, row.accuracy.top1_drop
    named = "" if speedup.against == "teacher" else f" {speedup.against}"
    threads = f"{speedup.threads} thread{'s' if speedup.threads != 1 else ''}"
    return (
        f"{name(row)} is {units.significant(speedup.ratio.value)} times faster than the "
        f"teacher{named} "
        f"({_confidence(speedup.ratio)} {units.significant(speedup.ratio.low)} to "
        f"{units.significant(speedup.ratio.high)}; same runtime, {threads}, batch "
        f"{speedup.batch}) and {_change(drop.value, word)} ({_confidence(drop)} of the drop "
        f"{units.points(drop.low)} to {units.points(drop.high)}, paired on "
        f"{row.accuracy.images} images): {facts}. {best}"
    )


def why_in_short(row: Result, probability: float | None) -> str:
    """Return why the row is the pick, and how it was judged, beside a table of its numbers."""
    sure = "" if probability is None else f", with {units.probability(probability)} probability"
    timed = row.at_smallest_batch
    threads = f"{timed.threads} thread{'s' if timed.threads != 1 else ''}"
    return (
        f"{'The teacher itself is' if row.role == 'teacher' else 'It is'} the most accurate row "
        f"that meets the budget{sure} ({row.accuracy.images} images, {threads}, batch "
        f"{timed.batch})."
    )


def teacher_beaten(rows: Sequence[Result]) -> str | None:
    """Return that a row which never saw the teacher is more often right than it; None if none.

    Compressing this teacher is the wrong question then.
    """
    better = [
        row
        for row in rows
        if _without_teacher(row) and row.accuracy.top1_drop and row.accuracy.top1_drop.value < 0
    ]
    if not better:
        return None
    best = max(better, key=lambda row: row.accuracy.top1.value)
    drop = best.accuracy.top1_drop
    assert drop is not None
    sure = "" if drop.high < 0 else "; it may be chance"
    return (
        f"Without the teacher {name(best)} reaches {units.percent(best.accuracy.top1.value)} % "
        f"{best.accuracy.word}, {units.points(-drop.value)} points more than the teacher itself "
        f"({_confidence(drop)} {units.points(-drop.high)} to {units.points(-drop.low)}{sure}): "
        "compressing this teacher is the wrong question. Take that network, or find a better "
        "teacher."
    )


def _without_teacher(row: Result) -> bool:
    """Whether it is a control without the teacher, or a student that labels alone taught."""
    own = row.lineage[1:]
    return row.control == NO_TEACHER or (len(own) == 1 and own[0].startswith(f"{NO_TEACHER} → "))


def lost(best: Result, other: Result) -> str:
    """Why `other`, which meets the budget too, comes after `best`."""
    behind = best.accuracy.top1.value - other.accuracy.top1.value
    if behind > 0:
        return (
            f"{name(other)} meets the budget too, at {units.ms(other.latency_s)} ms an image, but "
            f"has {_points(behind)} less {best.accuracy.word}."
        )
    return (
        f"{name(other)} has the same {best.accuracy.word} and takes "
        f"{units.ms(other.latency_s)} ms an image, the pick {units.ms(best.latency_s)} ms."
    )


def next_steps(best: Result, faster: Result | None, better: Result | None) -> list[str]:
    """Return what the next faster row costs in accuracy, and the next more accurate in time."""
    found = [f"The next faster on the front, {_beside(best, faster)}."] if faster else []
    if better:
        found.append(f"The next more accurate on the front, {_beside(best, better)}.")
    return found


def _beside(best: Result, other: Result) -> str:
    """Another row's time and accuracy, and what they are beside the pick's."""
    faster = best.latency_s / other.latency_s
    times = f"{units.significant(max(faster, 1 / faster))} times"
    more = other.accuracy.top1.value - best.accuracy.top1.value
    return (
        f"{name(other)}, takes {units.ms(other.latency_s)} ms an image, {times} "
        f"{'faster' if faster > 1 else 'slower'} than the pick, and has "
        f"{_points(abs(more))} {'more' if more > 0 else 'less'} {best.accuracy.word}"
    )


def uncertain(chances: Sequence[tuple[Constraint, float]], images: str) -> list[str]:
    """The bounds that the pick may not meet, with the probability that it does.

    Args:
        images: how many the claim of the drop needs, as `too_few_images` says it.
    """
    return [
        f"Not certain: {constraint.quantity} meets its bound with {units.probability(chance)} "
        f"probability. {(images if constraint.field == DROP else '') or _narrowed(constraint)}"
        for constraint, chance in chances
        if chance < SURE
    ]


def _narrowed(constraint: Constraint) -> str:
    return f"More {'validation images' if constraint.share else 'processes'} narrow it."


def too_few_images(row: Result, teacher: Result, max_drop: float, confidence: float) -> str:
    """How many images would show that no more is lost; empty where that is not known.

    Said are the number for a candidate as accurate as the teacher, where it is not reached, and
    that for the drop which was seen.

    Args:
        teacher: that the row was compared with.
        max_drop: that may be lost, a fraction.
        confidence: with what probability, in [0.5, 1).
    """
    drop = row.accuracy.top1_drop
    if drop is None or not same_images(row, teacher):
        return ""
    from compress.tasks.differences import paired_spread  # here: as in `_p_value`

    images, spread = row.accuracy.images, paired_spread(teacher.accuracy, row.accuracy)
    equal = images_needed(max_drop, spread, confidence)
    seen = images_needed(max_drop, spread, confidence, drop.value)
    sure = f"{100 * confidence:g} % probability"
    if equal is not None and equal > images:
        share = f" on {units.percent(spread)} % of them, as here," if row.accuracy.correct else ""
        more = "" if seen is None or seen <= equal else f", with the drop seen {_about(seen)}"
        return (
            f"A drop of at most {units.points_typed(max_drop)} cannot be shown with {images:,} "
            "images: even as accurate as the teacher, a candidate that disagrees with it"
            f"{share or ' as here'} needs {_about(equal)} for {sure}{more}."
        )
    if seen is None or seen <= images:
        return ""
    return f"With the drop seen, {sure} needs {_about(seen)} images."


def _about(images: int) -> str:
    return f"about {units.at_least(images)}"


def warnings(row: Result, others: list[Result]) -> list[str]:
    """What else must be known of the pick; `others` are the other rows that fit."""
    return [*_of_a_control(row), *_not_told_apart(row, others)]


def doubt(row: Result, others: list[Result], uncertain: Sequence[str]) -> str:
    """Return the weightiest of what is not certain of the pick; empty where nothing is in doubt.

    Args:
        uncertain: the bounds that it may not meet.
    """
    if found := [*uncertain, *_of_a_control(row)]:
        return found[0]
    alike = [x for x in others if _may_be_as_accurate(row, x)]
    if not alike:
        return ""
    rest = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
    first = min(alike, key=lambda x: x.latency_s)
    faster = ", which is faster" if first.latency_s < row.latency_s else ""
    return f"In accuracy it cannot be told apart from {name(first)}{faster}{rest}."


def _of_a_control(row: Result) -> list[str]:
    if row.role != "control":
        return []
    of = f" of {row.control_of}" if row.control_of else ""
    how, what = WITHOUT.get(role(row), ("made without a part of it", "that part"))
    return [f"The pick is a control{of}, {how}: here {what} did not pay."]


def _not_told_apart(row: Result, others: list[Result]) -> list[str]:
    """Compared image by image where both were judged on the same, else by their intervals."""
    paired = [(x, p) for x in others if same_images(row, x) and (p := _p_value(row, x)) > CHANCE]
    apart = [x for x in others if not same_images(row, x) and _overlap(row, x)]
    found = []
    if paired:
        names = ", ".join(f"{name(x)} (p = {p:.2g})" for x, p in paired)
        how = "McNemar's exact test" if row.accuracy.correct else "drawn anew"
        found.append(
            f"By these images the pick cannot be told apart in accuracy from {names}: compared "
            f"image by image ({how}), the difference may be chance."
            f"{_quicker(row, [x for x, _ in paired])}"
        )
    if apart:
        found.append(
            "The pick cannot be told apart in accuracy from "
            f"{', '.join(map(name, apart))}, judged on other images: the intervals of the drop "
            f"overlap.{_quicker(row, apart)}"
        )
    return found


def _quicker(row: Result, others: list[Result]) -> str:
    quicker = [name(x) for x in others if x.latency_s < row.latency_s]
    return f" Faster than the pick: {', '.join(quicker)}." if quicker else ""


def _p_value(a: Result, b: Result) -> float:
    from compress.tasks.differences import p_value  # here: a program that starts needs no numpy

    return p_value(a.accuracy, b.accuracy)


def _may_be_as_accurate(a: Result, b: Result) -> bool:
    return _p_value(a, b) > CHANCE if same_images(a, b) else _overlap(a, b)


def _overlap(a: Result, b: Result) -> bool:
    """Whether the intervals of the drop overlap; the teacher's drop is 0 by definition."""
    x, y = (r.accuracy.top1_drop or Interval(value=0, low=0, high=0) for r in (a, b))
    return x.low <= y.high and y.low <= x.high


def dropped(row: Result) -> str:
    """Why the row is no candidate for a choice."""
    return f"{name(row)}: dropped. {row.dropped}"


def miss(row: Result, budget: Budget, probability: float) -> str:
    """By how much the row misses each bound that it misses, as measured; or how probably."""
    said = [
        constraint.miss(value, limit)
        for constraint, limit in budget.limits()
        if not constraint.is_met(value := constraint.value(row), limit)
    ]
    if not said and budget.confidence is not None:
        said = [
            f"meets all bounds with {units.probability(probability)} probability where "
            f"{100 * budget.confidence:g} % are asked for"
        ]
    return f"{name(row)}: {'; '.join(dict.fromkeys(said))}"


def _change(drop: float, word: str) -> str:
    if units.points(drop) == units.points(0):
        return f"loses no {word}"
    return f"{'loses' if drop > 0 else 'gains'} {_points(abs(drop))} of {word}"


def _points(fraction: float) -> str:
    return f"{units.points(fraction)} points"


def _confidence(interval: Interval) -> str:
    return f"{100 * interval.confidence:g} % interval"
