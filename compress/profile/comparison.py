"""What comparing two files found; `--json` prints it as it is."""

from typing import Literal

from compress.profile.records import Fact, Profile
from compress.utils.interval import Interval
from compress.utils.record import Record

# How a cause is found: precision, kernel, rate (the same work at another speed) and work (more of
# it) are of layers that both have; the other ones are not.
CauseKind = Literal[
    "threads", "precision", "kernel", "rate", "work", "only", "conversion", "layout", "copy",
    "other", "between",
]  # fmt: skip


class Half(Record):
    """What one file spends on something."""

    seconds: float
    count: int  # kernels
    operation: str = ""
    precision: str = ""
    kernel: str = ""
    macs: int | None = 0


class Pair(Record):
    """Layers that do the same work in both files, or the sum over what only belongs together."""

    name: str
    a: Half
    b: Half
    difference_s: Interval  # B less A, a call


class Cause(Record):
    """A part of the difference between the files; all of them add up to it."""

    kind: CauseKind
    operation: str  # of the layers, where it is in some
    where: str  # as a sentence goes on: "the difference is in …"
    difference_s: Interval  # B less A, a call
    share: float | None  # of the difference; None: it is within the noise
    change: str | None  # what to change

    @property
    def certain(self) -> bool:
        """Whether it is more than noise."""
        return not self.difference_s.low <= 0 <= self.difference_s.high


class Comparison(Record):
    """Why one file is slower than another on this machine.

    `pairs` hold every layer that has a partner, `apart` what has none, in sums.
    """

    verdict: str
    explanations: list[str]
    a: Profile
    b: Profile
    ratio: Interval  # times that B takes as long as A, as deployed: in fresh processes
    deployed_s: tuple[float, float]
    difference_s: Interval  # B less A, of the calls that the layers are from
    pairs: list[Pair]
    apart: list[Pair]
    causes: list[Cause]  # the largest first, what is within the noise last
    facts: list[Fact]
    notes: list[str]
