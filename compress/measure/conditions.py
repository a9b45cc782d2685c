"""Under what conditions something was timed, and what in them casts doubt on the numbers.

Denormals are not looked for: every deployed runtime here takes them as zero.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

FEW_PROCESSES = 5  # below it, what differs between processes is hardly known
FEW_SAMPLES = 10
QUIET_CORES = 0.1  # that others may use while a process times
CLOCK_CHANGE = 0.05  # of the highest clock
DRIFT = 0.05
DRIFT_CHANCE = 0.01  # that calls in a random order look as ordered
DRIFT_ROUNDS = 6  # of a process, fewer say nothing of drift


def about_samples(samples_s: Sequence[Sequence[float]], batch: int) -> list[str]:
    """What the samples of one model themselves show.

    Args:
        samples_s: a list a process, in the order of time.
    """
    found = []
    processes, total = len(samples_s), sum(map(len, samples_s))
    if processes < FEW_PROCESSES:
        found.append(
            f"Timed in {processes} process{'es' if processes > 1 else ''} only, and a small model "
            f"differs more between processes than within one: time in {FEW_PROCESSES} or more."
        )
    if total < FEW_SAMPLES:
        found.append(
            f"Only {total} samples at batch {batch}: take {FEW_SAMPLES} or more, in more rounds."
        )
    if slower := drift(samples_s):
        found.append(
            f"At batch {batch}, calls took {abs(slower):.0%} {'more' if slower > 0 else 'less'} in "
            "the last third of a process than in the first: the machine was not in a steady "
            "state. Let it cool down or warm up, and measure again."
        )
    return found


def about_machine(
    threads: int,
    usable: int,
    disturbance_cores: float,
    steal_cores: float,
    frequency_mhz: tuple[float, float] | None,
) -> list[str]:
    """What was to be had of the machine while everything was timed.

    Args:
        usable: threads that the process may use at once, by its affinity and its cgroup's quota.
        disturbance_cores: used by others, `steal_cores` of these by other virtual machines.
        frequency_mhz: the lowest and the highest clock seen.
    """
    found = []
    if threads > usable:
        found.append(
            f"{threads} threads waited for each other on what affinity and the cgroup's quota "
            f"leave, {usable} core{'s' if usable > 1 else ''}: use at most {usable}."
        )
    if steal_cores > QUIET_CORES:
        found.append(
            f"Other virtual machines used up to {steal_cores:.1f} of this one's cores (steal "
            "time): measure at another time, or on a machine that is not shared."
        )
    if disturbance_cores - steal_cores > QUIET_CORES:
        found.append(
            f"Other programs used up to {disturbance_cores - steal_cores:.1f} cores, however often "
            "it was tried: stop them and measure again."
        )
    if frequency_mhz and frequency_mhz[0] < (1 - CLOCK_CHANGE) * frequency_mhz[1]:
        found.append(
            f"The CPU's clock changed between {frequency_mhz[0] / 1e3:.2f} and "
            f"{frequency_mhz[1] / 1e3:.2f} GHz: fix it (performance governor, no turbo), or let "
            "the machine cool down first."
        )
    return found


def drift(samples_s: Sequence[Sequence[float]]) -> float | None:
    """By which share calls took longer in the last third than in the first; None: no drift.

    The share is that of the thirds' medians, and their geometric mean over the processes. It counts
    from DRIFT on, and if time and order go together: in random order, the sum of the processes'
    Spearman coefficients is about normal with variance processes / (rounds - 1).
    """
    processes = [np.asarray(x) for x in samples_s if len(x) >= DRIFT_ROUNDS]
    if not processes:
        return None
    orders = [np.corrcoef(np.argsort(np.argsort(x)), np.arange(len(x)))[0, 1] for x in processes]
    spread = sqrt(sum(1 / (len(x) - 1) for x in processes))
    chance = 2 * NormalDist().cdf(-abs(sum(orders)) / spread)
    thirds = [(x[: len(x) // 3], x[-(len(x) // 3) :]) for x in processes]
    logs = [np.log(np.median(last) / np.median(first)) for first, last in thirds]
    share = float(np.expm1(np.mean(logs)))
    return share if chance < DRIFT_CHANCE and abs(share) > DRIFT else None
