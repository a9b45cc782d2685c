"""What a lower precision gives on this machine, and what it leaves as it was."""

from collections.abc import Iterator, Sequence

from compress.profile.causes import LOW, missing
from compress.profile.comparison import Pair
from compress.profile.matching import kind
from compress.profile.records import Limits, Profile
from compress.utils.units import ms, significant


def lower(pairs: Sequence[Pair]) -> str | None:
    """Return the precision, below float32, that some layers have in one of the files alone."""
    for pair in pairs:
        for here, there in ((pair.b, pair.a), (pair.a, pair.b)):
            if here.precision in LOW and there.precision == "float32" and here.macs != 0:
                return here.precision
    return None


def explanations(a: Profile, b: Profile, pairs: Sequence[Pair], limits: Limits | None) -> list[str]:
    """Return what a lower precision won, what there was to win, and where there is none of it."""
    low = lower(pairs)
    if low is None:
        return [*_never(a, "A"), *_never(b, "B")]
    b_is_low = any(pair.b.precision == low and pair.a.precision == "float32" for pair in pairs)
    side, profile = ("B", b) if b_is_low else ("A", a)
    return [*_won(pairs, low, b_is_low, limits, profile), *_left(profile, side, low)]


def _won(
    pairs: Sequence[Pair], low: str, b_is_low: bool, limits: Limits | None, profile: Profile
) -> Iterator[str]:
    both = [(p.b, p.a) if b_is_low else (p.a, p.b) for p in pairs if p.a.macs != 0]
    both = [x for x in both if x[0].precision == low and x[1].precision == "float32"]
    low_s, float_s = (sum(x[i].seconds for x in both) for i in (0, 1))
    if not low_s or not float_s:
        return
    side, other = "BA" if b_is_low else "AB"
    yield (
        f"The {len(both)} layers that {side} computes in {low} take {ms(low_s)} ms there, and "
        f"{ms(float_s)} ms in float32 in {other}: {low} makes them {_speed(float_s / low_s)}."
        f"{_limit(low, limits)}{_lacks(low, profile)}"
    )


def _speed(ratio: float) -> str:
    return (
        f"{significant(ratio)} times as fast"
        if ratio >= 1
        else f"{significant(1 / ratio)} times slower"
    )


def _limit(low: str, limits: Limits | None) -> str:
    rates = limits.macs_per_s if limits else {}
    if low not in rates or "float32" not in rates:
        return ""
    ratio = rates[low].value / rates["float32"].value
    says = f"are {significant(ratio)} times as fast in {low} here"
    return f" Large convolutions, which gain most, {says}."


def _lacks(low: str, profile: Profile) -> str:
    lacks = missing(low, profile)
    return f" {lacks[0].upper()}{lacks[1:]}." if lacks else ""


def _left(profile: Profile, side: str, low: str) -> Iterator[str]:
    """Tell which layers the lower precision does not reach."""
    computing = [layer for layer in profile.layers if kind(layer) == "compute"]
    left = [layer for layer in computing if layer.precision == "float32"]
    if left:
        seconds = sum(layer.seconds for layer in left)
        yield (
            f"{side} computes {len(left)} of its {len(computing)} layers in float32, "
            f"{ms(seconds)} of its {ms(profile.whole_s)} ms: {low} makes none of that faster."
        )


def _never(profile: Profile, side: str) -> Iterator[str]:
    """Tell that a file converts but computes in float all the same."""
    converts = any(kind(layer) == "conversion" for layer in profile.layers)
    if converts and not any(x.precision in LOW for x in profile.layers if kind(x) == "compute"):
        yield (
            f"{side} converts between precisions, and yet all its layers compute in float32: this "
            "runtime does not take its quantization for integers. See docs/methods/quantize.md."
        )
