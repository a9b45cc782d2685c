"""What was measured of two files that are compared, before anything is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.profile.records import Profile
from compress.profile.rounds import Rounds
from compress.results.schema import Latency


@dataclass(frozen=True)
class Measured:
    """Two files, timed layer by layer in turn, and as they are deployed."""

    a: Profile
    b: Profile
    rounds_a: Rounds
    rounds_b: Rounds
    rounds_like_a: Rounds  # of B with as many threads as A
    deployed: Mapping[str, Latency]  # of A and B, and of "A alone", "B alone" with one thread
    outputs: tuple[Sequence[tuple[int, ...]], Sequence[tuple[int, ...]]]  # shapes of the answers
