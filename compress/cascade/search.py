"""Which networks to put together: every combination predicted, the front of them kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

TEACHER = "teacher"


@dataclass(frozen=True)
class Option:
    """One network that a stage could have, as its own recipe judged it."""

    candidate: str
    right: float  # share of images that it gets right alone, given what it should be shown


@dataclass(frozen=True)
class Way:
    """A sequence of stages, and what was measured of a few cascades that go it."""

    stages: tuple[str, ...]
    rest_s: float  # decoding, cutting, warping: what is no network
    network_s: Mapping[tuple[str, str], float]  # of a stage's candidate, behind other networks
    top1: float  # with the teacher in every stage


@dataclass(frozen=True)
class Combination:
    """One network for each stage of a way, and what is predicted of them."""

    way: tuple[str, ...]
    candidates: tuple[str, ...]
    predicted_s: float
    predicted_top1: float

    @property
    def name(self) -> str:
        return " + ".join(
            f"{stage}: {candidate}"
            for stage, candidate in zip(self.way, self.candidates, strict=True)
        )


def covering(options: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """As few combinations as have each candidate of each stage once; the teachers' is the first.

    What a network takes is measured in these: by itself, run again and again, it finds its weights
    in the caches, which in a row are the last network's.
    """
    count = max(len(names) for names in options.values())
    in_order = {
        stage: [TEACHER, *(name for name in names if name != TEACHER)]
        for stage, names in options.items()
    }
    return [
        {stage: names[number % len(names)] for stage, names in in_order.items()}
        for number in range(count)
    ]


def combinations(
    ways: Sequence[Way], options: Mapping[str, Sequence[Option]]
) -> Iterator[Combination]:
    """Every combination with its prediction.

    Times add up. Errors compound: a stage that is right less often than its teacher is taken to
    lower the whole in the same ratio, as if stages erred independently. That is a guess, which is
    why the front of these is measured end to end.

    Args:
        options: by stage; each has its teacher among them.
    """
    for way in ways:
        teachers = [
            next(option for option in options[stage] if option.candidate == TEACHER)
            for stage in way.stages
        ]
        for chosen in product(*(options[stage] for stage in way.stages)):
            top1 = way.top1
            for option, teacher in zip(chosen, teachers, strict=True):
                top1 *= option.right / teacher.right if teacher.right else 0.0
            yield Combination(
                way=way.stages,
                candidates=tuple(option.candidate for option in chosen),
                predicted_s=way.rest_s
                + sum(
                    way.network_s[stage, option.candidate]
                    for stage, option in zip(way.stages, chosen, strict=True)
                ),
                predicted_top1=min(1.0, top1),
            )


def front(found: Sequence[Combination]) -> list[Combination]:
    """Those that no other is at least as fast and as right as, and better at one; fastest first."""
    kept: list[Combination] = []
    for each in sorted(found, key=lambda x: (x.predicted_s, -x.predicted_top1)):
        if not kept or each.predicted_top1 > kept[-1].predicted_top1:
            kept.append(each)
    return kept
