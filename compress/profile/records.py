"""What a profile found, in SI units and fractions; `--json` prints it as it is."""

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from compress.measure.layer_profile import Layer
from compress.results.schema import Machine
from compress.utils.interval import Interval
from compress.utils.record import Record

BETWEEN = "between the layers"
NMS = "non-maximum suppression"
DECODE, LOOK, NORMALISE, NETWORK = "decode", "look", "normalise", "network"  # of a pipeline
NO_LAYERS = (BETWEEN, DECODE, LOOK, NORMALISE, NETWORK)  # kinds of parts
OTHERWISE_THE_SAME = "otherwise the same"  # what a gain of the base's own is measured against


class Part(Record):
    """Something with a time that nests: a network, a stage of a pipeline, a block, a layer."""

    name: str
    seconds: float
    kind: str = ""  # of a layer its operation
    macs: int | None = None  # multiply-accumulates, where they were counted
    parts: tuple["Part", ...] = ()  # in the order of execution

    def walk(self) -> Iterator["Part"]:
        """Yield it and everything in it, in the order of execution, the outer first."""
        yield self
        for part in self.parts:
            yield from part.walk()


class Rate(Record):
    """The highest rate that was reached, and by what."""

    value: float
    reached_by: str


class Limits(Record):
    """What this machine reaches with so many threads."""

    macs_per_s: dict[str, Rate]  # by precision
    bytes_per_s: Rate


class Reach(Record):
    """How near a layer comes to the machine's limit (compress/profile/roofline.py)."""

    bound: Literal["compute", "memory"]
    share: float  # of the limit; above 1 where data came from a nearer cache than was measured


class Gain(Record):
    """A change that compresses nothing, timed on the user's own model."""

    change: str
    against: str
    ratio: Interval  # times faster
    median_s: float
    but: str | None = None  # what it may cost


class Fact(Record):
    """A finding about the machine and its libraries."""

    subject: str
    found: str
    advice: str | None = None  # None: nothing to be won here


class Audit(Record):
    """Facts, and gains that were measured while others used so much of the machine."""

    facts: list[Fact]
    gains: list[Gain]
    disturbance_cores: float = 0.0


class Network(Record):
    """A network of a pipeline; its times are of a photograph."""

    stage: str
    model: str  # its file
    runtime: str
    height: int
    width: int
    turns: int  # of its view that it is shown
    layers: int  # none in torch
    macs: int | None  # multiply-accumulates of all turns; None: not counted
    weight_bytes: int
    seconds: float  # in the pipeline
    alone_s: float | None  # run again and again by itself, as its layers were timed


class Profile(Record):
    """Where the time of one model or pipeline goes.

    `root` nests: blocks, layers and, last, what is between them; of a pipeline, decoding and the
    stages around that. Its seconds are those of a call; a pipeline is called with one photograph,
    and its times are means over all.
    """

    model: str
    runtime: str
    runtime_version: str
    random_weights: bool
    threads: int
    batch: int
    channels: int = 3  # of an image
    height: int | None  # of a pipeline, the largest photograph's; None: its inputs are no image
    width: int | None
    fed: str = ""  # the inputs in words, where they are no image
    machine: Machine
    whole_s: float  # a call, without any profile
    profiled_s: float  # with the runtime's; of a detector or a pipeline, with clocks
    disturbance_cores: float  # that other processes used meanwhile
    root: Part
    layers: list[Layer] = []  # none of a detector
    photographs: int = 0  # that a pipeline was timed on
    networks: list[Network] = []  # of a pipeline
    limits: Limits | None = None
    audit: Audit | None = None
    advice: list[str] = []
    notes: list[str] = []

    @cached_property
    def between_s(self) -> float:
        """Return seconds between the kernels; of a detector, between its parts."""
        return sum(part.seconds for part in self.root.walk() if part.name == BETWEEN)

    @property
    def macs(self) -> int:
        """Return multiply-accumulates of a call, as far as they can be counted."""
        return sum(counted.macs or 0 for counted in self.networks or self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(counted.weight_bytes for counted in self.networks or self.layers)
