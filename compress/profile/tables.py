"""A profile as tables of text: terminal and HTML print the same ones."""

from collections.abc import Iterator, Sequence

from compress.profile.layer_tables import NOTE, WORK, grouped, operation, slowest, work
from compress.profile.records import NETWORK, NMS, Fact, Gain, Limits, Network, Part, Profile
from compress.utils.text_table import TextTable
from compress.utils.units import (
    NONE,
    count,
    megabytes,
    ms,
    percent,
    significant,
    times_interval,
)

LEAST_SHARE = 0.01  # of the time, for a part below the first level to have a line
DEEPEST = 3  # level of a detector's parts that a terminal shows


def heading(profile: Profile) -> str:
    """Say in one line what was run, where and how fast."""
    if profile.networks:
        several = "photographs" if profile.photographs > 1 else "photograph"
        return (
            f"{profile.model} in {profile.runtime} {profile.runtime_version}, "
            f"{profile.photographs} {several} of up to {profile.height} × {profile.width} pixels, "
            f"{_threads(profile)}: {ms(profile.whole_s)} ms from a photograph's bytes to the answer"
            f"{_size(profile)}"
        )
    return f"{setting(profile)}: {ms(profile.whole_s)} ms a call{_size(profile)}"


def setting(profile: Profile) -> str:
    """Say what network was run where, and on how much."""
    weights = " (random weights: the speed depends on the shapes)" if profile.random_weights else ""
    return (
        f"{profile.model}{weights} in {profile.runtime} {profile.runtime_version}, "
        f"{profile.fed or f'{profile.batch} × {takes(profile)}'}, "
        f"{_threads(profile)}"
    )


def takes(profile: Profile) -> str:
    """Say what a network takes: an image's channels, height and width, or other inputs."""
    return profile.fed or f"{profile.channels} × {profile.height} × {profile.width}"


def _threads(profile: Profile) -> str:
    return f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"


def _size(profile: Profile) -> str:
    if not (profile.layers or profile.networks):
        return ""
    return f", {count(profile.macs)}MAC, {megabytes(profile.weight_bytes)} MB of weights"


def limits_line(limits: Limits) -> str:
    """Say what the machine was measured to reach."""
    rates = [
        f"{count(rate.value)}MAC/s in {precision} ({rate.reached_by})"
        for precision, rate in limits.macs_per_s.items()
    ]
    memory = limits.bytes_per_s
    both = f"{significant(memory.value / 1e9)} GB/s ({memory.reached_by})"
    return f"At most, this machine reaches {', '.join([*rates, both])}."


def tables(profile: Profile, most_layers: int | None = None) -> list[TextTable]:
    """Return operations, blocks and layers of a network, or a detector's parts; then the audit.

    Of a pipeline its stages, then those of each network.

    Args:
        most_layers: the slowest so many; None: all, in the order of execution.
    """
    if profile.networks:
        found = [_stages(profile), _networks(profile.networks), *_inside(profile, most_layers)]
    elif profile.layers:
        found = _inside(profile, most_layers)
    else:
        found = [_parts(profile, everything=most_layers is None)]
    if profile.audit:
        found += [_gains(profile.audit.gains), facts_table(profile.audit.facts)]
    return found


def _stages(profile: Profile) -> TextTable:
    """Return the stages; work is told of networks alone: decoding and looking multiply nothing."""
    networks = {network.stage: network for network in profile.networks}

    def row(part: Part, depth: int, of_network: Sequence[str] = (NONE,) * 5) -> list[str]:
        share = percent(part.seconds / profile.root.seconds)
        return ["\u00a0\u00a0" * depth + part.name, ms(part.seconds), share, *of_network]

    rows = [row(profile.root, 0)]
    for part in profile.root.parts:
        rows.append(row(part, 1))
        for inner in part.parts:
            network = networks[part.name] if inner.kind == NETWORK else None
            rows.append(row(inner, 2, _work_of(network, profile)) if network else row(inner, 2))
    return TextTable("By stage", NOTE, ["part", *WORK], rows, words=1)


def _work_of(network: Network, profile: Profile) -> Sequence[str]:
    """Return the cells of WORK behind the times; of torch what is known without its layers."""
    layers = [layer for layer in profile.layers if layer.network == network.stage]
    if layers:
        return list(work(layers, profile, network.seconds))[2:]
    if not network.macs:
        return (NONE,) * 5
    rate = network.macs / network.seconds
    limit = profile.limits.macs_per_s.get("float32") if profile.limits else None
    of_limit = f"{100 * rate / limit.value:.0f}" if limit else NONE
    return significant(network.macs / 1e9), NONE, significant(rate / 1e9), of_limit, NONE


def _networks(networks: Sequence[Network]) -> TextTable:
    return TextTable(
        "Networks",
        "",
        ["stage", "file", "runtime", "input", "turns", "layers", "weights MB"],
        [
            [
                *(x.stage, x.model, x.runtime, f"{x.height}×{x.width}", str(x.turns)),
                *(str(x.layers or NONE), megabytes(x.weight_bytes)),
            ]
            for x in networks
        ],
        words=4,
    )


def _inside(profile: Profile, most_layers: int | None) -> list[TextTable]:
    """Return what is inside one network, or inside each of a pipeline's that has layers."""
    if not profile.layers:
        return []
    networks = [(x.stage, x.seconds) for x in profile.networks if x.layers]
    networks = networks or [("", profile.root.seconds)]
    order = "by block, in the order of execution"
    by_block = [
        grouped(
            profile,
            f"{network}: {order}" if network else order.capitalize(),
            [layer for layer in profile.layers if layer.network == network],
            lambda layer: layer.block,
            seconds,
        )
        for network, seconds in networks
    ]
    layered_s = sum(seconds for _, seconds in networks)
    by_operation = grouped(profile, "By operation", profile.layers, operation, layered_s, True)
    return [by_operation, *by_block, slowest(profile, most_layers)]


def _parts(profile: Profile, everything: bool) -> TextTable:
    limit = profile.limits.macs_per_s.get("float32") if profile.limits else None
    whole_s = profile.root.seconds

    def rows(part: Part, depth: int) -> Iterator[list[str]]:
        rate = part.macs / part.seconds if part.macs and part.seconds else None
        yield [
            "\u00a0\u00a0" * depth + part.name,
            ms(part.seconds),
            percent(part.seconds / whole_s),
            significant(part.macs / 1e9) if part.macs else NONE,
            significant(rate / 1e9) if rate else NONE,
            f"{100 * rate / limit.value:.0f}" if rate and limit else NONE,
        ]
        for inner in part.parts:
            large = depth < DEEPEST and inner.seconds >= LEAST_SHARE * whole_s
            if everything or large or depth == 0 or inner.name == NMS:
                yield from rows(inner, depth + 1)

    return TextTable(
        "By part",
        "of limit: of the highest rate that a large convolution reaches here."
        + ("" if everything else " Smaller parts than 1 % are in --json and --html."),
        ["part", "ms", "time %", "GMAC", "GMAC/s", "of limit %"],
        list(rows(profile.root, 0)),
        words=1,
    )


def _gains(gains: Sequence[Gain]) -> TextTable:
    return TextTable(
        "The same model, nothing compressed",
        "Medians of fresh processes, all variants interleaved; in brackets the 95 % interval.",
        ["change", "times as fast", "as", "but", "ms a call"],
        [
            [g.change, times_interval(g.ratio), g.against, g.but or NONE, ms(g.median_s)]
            for g in gains
        ],
        words=4,
    )


def facts_table(facts: Sequence[Fact]) -> TextTable:
    """Return what is known of libraries and machine."""
    return TextTable(
        "Libraries and machine",
        "",
        ["what", "found", "to do"],
        [[fact.subject, fact.found, fact.advice or NONE] for fact in facts],
        words=3,
    )
