"""How long a call takes: artifacts interleaved in one process, then over several processes."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import stdtrit

from compress.measure.conditions import about_samples
from compress.metrics.percentiles import percentiles
from compress.results.schema import Latency, Speedup
from compress.utils.interval import Interval
from compress.utils.seeding import generator

CONFIDENCE = 0.95
RESAMPLES = 2000  # where there is one process only
WARM_UP = 3  # calls before the first round
SETTLE_S = 0.05
WARM_S = 0.01


def time_interleaved(
    calls: Mapping[str, Callable[[int], object]],
    rounds: int,
    seed: int = 0,
    warm_up: int = WARM_UP,
) -> dict[str, list[float]]:
    """Seconds of each call: every model once a round, in a new random order each round.

    A disturbance then hits all alike, and ratios are taken within a round. Before each timed call
    nothing runs for SETTLE_S, then the same model untimed for WARM_S: some runtimes let their idle
    threads spin for a while (torch's OpenMP does), and a model that is timed meanwhile looks up to
    twice as slow (VGG16 at 64 px: 14 ms instead of 7); without the untimed calls small models would
    be timed with the caches that a big one left behind.

    Args:
        calls: what to time, by model, with inputs that are ready in memory; each is given the
            number of the round, so that all can be given the same input in it.
        warm_up: calls of each before the first round.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call(0)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    rng = generator(seed, "order of timing")
    for number in range(rounds):
        for name in rng.permutation(list(calls)).tolist():
            time.sleep(SETTLE_S)
            warm_until = time.perf_counter() + WARM_S
            while True:
                calls[name](number)
                if time.perf_counter() >= warm_until:
                    break
            started = time.perf_counter()
            calls[name](number)
            samples[name].append(time.perf_counter() - started)
    return samples


def summarise(samples_s: list[list[float]], batch: int, threads: int) -> Latency:
    """One latency from the samples of each process.

    The median is that of the processes' medians, so that no process counts more than another.
    """
    median = float(np.median([np.median(process) for process in samples_s]))
    together = np.concatenate(samples_s)
    return Latency(
        batch=batch,
        threads=threads,
        median_s=median,
        p95_s=float(np.quantile(together, 0.95)),
        percentiles=percentiles(together.tolist()),
        warnings=about_samples(samples_s, batch),
        images_per_s=batch / median,
        samples_s=samples_s,
    )


def speedup(against: str, runtime: str, reference: Latency, candidate: Latency) -> Speedup:
    """How many times faster `candidate` is, with a 95 % interval.

    Each process gives the median of its rounds' ratios reference / candidate; the speedup is the
    median of those. All of it is done on logarithms, so that the slowdown is the inverse of the
    speedup. One process's memory layout and thread placement are common to all its rounds (a model
    of under a millisecond can differ twofold between processes), so that the interval is Student's
    t on the processes' medians: what varies within a process is in them too. It is widened to hold
    the speedup where that lies outside.

    Simulated with 5 processes of 20 rounds it covers 95 % whichever of the two variations is the
    larger, 94 to 96 % if processes are of two kinds, skewed or heavy-tailed. Drawing processes and
    rounds with replacement instead covered 93 to 100 %, and 55 to 99 % with 2 processes.

    A single process tells nothing of others: the interval is then that of its rounds alone, drawn
    with replacement, and too narrow.
    """
    logs = [
        np.log(np.asarray(r) / np.asarray(c))
        for r, c in zip(reference.samples_s, candidate.samples_s, strict=True)
    ]
    medians = np.asarray([np.median(process) for process in logs])
    value = float(np.median(medians))
    low, high = around_mean(medians) if len(medians) > 1 else _within(logs[0])
    low, value, high = np.exp([min(low, value), value, max(high, value)]).tolist()
    return Speedup(
        against=against,
        runtime=runtime,
        threads=candidate.threads,
        batch=candidate.batch,
        ratio=Interval(value=value, low=low, high=high),
    )


def around_mean(values: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean of two values or more."""
    count = len(values)
    half = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(count)
    return float(values.mean() - half), float(values.mean() + half)


def _within(logs: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap of the median."""
    rng = generator(0, "speedup bootstrap", len(logs))
    drawn = np.median(logs[rng.integers(len(logs), size=(RESAMPLES, len(logs)))], axis=1)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
