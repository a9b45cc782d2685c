"""Times the layers of several files in turn, so that each difference has an interval.

What disturbs a round disturbs all files of it, and what a new session changes (where its memory
lies, how the runtime packed the weights) changes from round to round, as it does in deployment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.measure.file_nodes import read_network
from compress.measure.kernels import Timing, time_in_turns
from compress.measure.layer_profile import Layer, kernels_s, layer_of_each, ran
from compress.profile.network import Target
from compress.runtimes.base import Kernel
from compress.utils.alone import TIMING, alone_on_machine

ROUNDS, TURNS = 8, 2  # of all files, and of each in a round


@dataclass(frozen=True)
class Rounds:
    """A file's layers, timed again and again."""

    layers: list[Layer]  # their seconds are means over the rounds
    seconds: np.ndarray  # (rounds, layers)
    whole_s: np.ndarray  # (rounds,) a call without the runtime's profile, unless that was slower
    profiled_s: np.ndarray  # (rounds,) a call with it
    disturbance_cores: float  # that other processes used meanwhile, the most of all rounds

    @property
    def between_s(self) -> np.ndarray:
        """Return what the layers lack of the whole, (rounds,)."""
        return self.whole_s - self.seconds.sum(1)

    @property
    def mean(self) -> Timing:
        """Return the means over the rounds; of the kernels nothing, they are in the layers."""
        whole_s, profiled_s = float(self.whole_s.mean()), float(self.profiled_s.mean())
        return Timing(whole_s, profiled_s, [], self.disturbance_cores)


@alone_on_machine(TIMING)
def time_rounds(targets: Sequence[Target]) -> list[Rounds]:
    """Time each file once a round, in the other order every other round.

    Raises:
        UserError: a file that its runtime cannot load or run.
    """
    timings: list[list[Timing]] = [[] for _ in targets]
    for number in range(ROUNDS):
        for place in sorted(range(len(targets)), reverse=number % 2 == 1):
            x = targets[place]
            timing = time_in_turns(x.file, x.runtime, x.threads, x.batch, TURNS)
            timings[place].append(timing)
    return [_rounds(target, its) for target, its in zip(targets, timings, strict=True)]


def _rounds(target: Target, timings: Sequence[Timing]) -> Rounds:
    kernels: dict[tuple[str, ...], Kernel] = {}
    for timing in timings:
        for kernel in timing.kernels:
            kernels.setdefault(kernel.names, kernel)
    rows = []
    for timing in timings:
        names = [kernel.names for kernel in timing.kernels]
        its = dict(zip(names, kernels_s(timing), strict=True))
        rows.append([its.get(name, 0.0) for name in kernels])
    seconds = np.asarray(rows).reshape(len(timings), len(kernels))
    nodes = read_network(target.file, target.batch)
    layers = layer_of_each(nodes, list(kernels.values()), seconds.mean(0).tolist())
    kept = [place for place, layer in enumerate(layers) if ran(layer)]
    return Rounds(
        layers=[layers[place] for place in kept],
        seconds=seconds[:, kept],
        # As in a profile of one file: calls with the profile may, by chance, be the faster ones.
        whole_s=np.asarray([min(timing.whole_s, timing.profiled_s) for timing in timings]),
        profiled_s=np.asarray([timing.profiled_s for timing in timings]),
        disturbance_cores=max(timing.disturbance_cores for timing in timings),
    )
