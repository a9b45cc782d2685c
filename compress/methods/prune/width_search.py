"""Finds the widths that meet a target: a ratio of channels, a share of the MACs, or a speedup."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compress.measure.layer_times import LayerTimes, interpolated
from compress.methods.prune.allocation import WidthOptions, allocate, nearest, uniform
from compress.methods.prune.channel_groups import PrunableNetwork
from compress.results.schema import Target
from compress.utils.errors import UserError

TOLERANCE = 0.05  # of what was asked for
ATTEMPTS = 8

Widths = Sequence[int]


@dataclass(frozen=True)
class Found:
    """The width of each group, and how near the target that is."""

    widths: list[int]
    target: Target
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """What may be chosen among, and how."""

    prunable: PrunableNetwork
    choices: Sequence[WidthOptions]
    is_uniform: bool  # the same fraction of every group, instead of the most importance
    round_to: int

    def to_ratio(self, asked: float) -> Found:
        """Removes this share of the channels, or what comes nearest."""
        keep = 1 - asked
        if self.is_uniform:
            widths = [nearest(choice, keep) for choice in self.choices]
        else:
            least = sum(self._narrowest)
            widths = allocate(self.choices, sum, max(least, keep * sum(self._full)))
        reached = 1 - sum(widths) / sum(self._full)
        target = Target(quantity="ratio", asked=asked, predicted=reached)
        if abs(reached - asked) <= TOLERANCE:
            return Found(widths, target)
        return Found(widths, target, [self._missed(f"ratio {asked:g}", f"{reached:.2g}")])

    def to_macs(self, asked: float) -> Found:
        """Keeps at most this share of the multiply-accumulates.

        Raises:
            UserError: the narrowest network has more.
        """
        full = self._macs(self._full)
        try:
            widths = self._find(self._macs, asked * full)
        except ValueError as error:
            least = self._macs(self._narrowest) / full
            raise UserError(
                f"prune.macs: {asked:g} cannot be reached, the least is {least:.2g} with every "
                "layer at its narrowest. Raise macs, or lower round_to."
            ) from error
        reached = self._macs(widths) / full
        return Found(widths, Target(quantity="macs", asked=asked, predicted=reached))

    def to_speedup(
        self,
        asked: float,
        times: "NetworkTimes",
        measure: Callable[[Widths], float],
        note: Callable[[str], None],
    ) -> Found:
        """Widths with which the network is measured to be as much faster as asked for.

        Layers are timed by their shapes; what a whole network takes beyond them (pooling, changes
        of layout) is only known by measuring it, so the allocation is corrected by that until it
        fits.

        Args:
            measure: times that the network with these widths is faster than the teacher.

        Raises:
            UserError: the narrowest network is slower.
        """
        base = times.total(self._full)
        aim = asked  # in predicted times: corrected after each measurement
        tried: dict[tuple[int, ...], float] = {}
        predictions = []
        for _ in range(ATTEMPTS):
            try:
                widths = self._find(times.total, base / aim)
            except ValueError:
                widths = self._narrowest
            if tuple(widths) in tried:
                break
            measured = tried[tuple(widths)] = measure(widths)
            predictions.append(base / times.total(widths))
            note(
                f"asked {asked:g}×, layers predict {predictions[-1]:.2f}×, "
                f"the exported network measures {measured:.2f}×"
            )
            if abs(measured / asked - 1) <= TOLERANCE / 2:
                break
            if widths == self._narrowest and max(tried.values()) < asked * (1 - TOLERANCE):
                raise UserError(self._out_of_reach(asked, measured, times.layers(widths)))
            aim *= asked / measured
        best, measured = min(tried.items(), key=lambda x: abs(x[1] / asked - 1))
        missed = abs(measured / asked - 1) > TOLERANCE
        return Found(
            list(best),
            Target(quantity="speedup", asked=asked, predicted=predictions[0], measured=measured),
            [self._missed(f"speedup {asked:g}", f"{measured:.2f}")] if missed else [],
        )

    @property
    def _full(self) -> list[int]:
        return [group.channels for group in self.prunable.groups]

    @property
    def _narrowest(self) -> list[int]:
        return [choice.widths[0] for choice in self.choices]

    def _find(self, cost: Callable[[Widths], float], target: float) -> list[int]:
        return (uniform if self.is_uniform else allocate)(self.choices, cost, target)

    def _macs(self, widths: Widths) -> int:
        return sum(shape.macs for shape in self.prunable.shapes_at(widths).values())

    def _missed(self, asked: str, reached: str) -> str:
        return (
            f"prune: {asked} was asked for; {reached} is the nearest that widths in steps of "
            f"{self.round_to} channels gave."
        )

    def _out_of_reach(self, asked: float, measured: float, layers: dict[str, float]) -> str:
        slowest = max(layers, key=lambda name: layers[name])
        return (
            f"prune.speedup: {asked:g} cannot be reached: with every layer at its narrowest "
            f"({self.round_to} channels, or as ignored) the network is {measured:.2f} times faster "
            f"than the teacher, and {slowest} takes the most of what is left. Lower speedup or "
            "round_to, ignore fewer layers, or distil into a smaller student."
        )


class NetworkTimes:
    """Seconds of a network's layers at given widths, from the table of this machine."""

    def __init__(
        self, prunable: PrunableNetwork, times: LayerTimes, progress: Callable[[int, int], None]
    ) -> None:
        self.prunable, self.times = prunable, times
        self.functions = {}
        for number, (name, shape) in enumerate(prunable.shapes.items()):
            self.functions[name] = interpolated(times, shape)
            progress(number + 1, len(prunable.shapes))

    def total(self, widths: Widths) -> float:
        """Of all layers, between measured widths."""
        return sum(
            self.functions[name](shape.in_channels, shape.out_channels)
            for name, shape in self.prunable.shapes_at(widths).items()
        )

    def layers(self, widths: Widths) -> dict[str, float]:
        """Of each layer, measured at these very widths."""
        shapes = self.prunable.shapes_at(widths)
        return dict(zip(shapes, self.times.many([(s,) for s in shapes.values()]), strict=True))
