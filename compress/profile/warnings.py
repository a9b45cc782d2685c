"""What casts doubt on a profile's numbers, in sentences."""

from collections.abc import Iterator

from compress.measure.conditions import QUIET_CORES
from compress.profile.records import Profile
from compress.utils.units import ms, significant

DISTURBED_S = 2e-5  # longer a layer than without a profile: no clock takes that long
OFF = 0.05  # share by which the parts may miss the whole without a word


def notes(found: Profile) -> list[str]:
    """Return what casts doubt on the numbers."""
    doubts = (_cost_of_clocks, _missing_parts, _scaled_networks, _others, _boxes)
    return [sentence for doubt in doubts for sentence in doubt(found)]


def _cost_of_clocks(found: Profile) -> Iterator[str]:
    cost = found.profiled_s / found.whole_s - 1
    if cost <= OFF or not found.layers or found.networks:
        return
    each_s = (found.profiled_s - found.whole_s) / len(found.layers)
    taken = "first what is between the layers, then the same from each layer"
    if each_s > DISTURBED_S:
        taken = "more than reading clocks costs, so that the layers' times are rough"
    yield (
        f"With the runtime's profile a call took {100 * cost:.0f} % longer than without "
        f"({1e6 * each_s:.1f} µs a layer). That was taken off: {taken}."
    )


def _missing_parts(found: Profile) -> Iterator[str]:
    share = found.root.seconds / found.whole_s
    if abs(share - 1) > OFF:
        yield (
            f"The parts add up to {100 * share:.0f} % of a call that is timed as a whole: the "
            "machine was not the same in both. Measure again."
        )


def _scaled_networks(found: Profile) -> Iterator[str]:
    for network in found.networks:
        ratio = network.seconds / network.alone_s if network.alone_s else 1.0
        if abs(ratio - 1) > OFF:
            yield (
                f"In the pipeline the {network.stage}'s network took {ms(network.seconds)} ms, "
                f"alone {ms(network.alone_s)} ms: the times of its layers, which were measured "
                f"alone, were multiplied by {significant(ratio)}."
            )


def _others(found: Profile) -> Iterator[str]:
    for what, cores in (
        ("the parts", found.disturbance_cores),
        ("the variants", found.audit.disturbance_cores if found.audit else 0.0),
    ):
        if cores > QUIET_CORES:
            yield (
                f"Other programs used up to {cores:.1f} cores while {what} were timed: stop them "
                "and measure again."
            )


def _boxes(found: Profile) -> Iterator[str]:
    if found.random_weights and not found.layers:
        yield (
            "How many boxes there are depends on the weights. With random weights, on noise, there "
            "are about as many proposals as allowed, but hardly a box passes the last threshold: "
            "trained heads give non-maximum suppression more to do."
        )
