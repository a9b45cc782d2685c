"""A deployed cascade, from the bytes of a photograph to the answer: which part takes the time?

The cascade is timed with clocks between its parts and without, photograph by photograph in turns.
What is inside a network is timed in the network alone, as of any file, and brought to the time that
the network takes in the cascade: there it finds other things in the caches than its own.
"""

import math
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.cascade import answer as deployed
from compress.cascade.cascade import Cascade
from compress.measure.deployable import as_deployed
from compress.measure.layer_profile import Layer, time_layers
from compress.measure.processes import others_cpu_s
from compress.profile.blocks import in_blocks, tree
from compress.profile.records import BETWEEN, DECODE, LOOK, NETWORK, NORMALISE, Network, Part
from compress.runtimes import Session, runtime_for
from compress.utils.alone import TIMING, alone_on_machine

ROUNDS, CALLS, LEAST_S = 4, 8, 4.0  # at least: of each photograph, in all, and the time spent


@dataclass(frozen=True)
class Timing:
    """A cascade's time and its parts', means over the photographs."""

    whole_s: float  # from bytes to answer, without looking at the parts
    clocked_s: float  # with clocks: of the very calls that the parts' times are from
    parts_s: dict[str, float]  # as part_name calls them
    disturbance_cores: float  # that other processes used meanwhile


@dataclass(frozen=True)
class Inside:
    """A network of the cascade, and what it consists of."""

    network: Network
    part: Part
    layers: list[Layer]
    disturbance_cores: float


def part_name(stage: str, kind: str) -> str:
    """Return how a stage's part is called, as in `Found.seconds`."""
    return f"{stage}: {kind}"


class _Clocked:
    """A session that adds up how long its runs take: what remains is preparing its input."""

    def __init__(self, session: Session) -> None:
        self.session, self.seconds = session, 0.0
        self.channels, self.image_size = session.channels, session.image_size
        self.batch_size, self.spec = session.batch_size, session.spec
        self.reference, self.outputs = session.reference, session.outputs

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the session gives."""
        started = time.perf_counter()
        outputs = self.session.run(images)
        self.seconds += time.perf_counter() - started
        return outputs


@alone_on_machine(TIMING)
def time_cascade(cascade: Cascade, photographs: Sequence[bytes]) -> Timing:
    """Time a cascade with clocks and without, in turns.

    Of each photograph the mean over the fastest quarter of its calls, which others disturbed least.
    """
    clocks, networks = [], []
    for network in cascade.networks:
        clocks.append(_Clocked(network.session))
        networks.append(copy(network))
        networks[-1].session = clocks[-1]
    clocked = Cascade(networks, cascade.min_probability)
    whole: list[list[float]] = [[] for _ in photographs]
    calls: list[list[dict[str, float]]] = [[] for _ in photographs]
    for photograph in photographs:
        cascade.find(photograph)
    rounds = max(ROUNDS, math.ceil(CALLS / len(photographs)))
    started, others = time.perf_counter(), others_cpu_s()
    while len(whole[0]) < rounds or time.perf_counter() < started + LEAST_S:
        for number, photograph in enumerate(photographs):
            # The second finds the photograph in the caches: each comes second every other time.
            clocks_first = len(whole[number]) % 2
            if clocks_first:
                calls[number].append(_parts_s(clocked, clocks, photograph))
            whole[number].append(_seconds(cascade, photograph))
            if not clocks_first:
                calls[number].append(_parts_s(clocked, clocks, photograph))
    others = (others_cpu_s() - others) / (time.perf_counter() - started)
    fastest = [
        call
        for of_one in calls
        for call in sorted(of_one, key=lambda call: call[""])[: _quarter(of_one)]
    ]
    parts_s = {part: float(np.mean([call[part] for call in fastest])) for part in fastest[0]}
    return Timing(
        whole_s=float(np.mean([sorted(times)[: _quarter(times)] for times in whole])),
        clocked_s=parts_s.pop(""),
        parts_s=parts_s,
        disturbance_cores=max(0.0, others),
    )


def _quarter(samples: Sequence[object]) -> int:
    return math.ceil(len(samples) / 4)


def _seconds(cascade: Cascade, photograph: bytes) -> float:
    started = time.perf_counter()
    cascade.find(photograph)
    return time.perf_counter() - started


def _parts_s(cascade: Cascade, clocks: Sequence[_Clocked], photograph: bytes) -> dict[str, float]:
    """Time a call: seconds by part; "" is the whole call."""
    for clock in clocks:
        clock.seconds = 0.0
    started = time.perf_counter()
    found = cascade.find(photograph)
    seconds = {"": time.perf_counter() - started, **found.seconds}
    for network, clock in zip(cascade.networks, clocks, strict=True):
        name = network.stage.name
        prepared_s = seconds[part_name(name, NETWORK)] - clock.seconds
        seconds[part_name(name, NORMALISE)] = prepared_s
        seconds[part_name(name, NETWORK)] = clock.seconds
    return seconds


def inside(
    network: deployed.Network, file: Path, threads: int, seconds: float, folder: Path
) -> Inside:
    """Time a network's layers; those of torch are not told apart.

    Args:
        seconds: what the network takes in the cascade.
        folder: for a copy of the file, where it needs one.
    """
    stage, session = network.stage, network.session
    runtime = stage.runtime or runtime_for(file)
    name = part_name(stage.name, NETWORK)
    if runtime == "torch":
        part = Part(name=name, seconds=seconds, kind=NETWORK)
        macs, weight_bytes = _work_in_torch(session, stage.turns)
        return Inside(_facts(network, runtime, seconds, macs, weight_bytes), part, [], 0.0)
    # A file with a batch of its own is run as often as the turns ask for.
    batch = session.batch_size or stage.turns
    runs = math.ceil(stage.turns / batch)
    file = as_deployed(file, None, batch, folder)
    layers, timing = time_layers(file, runtime, threads, batch)
    alone = in_blocks(layers)
    # Where the calls with the runtime's profile were faster, by chance, theirs are the gaps.
    alone_s = tree(name, alone, min(timing.whole_s, timing.profiled_s)).seconds
    layers = [
        layer.model_copy(
            update={
                "network": stage.name,
                "seconds": layer.seconds * seconds / alone_s,
                "macs": layer.macs and layer.macs * runs,
                "activation_bytes": layer.activation_bytes * runs,
            }
        )
        for layer in alone
    ]
    known = [layer.macs for layer in layers if layer.macs is not None]
    macs = sum(known) if len(known) == len(layers) else None
    weight_bytes = sum(layer.weight_bytes for layer in layers)
    facts = _facts(
        network, runtime, seconds, macs, weight_bytes, len(layers), alone_s=alone_s * runs
    )
    part = tree(name, layers, seconds).model_copy(update={"kind": NETWORK})
    return Inside(facts, part, layers, timing.disturbance_cores)


def _facts(
    network: deployed.Network,
    runtime: str,
    seconds: float,
    macs: int | None,
    weight_bytes: int,
    layers: int = 0,
    alone_s: float | None = None,
) -> Network:
    stage = network.stage
    height, width = network.session.image_size
    return Network(
        stage=stage.name,
        model=stage.model,
        runtime=runtime,
        height=height,
        width=width,
        turns=stage.turns,
        layers=layers,
        macs=macs,
        weight_bytes=weight_bytes,
        seconds=seconds,
        alone_s=alone_s,
    )


def _work_in_torch(session: Session, batch: int) -> tuple[int | None, int]:
    """Return multiply-accumulates of a call, and bytes of weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from compress.models.torch_session import TorchSession

    assert isinstance(session, TorchSession)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        session.run(np.zeros((batch, session.channels or 3, *session.image_size), np.float32))
    weights = sum(p.numel() * p.element_size() for p in session.model.parameters())
    return counter.get_total_flops() // 2 or None, weights


def tree_of(name: str, timing: Timing, networks: Mapping[str, Part]) -> Part:
    """Nest decoding, the stages with their parts, and the rest: points, the image's memory.

    Args:
        networks: by stage, in order.
    """
    parts = [Part(name=DECODE, seconds=timing.parts_s[DECODE], kind=DECODE)]
    for stage, network in networks.items():
        names = {kind: part_name(stage, kind) for kind in (LOOK, NORMALISE)}
        before = [Part(name=x, seconds=timing.parts_s[x], kind=kind) for kind, x in names.items()]
        its = (*before, network)
        parts.append(Part(name=stage, seconds=sum(x.seconds for x in its), parts=its))
    rest_s = timing.clocked_s - sum(part.seconds for part in parts)
    parts.append(Part(name="rest", seconds=max(0.0, rest_s), kind=BETWEEN))
    return Part(name=name, seconds=sum(part.seconds for part in parts), parts=tuple(parts))
