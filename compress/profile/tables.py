"""A profile as tables of text: terminal and HTML print the same ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from compress.profile.limits import reach
from compress.profile.records import BETWEEN, Fact, Gain, Layer, Limits, Part, Profile
from compress.report.units import NONE, count, ms, percent, significant, times_interval
from compress.runtimes import package_of

FLOATS = {"float32": "", "float16": " f16", "bfloat16": " bf16", "int8": " int8", "binary": " bin"}


@dataclass(frozen=True)
class Table:
    """Headings, whether a column holds numbers, and rows of cells."""

    title: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def heading(profile: Profile) -> str:
    """One line: what was run, where and how fast."""
    weights = " (random weights: the speed depends on the shapes)" if profile.random_weights else ""
    pictures = f"{profile.batch} × 3 × {profile.height} × {profile.width}"
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    return (
        f"{profile.model}{weights} in {profile.runtime} {profile.runtime_version}, {pictures}, "
        f"{threads}: {ms(profile.whole_s)} ms a call"
    )


def tables(profile: Profile, most_layers: int | None = None) -> list[Table]:
    """Operations, blocks and layers of a network; the parts of a detector; then the audit.

    Args:
        most_layers: the slowest so many; None: all, in the order of execution.
    """
    found = []
    if profile.layers:
        found = [_operations(profile), _blocks(profile), _layers(profile, most_layers)]
    else:
        found = [_parts(profile)]
    if profile.audit:
        found += [_gains(profile.audit.gains), _facts(profile.audit.facts)]
    return found


_WORK = ("ms", "time %", "GMAC", "MB", "GMAC/s", "of limit %", "bound by")
NOTE = (
    "of limit: the least time that the machine needs for this work, over the time taken; above "
    "100 %: the data still lay in a nearer cache than the limit was measured in."
)


def _work(layers: Sequence[Layer], profile: Profile) -> tuple[str, ...]:
    """The cells of _WORK for some layers together."""
    seconds = sum(layer.seconds for layer in layers)
    macs = [layer.macs for layer in layers]
    total = None if None in macs else sum(m for m in macs if m is not None)
    return (
        ms(seconds),
        percent(seconds / profile.root.seconds),
        significant(total / 1e9) if total else NONE,
        significant(sum(layer.bytes for layer in layers) / 1e6),
        significant(total / seconds / 1e9) if total and seconds else NONE,
        *_reach(layers, profile.limits),
    )


def _reach(layers: Sequence[Layer], limits: Limits | None) -> tuple[str, str]:
    """Of several layers the mean over their time, and what bounds most of it."""
    if limits is None:
        return NONE, NONE
    known = [(x.seconds, found) for x in layers if (found := reach(x, limits)) is not None]
    seconds = sum(time for time, _ in known)
    if not seconds:
        return NONE, NONE
    share = sum(time * found.share for time, found in known) / seconds
    memory = sum(time for time, found in known if found.bound == "memory")
    return f"{100 * share:.0f}", "memory" if memory > seconds / 2 else "compute"


def _between(profile: Profile, before: int) -> tuple[str, ...]:
    share = profile.between_s / profile.root.seconds
    blank = ("",) * (before - 1)
    return BETWEEN, *blank, ms(profile.between_s), percent(share), *[NONE] * 5


def _total(profile: Profile, before: int) -> tuple[str, ...]:
    blank = ("",) * (before - 2)
    work = _work(profile.layers, profile)
    moved = significant(sum(layer.bytes for layer in profile.layers) / 1e6)
    rate = significant(profile.macs / profile.root.seconds / 1e9)
    layers = (str(len(profile.layers)),) if before > 1 else ()
    return (
        *("whole", *layers, *blank, ms(profile.root.seconds), "100.0"),
        *(work[2], moved, rate, NONE, NONE),
    )


def _grouped(
    profile: Profile, key: Callable[[Layer], str], by_time: bool
) -> Iterable[tuple[str, ...]]:
    groups: dict[str, list[Layer]] = {}
    for layer in profile.layers:
        groups.setdefault(key(layer), []).append(layer)
    ordered = list(groups.items())
    if by_time:
        ordered.sort(key=lambda group: -sum(layer.seconds for layer in group[1]))
    for name, layers in ordered:
        yield name, str(len(layers)), *_work(layers, profile)


def operation(layer: Layer) -> str:
    """With the precision where it is another than float32."""
    return layer.operation + FLOATS.get(layer.precision, f" {layer.precision}")


def _operations(profile: Profile) -> Table:
    return Table(
        "By operation",
        ("operation", "layers", *_WORK),
        (False, True, *[True] * 6, False),
        [
            *_grouped(profile, operation, by_time=True),
            _between(profile, 2),
            _total(profile, 2),
        ],
    )


def _blocks(profile: Profile) -> Table:
    return Table(
        "By block, in the order of execution",
        ("block", "layers", *_WORK),
        (False, True, *[True] * 6, False),
        [
            *_grouped(profile, lambda layer: layer.block, by_time=False),
            _between(profile, 2),
            _total(profile, 2),
        ],
        NOTE,
    )


def _layers(profile: Profile, most: int | None) -> Table:
    layers = profile.layers
    title = "Layers, in the order of execution"
    if most is not None and len(layers) > most:
        layers = sorted(layers, key=lambda layer: -layer.seconds)[:most]
        title = f"The {most} slowest of {len(profile.layers)} layers (--json and --html have all)"
    rows = [
        (
            layer.name,
            operation(layer),
            "×".join(map(str, layer.output_shape[1:])),
            *_work([layer], profile),
        )
        for layer in layers
    ]
    return Table(
        title,
        ("layer", "operation", "makes", *_WORK),
        (False, False, False, *[True] * 6, False),
        rows,
    )


def _parts(profile: Profile) -> Table:
    whole_s = profile.root.seconds

    def rows(part: Part, depth: int) -> list[tuple[str, ...]]:
        rate = part.macs / part.seconds if part.macs and part.seconds else None
        limit = profile.limits.macs_per_s.get("float32") if profile.limits else None
        mine = (
            "\u00a0\u00a0" * depth + part.name,
            ms(part.seconds),
            percent(part.seconds / whole_s),
            significant(part.macs / 1e9) if part.macs else NONE,
            significant(rate / 1e9) if rate else NONE,
            f"{100 * rate / limit.value:.0f}" if rate and limit else NONE,
        )
        shown = [p for p in part.parts if depth == 0 or p.seconds >= 0.01 * whole_s]
        return [mine, *chain.from_iterable(rows(p, depth + 1) for p in shown)]

    return Table(
        "By part",
        ("part", "ms", "time %", "GMAC", "GMAC/s", "of limit %"),
        (False, *[True] * 5),
        rows(profile.root, 0),
        "Parts of less than 1 % are in --json and --html. of limit: of the highest rate that a "
        "large convolution reaches here.",
    )


def _gains(gains: Sequence[Gain]) -> Table:
    return Table(
        "The same model, nothing compressed",
        ("change", "ms a call", "times as fast", "as"),
        (False, True, False, False),
        [(g.change, ms(g.median_s), times_interval(g.ratio), g.against) for g in gains],
        "Medians of fresh processes, all variants interleaved; in brackets the 95 % interval.",
    )


def _facts(facts: Sequence[Fact]) -> Table:
    return Table(
        "Libraries and machine",
        ("what", "found", "to do"),
        (False, False, False),
        [(fact.subject, fact.found, fact.advice or NONE) for fact in facts],
    )


def limits_line(limits: Limits) -> str:
    """What the machine was measured to reach."""
    rates = [
        f"{count(rate.value)}MAC/s in {precision} ({rate.reached_by})"
        for precision, rate in limits.macs_per_s.items()
    ]
    memory = limits.bytes_per_s
    return (
        f"This machine reaches at most {', '.join(rates)} and "
        f"{significant(memory.value / 1e9)} GB/s ({memory.reached_by})."
    )


def runtime_package(runtime: str) -> str:
    """The package whose version a profile names."""
    return "torch" if runtime.startswith("torch") else package_of(runtime)
