"""A profile as tables of text: terminal and HTML print the same ones."""

from collections.abc import Callable, Iterator, Sequence

from compress.profile.limits import reach
from compress.profile.records import BETWEEN, NMS, Fact, Gain, Layer, Limits, Part, Profile
from compress.report.text_table import TextTable
from compress.report.units import NONE, count, megabytes, ms, percent, significant, times_interval

LEAST_SHARE = 0.01  # of the time, for a part below the first level to have a line
NOTE = (
    "of limit: the least time in which this machine does such work, over the time taken. Above "
    "100 %: the data still lay in a nearer cache than the limit was measured in."
)
LEAST_BYTES = 10_000  # of weights, for a block to have some
DEEPEST = 3  # level of a detector's parts that a terminal shows
_WORK = ("ms", "time %", "GMAC", "MB moved", "GMAC/s", "of limit %", "bound by")
_SUFFIX = {"float32": "", "float16": " f16", "bfloat16": " bf16", "binary": " 1 bit"}


def heading(profile: Profile) -> str:
    """One line: what was run, where and how fast."""
    weights = " (random weights: the speed depends on the shapes)" if profile.random_weights else ""
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    return (
        f"{profile.model}{weights} in {profile.runtime} {profile.runtime_version}, "
        f"{profile.batch} × 3 × {profile.height} × {profile.width}, {threads}: "
        f"{ms(profile.whole_s)} ms a call{_size(profile)}"
    )


def _size(profile: Profile) -> str:
    if not profile.layers:
        return ""
    weights = megabytes(sum(layer.weight_bytes for layer in profile.layers))
    return f", {count(profile.macs)}MAC, {weights} MB of weights"


def limits_line(limits: Limits) -> str:
    """What the machine was measured to reach."""
    rates = [
        f"{count(rate.value)}MAC/s in {precision} ({rate.reached_by})"
        for precision, rate in limits.macs_per_s.items()
    ]
    memory = limits.bytes_per_s
    both = f"{significant(memory.value / 1e9)} GB/s ({memory.reached_by})"
    return f"At most, this machine reaches {', '.join([*rates, both])}."


def tables(profile: Profile, most_layers: int | None = None) -> list[TextTable]:
    """Operations, blocks and layers of a network, or the parts of a detector; then the audit.

    Args:
        most_layers: the slowest so many; None: all, in the order of execution.
    """
    if profile.layers:
        found = [
            _grouped(profile, "By operation", operation, by_time=True),
            _grouped(profile, "By block, in the order of execution", lambda x: x.block),
            _layers(profile, most_layers),
        ]
    else:
        found = [_parts(profile, everything=most_layers is None)]
    if profile.audit:
        found += [_gains(profile.audit.gains), _facts(profile.audit.facts)]
    return found


def operation(layer: Layer) -> str:
    """With the precision where it is another than float32."""
    return layer.operation + _SUFFIX.get(layer.precision, f" {layer.precision}")


def _grouped(
    profile: Profile, title: str, key: Callable[[Layer], str], by_time: bool = False
) -> TextTable:
    groups: dict[str, list[Layer]] = {}
    for layer in profile.layers:
        groups.setdefault(key(layer), []).append(layer)
    ordered = list(groups.items())
    if by_time:
        ordered.sort(key=lambda group: -sum(layer.seconds for layer in group[1]))
    share = percent(profile.between_s / profile.root.seconds)
    whole = _work(profile.layers, profile, profile.root.seconds)
    return TextTable(
        title,
        NOTE,
        [title.split(",")[0].removeprefix("By "), "layers", "weights MB", *_WORK],
        [
            *([name, *_size_of(layers), *_work(layers, profile)] for name, layers in ordered),
            [BETWEEN, "", "", ms(profile.between_s), share, *[NONE] * 5],
            ["whole", *_size_of(profile.layers), *whole],
        ],
        words=1,
    )


def _size_of(layers: Sequence[Layer]) -> list[str]:
    weights = sum(layer.weight_bytes for layer in layers)
    return [str(len(layers)), megabytes(weights) if weights >= LEAST_BYTES else NONE]


def _layers(profile: Profile, most: int | None) -> TextTable:
    layers = profile.layers
    title = "Layers, in the order of execution"
    if most is not None and len(layers) > most:
        layers = sorted(layers, key=lambda layer: -layer.seconds)[:most]
        title = f"The {most} slowest of {len(profile.layers)} layers (--json and --html have all)"
    rows = [
        [
            layer.name,
            operation(layer),
            "×".join(map(str, layer.output_shape[1:])),
            *_work([layer], profile, unit=1e6),
        ]
        for layer in layers
    ]
    work = ["MMAC" if name == "GMAC" else name for name in _WORK]
    return TextTable(title, NOTE, ["layer", "operation", "output", *work], rows, words=3)


def _work(
    layers: Sequence[Layer], profile: Profile, seconds: float | None = None, unit: float = 1e9
) -> Iterator[str]:
    """The cells of _WORK for some layers together, that took `seconds`; MACs in `unit`."""
    seconds = sum(layer.seconds for layer in layers) if seconds is None else seconds
    known = [layer.macs for layer in layers if layer.macs is not None]
    macs = sum(known) if len(known) == len(layers) else None
    yield ms(seconds)
    yield percent(seconds / profile.root.seconds)
    yield significant(macs / unit) if macs else NONE
    yield significant(sum(layer.bytes for layer in layers) / 1e6)
    yield significant(macs / seconds / 1e9) if macs and seconds else NONE
    yield from _reach(layers, profile.limits)


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


def _facts(facts: Sequence[Fact]) -> TextTable:
    return TextTable(
        "Libraries and machine",
        "",
        ["what", "found", "to do"],
        [[fact.subject, fact.found, fact.advice or NONE] for fact in facts],
        words=3,
    )
