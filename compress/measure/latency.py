"""How long a call takes: artifacts interleaved in one process, raw samples kept."""

import time
from collections.abc import Callable

import numpy as np

from compress.results import Interval, Latency, Speedup
from compress.runtimes import Session
from compress.seeding import generator

CONFIDENCE = 0.95
RESAMPLES = 2000
WARM_UP = 3  # calls before the first round
SETTLE_S = 0.05
WARM_S = 0.01


def time_interleaved(
    sessions: dict[str, Session],
    inputs: dict[str, np.ndarray],
    rounds: int,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Latency]:
    """Times every session once a round, in a new random order each round.

    A disturbance then hits all alike, and ratios are taken within a round. Before each timed call
    nothing runs for SETTLE_S, then the same model untimed for WARM_S: runtimes let their idle
    threads spin for a while, and a model that is timed meanwhile looks up to twice as slow (VGG16
    at 64 px: 14 ms instead of 7); without the untimed calls small models would be timed with the
    caches that a big one left behind.

    Args:
        inputs: float32 (batch, 3, height, width) for each session, ready in memory.
    """
    for name, session in sessions.items():
        for _ in range(WARM_UP):
            session.run(inputs[name])
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    rng = generator(0, "order of timing")
    for round_ in range(rounds):
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
        progress(round_ + 1, rounds)
    return {name: summarise(s, len(inputs[name]), threads) for name, s in samples.items()}


def summarise(samples_s: list[float], batch: int, threads: int) -> Latency:
    median = float(np.median(samples_s))
    return Latency(
        batch=batch,
        threads=threads,
        median_s=median,
        p95_s=float(np.quantile(samples_s, 0.95)),
        pictures_per_s=batch / median,
        samples_s=samples_s,
    )


def speedup(against: str, runtime: str, reference: Latency, candidate: Latency) -> Speedup:
    """The median of the rounds' ratios reference / candidate, bootstrapped over rounds."""
    ratios = np.asarray(reference.samples_s) / np.asarray(candidate.samples_s)
    rng = generator(0, "speedup bootstrap", len(ratios))
    chosen = rng.integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.quantile(
        np.median(ratios[chosen], axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    )
    return Speedup(
        against=against,
        runtime=runtime,
        threads=candidate.threads,
        batch=candidate.batch,
        ratio=Interval(value=float(np.median(ratios)), low=float(low), high=float(high)),
    )
