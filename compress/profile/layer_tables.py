"""Layers as tables of text: in groups, and one by one, with how near they come to the limits."""

from collections.abc import Callable, Iterator, Sequence

from compress.measure.layer_profile import Layer
from compress.profile.records import BETWEEN, Limits, Profile
from compress.profile.roofline import reach
from compress.utils.text_table import TextTable
from compress.utils.units import NONE, megabytes, ms, percent, significant

NOTE = (
    "of limit: the least time in which this machine does such work, over the time taken. Above "
    "100 %: the data still lay in a nearer cache than the limit was measured in."
)
LEAST_BYTES = 10_000  # of weights, for a block to have some
WORK = ("ms", "time %", "GMAC", "MB moved", "GMAC/s", "of limit %", "bound by")
_SUFFIX = {"float32": "", "float16": " f16", "bfloat16": " bf16", "binary": " 1 bit"}


def operation(layer: Layer) -> str:
    """Name the operation, with the precision where it is another than float32."""
    return layer.operation + _SUFFIX.get(layer.precision, f" {layer.precision}")


def grouped(
    profile: Profile,
    title: str,
    layers: Sequence[Layer],
    key: Callable[[Layer], str],
    whole_s: float,
    by_time: bool = False,
) -> TextTable:
    """Put layers in groups.

    Args:
        title: its first words end with how a group is called.
        whole_s: what they and what is between them take.
    """
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(key(layer), []).append(layer)
    ordered = list(groups.items())
    if by_time:
        ordered.sort(key=lambda group: -sum(layer.seconds for layer in group[1]))
    between_s = max(0.0, whole_s - sum(layer.seconds for layer in layers))
    share = percent(between_s / profile.root.seconds)
    return TextTable(
        title,
        NOTE,
        [title.split(",")[0].rpartition(" ")[2], "layers", "weights MB", *WORK],
        [
            *([name, *_size_of(group), *work(group, profile)] for name, group in ordered),
            [BETWEEN, "", "", ms(between_s), share, *[NONE] * 5],
            ["whole", *_size_of(layers), *work(layers, profile, whole_s)],
        ],
        words=1,
    )


def _size_of(layers: Sequence[Layer]) -> list[str]:
    weights = sum(layer.weight_bytes for layer in layers)
    return [str(len(layers)), megabytes(weights) if weights >= LEAST_BYTES else NONE]


def slowest(profile: Profile, most: int | None) -> TextTable:
    """Return the layers that take the most time; None: all, in the order of execution."""
    layers = profile.layers
    title = "Layers, in the order of execution"
    if most is not None and len(layers) > most:
        layers = sorted(layers, key=lambda layer: -layer.seconds)[:most]
        title = f"The {most} slowest of {len(profile.layers)} layers (--json and --html have all)"
    rows = [
        [
            f"{layer.network}: {layer.name}" if layer.network else layer.name,
            operation(layer),
            "×".join(map(str, layer.output_shape[1:])),
            *work([layer], profile, unit=1e6),
        ]
        for layer in layers
    ]
    cells = ["MMAC" if name == "GMAC" else name for name in WORK]
    return TextTable(title, NOTE, ["layer", "operation", "output", *cells], rows, words=3)


def work(
    layers: Sequence[Layer], profile: Profile, seconds: float | None = None, unit: float = 1e9
) -> Iterator[str]:
    """Yield the cells of WORK for some layers together, that took `seconds`; MACs in `unit`."""
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
    """Return the mean of several layers over their time, and what bounds most of it."""
    if limits is None:
        return NONE, NONE
    known = [(x.seconds, found) for x in layers if (found := reach(x, limits)) is not None]
    seconds = sum(time for time, _ in known)
    if not seconds:
        return NONE, NONE
    share = sum(time * found.share for time, found in known) / seconds
    memory = sum(time for time, found in known if found.bound == "memory")
    return f"{100 * share:.0f}", "memory" if memory > seconds / 2 else "compute"
