"""The bottleneck, and what to try first, in sentences: read from a profile, nothing is measured."""

from collections.abc import Iterator, Sequence

from compress.measure.layer_profile import LAYOUT, Layer
from compress.profile.records import (
    BETWEEN,
    DECODE,
    LOOK,
    NETWORK,
    NMS,
    NORMALISE,
    OTHERWISE_THE_SAME,
    Gain,
    Profile,
)
from compress.profile.roofline import reach
from compress.runtimes.nodes import LINEAR
from compress.utils.units import percent, significant, times_interval

MOST = 0.6  # share of the time that the bottleneck is to hold
NEAR = 0.6  # share of the limit from which on a layer is as fast as it gets
FAR = 0.35
WORTH_IT = 1.05  # times faster
MUCH, LITTLE = 0.3, 0.1
IN_TORCH = (
    "It runs in torch: from an ONNX file, in onnxruntime or OpenVINO, its layers can be timed, too."
)


def advice(profile: Profile) -> list[str]:
    """Return sentences, the most useful first."""
    found = [*_cheap_win(profile)]
    if profile.networks:
        found += [*_pipeline(profile), *_linear(profile), *_layouts(profile)]
    elif profile.layers:
        found += [_bottleneck(profile), *_linear(profile), *_layouts(profile)]
    else:
        found += _detector(profile)
    return [*found, *_between(profile)]


def _cheap_win(profile: Profile) -> Iterator[str]:
    """Tell the largest gain that costs nothing, and one that may, where it is larger.

    A gain is one where even its interval's lower end is.
    """
    gains = profile.audit.gains if profile.audit else []
    won = [g for g in gains if g.ratio.low > WORTH_IT and g.against != OTHERWISE_THE_SAME]
    free = max((g for g in won if not g.but), key=lambda g: g.ratio.value, default=None)
    best = max(won, key=lambda g: g.ratio.value, default=None)
    if free:
        yield f"Before any compression, {free.change}: {_times(free)}."
    if best and best.but:
        change = best.change[0].upper() + best.change[1:]
        yield f"{change}: {_times(best)}, but it {best.but}: check its answers first."


def _times(gain: Gain) -> str:
    return f"{times_interval(gain.ratio)} as fast as {gain.against}"


def shortest_run(blocks: Sequence[tuple[str, float]], share: float) -> tuple[int, int]:
    """Return first and last of the fewest neighbours with `share` of the time; ties: the most."""
    total = sum(seconds for _, seconds in blocks)
    for length in range(1, len(blocks) + 1):
        sums = [
            (sum(seconds for _, seconds in blocks[i : i + length]), i)
            for i in range(len(blocks) - length + 1)
        ]
        most, first = max(sums, key=lambda pair: (pair[0], -pair[1]))
        if most >= share * total:
            return first, first + length - 1
    return 0, len(blocks) - 1


def _bottleneck(profile: Profile) -> str:
    blocks = [(part.name, part.seconds) for part in profile.root.parts if part.name != BETWEEN]
    first, last = shortest_run(blocks, MOST)
    names = {name for name, _ in blocks[first : last + 1]}
    layers = [layer for layer in profile.layers if layer.block in names]
    share = sum(layer.seconds for layer in layers) / profile.root.seconds
    start, end = blocks[first][0].split(" to ")[0], blocks[last][0].split(" to ")[-1]
    where = f"{start} takes" if start == end else f"{start} to {end} take"
    return f"{where} {percent(share)} % of the time, {_mostly(layers, profile)}"


def _mostly(layers: Sequence[Layer], profile: Profile) -> str:
    """Tell which operation takes most of these layers' time, and what to try."""
    kind, its = _main_operation(layers)
    of_that = _share(its, layers)
    mostly = "nearly all of it" if of_that > 0.99 else f"{100 * of_that:.0f} % of that"
    return f"{mostly} in {kind} layers. {_what_to_try(its, profile)}"


def _main_operation(layers: Sequence[Layer]) -> tuple[str, list[Layer]]:
    by_kind: dict[str, list[Layer]] = {}
    for layer in layers:
        by_kind.setdefault(layer.operation, []).append(layer)
    kind = max(by_kind, key=lambda kind: sum(layer.seconds for layer in by_kind[kind]))
    return kind, by_kind[kind]


def _share(some: Sequence[Layer], of: Sequence[Layer]) -> float:
    whole = sum(layer.seconds for layer in of)
    return sum(layer.seconds for layer in some) / whole if whole else 0.0


def _what_to_try(layers: Sequence[Layer], profile: Profile) -> str:
    limits = profile.limits
    reached = [(layer, reach(layer, limits)) for layer in layers] if limits else []
    known = [(layer.seconds, found) for layer, found in reached if found is not None]
    if limits is None or not known:
        return "Prune or distil it."
    seconds = sum(time for time, _ in known)
    share = sum(time * found.share for time, found in known) / seconds
    memory = sum(time for time, found in known if found.bound == "memory") / seconds > 0.5
    by = "memory" if memory else "compute"
    says = f"They reach {100 * share:.0f} % of this machine's limit and are bound by {by}: "
    if share < FAR:
        return says + (
            "small or awkward shapes for this runtime. Try another runtime, then fewer and wider "
            "layers (distil)."
        )
    if memory:
        return says + "fewer bytes make them faster. Try int8, fewer channels, smaller images."
    faster = _int8(profile, layers)
    if share < NEAR:
        return says + f"part of it is to be had from another runtime. Then prune or distil{faster}."
    return says + f"only less work makes them faster. Prune or distil{faster}."


def _int8(profile: Profile, layers: Sequence[Layer]) -> str:
    limits = profile.limits.macs_per_s if profile.limits else {}
    if layers[0].precision != "float32" or not {"float32", "int8"} <= limits.keys():
        return ""
    ratio = limits["int8"].value / limits["float32"].value
    if ratio < WORTH_IT:
        return ""
    return f", or quantize: in int8 this machine's limit is {significant(ratio, 2)} times as high"


def _linear(profile: Profile) -> Iterator[str]:
    """Tell what linear layers hold: bytes rather than time, or, in transformers, both."""
    linear = [layer for layer in profile.layers if layer.operation == LINEAR]
    weights = sum(layer.weight_bytes for layer in profile.layers)
    if not linear or not weights:
        return
    of_bytes = sum(layer.weight_bytes for layer in linear) / weights
    of_time = sum(layer.seconds for layer in linear) / profile.root.seconds
    says = (
        f"Linear layers hold {percent(of_bytes)} % of the weights' bytes and take "
        f"{percent(of_time)} % of the time: "
    )
    if of_bytes >= MUCH and of_time <= LITTLE:
        yield says + "factorize them for size, it saves no time worth the name."
    elif of_time > LITTLE and len(linear) < len(profile.layers) / 4:
        yield says + "factorize them, it saves both."


def _layouts(profile: Profile) -> Iterator[str]:
    seconds = sum(layer.seconds for layer in profile.layers if layer.operation == LAYOUT)
    if seconds > LITTLE * profile.root.seconds:
        yield (
            f"{percent(seconds / profile.root.seconds)} % of the time goes into changing the "
            "layout of maps between layers: another runtime may keep one layout."
        )


def _between(profile: Profile) -> Iterator[str]:
    share = profile.between_s / profile.root.seconds
    if share > LITTLE:
        yield (
            f"{percent(share)} % of the time lies between the layers: the network is small for "
            "this runtime. Fewer layers, or several images a call, help more than narrower ones."
        )


def _detector(profile: Profile) -> Iterator[str]:
    """Tell whether it is the backbone or the region part."""
    seconds = {part.name: part.seconds for part in profile.root.parts}
    total = profile.root.seconds
    if "backbone" not in seconds:
        return
    backbone = seconds["backbone"]
    regions = sum(s for name, s in seconds.items() if name not in ("backbone", "transform"))
    nms = sum(part.seconds for part in profile.root.walk() if part.name == NMS)
    if backbone > regions:
        yield (
            f"It is the backbone: {percent(backbone / total)} % of the time, the region part "
            f"{percent(regions / total)} % (non-maximum suppression {percent(nms / total)} %). "
            "Try a smaller or distilled backbone, or smaller images, before touching the heads."
        )
    else:
        yield (
            f"It is the region part: {percent(regions / total)} % of the time, the backbone "
            f"{percent(backbone / total)} % (non-maximum suppression {percent(nms / total)} %). "
            "Try fewer proposals, then narrower heads, before touching the backbone."
        )


def _pipeline(profile: Profile) -> Iterator[str]:
    """Tell which part of which stage it is, and what would be left without the networks."""
    kinds = (DECODE, LOOK, NORMALISE, NETWORK)
    parts = [(stage.name, part) for stage in profile.root.parts for part in stage.walk()]
    parts = [(stage, part) for stage, part in parts if part.kind in kinds]
    seconds = {kind: sum(p.seconds for _, p in parts if p.kind == kind) for kind in kinds}
    shares = {kind: of_kind / profile.root.seconds for kind, of_kind in seconds.items()}
    stage, largest = max(parts, key=lambda pair: pair[1].seconds)
    takes = f"takes {percent(largest.seconds / profile.root.seconds)} % of the time"
    if largest.kind == DECODE:
        yield (
            f"Decoding {takes}: smaller photographs help most, and JPEG that is not progressive. "
            "Large JPEGs are decoded at a part of their size where that is enough: of crops and "
            "warps that is known if the training images of the cascade's recipe are annotated."
        )
    elif largest.kind == LOOK:
        yield (
            f"Cutting out what the {stage} looks at {takes}: try smaller photographs."
            f"{_fewer_turns(profile, stage)}"
        )
    elif largest.kind == NORMALISE:
        yield (
            f"Normalising the input of the {stage}'s network {takes}, more than any network: give "
            "it a smaller input, or fold mean and deviation into its first layer."
        )
    else:
        layers = [layer for layer in profile.layers if layer.network == stage]
        yield (
            f"The {stage}'s network {takes}{', ' if layers else ': distil it. '}"
            f"{_mostly(layers, profile) if layers else IN_TORCH}{_fewer_turns(profile, stage)}"
        )
    yield (
        f"Networks take {percent(shares[NETWORK])} %, decoding {percent(shares[DECODE])} %, "
        f"cutting out {percent(shares[LOOK])} %, normalising {percent(shares[NORMALISE])} %: "
        f"if the networks took no time at all, the cascade would be "
        f"{significant(1 / (1 - shares[NETWORK]), 2)} times as fast."
    )


def _fewer_turns(profile: Profile, stage: str) -> str:
    turns = next(network.turns for network in profile.networks if network.stage == stage)
    return f" It is shown {turns} turns of its view: try fewer." if turns > 1 else ""
