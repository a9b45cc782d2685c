"""How long a call takes: artifacts interleaved in one process, then over several processes."""

import time

import numpy as np
from scipy.special import stdtrit

from compress.measure.conditions import about_samples
from compress.measure.percentiles import percentiles
from compress.results import Interval, Latency, Speedup
from compress.runtimes import Session
from compress.seeding import generator

CONFIDENCE = 0.95
RESAMPLES = 2000  # where there is one process only
WARM_UP = 3  # calls before the first round
SETTLE_S = 0.05
WARM_S = 0.01


def time_interleaved(
    sessions: dict[str, Session],
    inputs: dict[str, np.ndarray],
    rounds: int,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Seconds of each call: every session once a round, in a new random order each round.

    A disturbance then hits all alike, and ratios are taken within a round. Before each timed call
    nothing runs for SETTLE_S, then the same model untimed for WARM_S: runtimes let their idle
    threads spin for a while, and a model that is timed meanwhile looks up to twice as slow (VGG16
    at 64 px: 14 ms instead of 7); without the untimed calls small models would be timed with the
    caches that a big one left behind.

    Args:
        inputs: float32 (batch, 3, height, width) for each session, ready in memory.
    """
    for name, session in sessions.items():
        for _ in range(WARM_UP if len(inputs[name]) == 1 else 1):
            session.run(inputs[name])
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    rng = generator(seed, "order of timing")
    for _ in range(rounds):
        for name in rng.permutation(list(sessions)).tolist():
            time.sleep(SETTLE_S)
            warm_until = time.perf_counter() + WARM_S
            while True:
                sessions[name].run(inputs[name])
                if time.perf_counter() >= warm_until:
                    break
            started = time.perf_counter()
            sessions[name].run(inputs[name])
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
        pictures_per_s=batch / median,
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
    low, high = _between(medians) if len(medians) > 1 else _within(logs[0])
    low, value, high = np.exp([min(low, value), value, max(high, value)]).tolist()
    return Speedup(
        against=against,
        runtime=runtime,
        threads=candidate.threads,
        batch=candidate.batch,
        ratio=Interval(value=value, low=low, high=high),
    )


def _between(medians: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean."""
    count = len(medians)
    half = stdtrit(count - 1, (1 + CONFIDENCE) / 2) * medians.std(ddof=1) / np.sqrt(count)
    return float(medians.mean() - half), float(medians.mean() + half)


def _within(logs: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap of the median."""
    rng = generator(0, "speedup bootstrap", len(logs))
    drawn = np.median(logs[rng.integers(len(logs), size=(RESAMPLES, len(logs)))], axis=1)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
