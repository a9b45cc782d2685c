"""Makes the answer of what was measured of two files."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from compress.measure.latency import speedup
from compress.measure.layer_profile import Layer
from compress.profile.audit import INT8_FLAGS, instructions_fact, threads_fact
from compress.profile.causes import causes
from compress.profile.comparison import Comparison, Half, Pair
from compress.profile.matching import Match, kind, matches
from compress.profile.measured import Measured
from compress.profile.precision import explanations, lower
from compress.profile.records import BETWEEN, Fact
from compress.profile.roofline import measure_limits
from compress.profile.rounds import Rounds
from compress.profile.tallies import Key, Tally, half, interval, tallies
from compress.profile.why import doubts, verdict
from compress.results.schema import BF16_FLAGS, Latency
from compress.utils.interval import Interval
from compress.utils.units import times_interval


def compared(found: Measured, say: Callable[[str], None] = lambda text: None) -> Comparison:
    """Match the layers, split the difference, and word it."""
    matched = matches(found.rounds_a.layers, found.rounds_b.layers)
    pairs = pairs_of(found.rounds_a, found.rounds_b, matched)
    whole_s = found.rounds_b.whole_s - found.rounds_a.whole_s
    named = causes(_parts(found), found.a, found.b, whole_s)
    ratio = longer(found.deployed["A"], found.deployed["B"])
    deployed_s = found.deployed["A"].median_s, found.deployed["B"].median_s
    limits = None
    if low := lower(pairs):
        say("Measuring the machine's limits")
        limits = measure_limits([low, "float32"], found.a.threads, 0)
    unnamed = sum(not match.by_name for match in matched)
    return Comparison(
        verdict=verdict(ratio, deployed_s, interval(whole_s), named),
        explanations=[*explanations(found.a, found.b, pairs, limits), *_scaling(found.deployed)],
        a=found.a.model_copy(update={"limits": limits}),
        b=found.b.model_copy(update={"limits": limits}),
        ratio=ratio,
        deployed_s=deployed_s,
        difference_s=interval(whole_s),
        pairs=pairs,
        apart=apart_of(found.rounds_a, found.rounds_b, matched),
        causes=named,
        facts=_facts(found),
        notes=doubts(found, ratio, interval(whole_s), unnamed),
    )


def longer(a: Latency, b: Latency) -> Interval:
    """Return how many times as long B takes as A."""
    return speedup("B", "", b, a).ratio


def _parts(found: Measured) -> list[Tally]:
    """Split the difference: what more or fewer threads give, then layer by layer."""
    a, b, like_a = found.rounds_a, found.rounds_b, found.rounds_like_a
    parts = tallies(a, like_a, matches(a.layers, like_a.layers))
    if found.a.threads != found.b.threads:
        parts.append(Tally(Key("threads"), b.whole_s - like_a.whole_s))
    return [part for part in parts if part.difference_s.any()]


def pairs_of(a: Rounds, b: Rounds, matched: Sequence[Match]) -> list[Pair]:
    """Return the layers that both files have, in the order of A."""
    found = []
    for match in matched:
        its_a, its_b = [a.layers[i] for i in match.a], [b.layers[i] for i in match.b]
        difference_s = b.seconds[:, match.b].sum(1) - a.seconds[:, match.a].sum(1)
        found.append(
            Pair(
                name=" + ".join(dict.fromkeys(layer.name for layer in its_a)),
                a=half(its_a),
                b=half(its_b),
                difference_s=interval(difference_s),
            )
        )
    return found


def apart_of(a: Rounds, b: Rounds, matched: Sequence[Match]) -> list[Pair]:
    """Return sums over what has no partner, the largest difference first, and what is between."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for side, rounds in enumerate((a, b)):
        paired = {place for match in matched for place in (match.a, match.b)[side]}
        for place, layer in enumerate(rounds.layers):
            if place not in paired:
                groups.setdefault(_called(layer), ([], []))[side].append(place)
    found = []
    for name, (of_a, of_b) in groups.items():
        its_a, its_b = [a.layers[i] for i in of_a], [b.layers[i] for i in of_b]
        difference_s = b.seconds[:, of_b].sum(1) - a.seconds[:, of_a].sum(1)
        found.append(
            Pair(name=name, a=half(its_a), b=half(its_b), difference_s=interval(difference_s))
        )
    found.sort(key=lambda pair: -abs(pair.difference_s.value))
    gaps = [Half(seconds=float(x.between_s.mean()), count=len(x.layers)) for x in (a, b)]
    gap_s = interval(b.between_s - a.between_s)
    return [*found, Pair(name=BETWEEN, a=gaps[0], b=gaps[1], difference_s=gap_s)]


def _called(layer: Layer) -> str:
    """Name what is done; what it is for stands before the kernel's own name."""
    kernel = layer.kernel.split(" ")[0]
    what = {"conversion": "conversion", "layout": "change of layout", "copy": "copy"}
    return f"{what[of]}: {kernel}" if (of := kind(layer)) in what else layer.operation


def _scaling(deployed: Mapping[str, Latency]) -> Iterator[str]:
    """Tell what the threads give to each, where it is not the same."""
    if "A alone" not in deployed:
        return
    a, b = (longer(deployed[side], deployed[f"{side} alone"]) for side in "AB")
    if a.high < b.low or b.high < a.low:
        threads = deployed["A"].threads
        yield (
            f"{threads} threads make A {times_interval(a)} as fast as one does, and B "
            f"{times_interval(b)}: part of the difference is that they are shared less well."
        )


def _facts(found: Measured) -> list[Fact]:
    machine = found.a.machine
    counts = dict.fromkeys((found.a.threads, found.b.threads))
    return [
        *(threads_fact(machine, threads) for threads in counts),
        instructions_fact(machine, "bfloat16", BF16_FLAGS),
        instructions_fact(machine, "int8", INT8_FLAGS),
    ]
