"""A comparison as tables of text: terminal and HTML print the same ones."""

from collections.abc import Sequence

from compress.profile.comparison import Cause, Comparison, Half, Pair
from compress.profile.tables import facts_table, setting
from compress.utils.interval import Interval
from compress.utils.text_table import TextTable
from compress.utils.units import NONE, ms, percent

NOTE = (
    "B less A: mean over the rounds, in each of which both files were timed, ± half the 95 % "
    "interval."
)
LITTLE = 0.02  # of what all causes come to, under which they have no row of their own
LEAST_S = 1e-6  # what runtimes' clocks tell apart


def settings(found: Comparison) -> list[str]:
    """Say in a line each what A and B are."""
    both = zip("AB", (found.a, found.b), found.deployed_s, strict=True)
    return [f"{side}: {setting(x)}: {ms(deployed_s)} ms a call" for side, x, deployed_s in both]


def comparison_tables(found: Comparison, most_layers: int | None = None) -> list[TextTable]:
    """Return layers with their partners, what has none, the causes, and the machine.

    Args:
        most_layers: those that differ most; None: all, in the order of execution.
    """
    return [
        _pairs(found.pairs, most_layers),
        _apart(found.apart),
        _causes(found.causes),
        facts_table(found.facts),
    ]


def _pairs(pairs: Sequence[Pair], most: int | None) -> TextTable:
    title = "Layers that both have, in the order of execution"
    if most is not None and len(pairs) > most:
        title = f"The {most} of {len(pairs)} layers that differ most (--json and --html have all)"
        pairs = sorted(pairs, key=lambda pair: -abs(pair.difference_s.value))[:most]
    return TextTable(
        title,
        NOTE,
        ["layer", "operation", "in A", "in B", "A ms", "B ms", "B - A ms"],
        [
            [pair.name, _operation(pair), _runs(pair.a), _runs(pair.b), *_times(pair)]
            for pair in pairs
        ],
        words=4,
    )


def _operation(pair: Pair) -> str:
    return " / ".join(dict.fromkeys((pair.a.operation, pair.b.operation)))


def _runs(half: Half) -> str:
    """Return in which precision and by which kernel it is computed."""
    return f"{half.precision} {half.kernel}".strip()


def _times(pair: Pair) -> list[str]:
    return [ms(pair.a.seconds), ms(pair.b.seconds), _interval(pair.difference_s)]


def _interval(seconds: Interval) -> str:
    """Return milliseconds ± half the interval, both to the digit that the half is known to."""
    half = (seconds.high - seconds.low) / 2
    if max(abs(seconds.value), half) < LEAST_S:
        return "0"
    digits = max(0, min(3, len(ms(half).partition(".")[2]) - 1))
    return f"{1e3 * seconds.value:.{digits}f} ± {1e3 * half:.{digits}f}"


def _apart(pairs: Sequence[Pair]) -> TextTable:
    return TextTable(
        "What has no partner, in sums",
        NOTE,
        ["what", "kernels in A", "kernels in B", "A ms", "B ms", "B - A ms"],
        [[pair.name, str(pair.a.count), str(pair.b.count), *_times(pair)] for pair in pairs],
        words=1,
    )


def _causes(causes: Sequence[Cause]) -> TextTable:
    """Return the causes that matter, the rest as one; all rows add up to the difference."""
    least = LITTLE * sum(abs(cause.difference_s.value) for cause in causes)
    large = [cause for cause in causes if abs(cause.difference_s.value) >= least]
    rest = [cause for cause in causes if abs(cause.difference_s.value) < least]
    rows = [
        [
            cause.where,
            (cause.change or NONE) if cause.certain else "within the noise",
            _interval(cause.difference_s),
            percent(cause.share),
        ]
        for cause in large
    ]
    if rest:
        shares = [cause.share for cause in rest if cause.share is not None]
        seconds = sum(cause.difference_s.value for cause in rest)
        share = percent(sum(shares)) if shares else NONE
        rows.append([f"the rest, {len(rest)} smaller parts", NONE, f"{1e3 * seconds:.3f}", share])
    return TextTable(
        "Causes",
        f"{NOTE} All parts add up to the difference between the calls that the layers are from.",
        ["what", "what to change", "B - A ms", "share %"],
        rows,
        words=2,
    )
