"""The answer to a comparison in sentences: the cause, and what casts doubt on it."""

from collections.abc import Iterator, Sequence

from compress.profile.comparison import Cause
from compress.profile.measured import Measured
from compress.profile.records import Profile
from compress.profile.tables import takes
from compress.profile.warnings import OFF, notes
from compress.utils.interval import Interval
from compress.utils.units import ms, significant, times_interval

LEAST = 0.1  # share of the difference from which on what makes up for it is told
SAME = 1.01  # times that are as good as none
WIDE = 1.2  # times that a file may take as long as another that is called the same


def verdict(
    ratio: Interval, deployed_s: tuple[float, float], whole: Interval, causes: Sequence[Cause]
) -> str:
    """Name the cause of a difference in one sentence, and what makes up for part of it in another.

    Args:
        ratio: times that B takes as long as A.
        whole: seconds of the difference B less A, which the causes add up to.
    """
    if alike(ratio):
        return _alike(ratio, deployed_s, causes)
    sign = 1 if ratio.value > 1 else -1
    slow, fast = ("B", "A") if sign > 0 else ("A", "B")
    slow_s, fast_s = deployed_s[::sign][::-1]
    if sign < 0:
        ratio = Interval(value=1 / ratio.value, low=1 / ratio.high, high=1 / ratio.low)
    says = (
        f"{slow} takes {times_interval(ratio)} as long as {fast}, {ms(slow_s)} against "
        f"{ms(fast_s)} ms: "
    )
    certain = [cause for cause in causes if cause.certain]
    main = max(certain, key=lambda cause: sign * cause.difference_s.value, default=None)
    if main is None or sign * main.difference_s.value <= 0:
        return f"{says}no part of the difference stands out of the noise."
    says += f"{_share(main, sign * whole.value)} in {main.where}."
    least = min(certain, key=lambda cause: sign * cause.difference_s.value)
    if sign * least.difference_s.value < -LEAST * abs(whole.value):
        says += f" {slow} makes up for {ms(abs(least.difference_s.value))} ms in {least.where}."
    return says


def alike(ratio: Interval) -> bool:
    """Return whether no difference worth the name is to be told from noise."""
    return ratio.low <= SAME and ratio.high >= 1 / SAME


def _share(cause: Cause, whole_s: float) -> str:
    if cause.share is None or whole_s <= 0:
        return f"{ms(abs(cause.difference_s.value))} ms are"
    if cause.share > 1:
        return "more than the whole difference is"
    return f"{100 * cause.share:.0f} % of the difference is"


def _alike(ratio: Interval, deployed_s: tuple[float, float], causes: Sequence[Cause]) -> str:
    wide = ratio.high > WIDE or ratio.low < 1 / WIDE
    what = "The noise hides which is faster, A or B" if wide else "A and B take the same time"
    says = (
        f"{what}: {ms(deployed_s[0])} and {ms(deployed_s[1])} ms (B takes "
        f"{times_interval(ratio)} as long)"
    )
    certain = sorted(
        (cause for cause in causes if cause.certain), key=lambda cause: cause.difference_s.value
    )
    parts = [
        f"B {'loses' if x.difference_s.value > 0 else 'gains'} {ms(abs(x.difference_s.value))} ms "
        f"in {x.where}"
        for x in (certain if len(certain) < 2 else (certain[-1], certain[0]))
    ]
    if not parts:
        return f"{says}. None of their parts differs by more than the noise."
    return f"{says}. Of their parts, {' and '.join(parts)}."


def doubts(found: Measured, ratio: Interval, whole: Interval, unnamed: int) -> list[str]:
    """Return what differs beside speed, and what casts doubt on the numbers.

    Args:
        unnamed: layers that were matched by their order.
    """
    said = [*_inputs(found.a, found.b), *_outputs(*found.outputs), *_by_order(unnamed)]
    for side, profile in (("A", found.a), ("B", found.b)):
        said += [f"{side}: {note}" for note in notes(profile)]
        said += _deployed(side, profile, found.deployed[side].median_s)
    if not alike(ratio) and (ratio.value - 1) * whole.value < 0:
        said.append(
            "Where the layers were timed, the other file was the slower one: the difference is "
            "smaller than what differs between processes."
        )
    warnings = [warning for side in "AB" for warning in found.deployed[side].warnings]
    return list(dict.fromkeys([*said, *warnings]))


def _inputs(a: Profile, b: Profile) -> Iterator[str]:
    sizes = [takes(x) for x in (a, b)]
    if sizes[0] != sizes[1]:
        what = "" if a.fed or b.fed else "images of "
        yield (
            f"A takes {what}{sizes[0]} and B {what and 'of '}{sizes[1]}: other sizes are other "
            "work, and what follows from that is among the causes."
        )


def _deployed(side: str, profile: Profile, deployed_s: float) -> Iterator[str]:
    share = profile.whole_s / deployed_s - 1
    if abs(share) > OFF:
        off = f"{significant(abs(100 * share), 2)} % {'more' if share > 0 else 'less'}"
        yield (
            f"{side} takes {ms(deployed_s)} ms as deployed, in fresh processes, and "
            f"{ms(profile.whole_s)} ms where its layers were timed, {off}: the layers' times are "
            "as rough as that."
        )


def _by_order(count: int) -> Iterator[str]:
    if count:
        what = "1 layer has no name" if count == 1 else f"{count} layers have no names"
        yield f"{what} that both files know, and went by operation, size and order."


def _outputs(a: Sequence[tuple[int, ...]], b: Sequence[tuple[int, ...]]) -> Iterator[str]:
    if list(a) != list(b):
        said = [", ".join("×".join(map(str, shape)) for shape in shapes) for shapes in (a, b)]
        yield f"A answers with {said[0]} numbers, B with {said[1]}: their tasks are not the same."
