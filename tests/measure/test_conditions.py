"""Percentiles, energy, and what is said of the conditions of timing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compress.measure.conditions import about_machine, about_samples, drift
from compress.measure.energy import energy_per_call_j
from compress.metrics.percentiles import allowed_above, percentiles

QUIET = {
    "threads": 2,
    "usable": 2,
    "disturbance_cores": 0.05,
    "steal_cores": 0.0,
    "frequency_mhz": (2990.0, 3000.0),
}


@pytest.mark.parametrize(
    ("samples", "left_out"), [(64, 0), (201, 9), (659, 47), (708, 51), (79_944, 7796)]
)
def test_as_many_are_left_out_as_mlperf_leaves_out(samples: int, left_out: int) -> None:
    """Of so many queries, published logs of its load generator say for the 90th percentile."""
    assert allowed_above(samples, 90) - 1 == left_out
    (p90,) = (x for x in percentiles(range(1, samples + 1)) if x.percent == 90)
    assert p90.bound_s == samples - left_out


def test_too_few_samples_give_no_percentile() -> None:
    for number, known in (
        (10, []),
        (63, [50]),
        (64, [50, 90]),
        (129, [50, 90]),
        (661, [50, 90, 95]),
    ):
        found = percentiles(np.arange(number).tolist())
        assert [x.percent for x in found if x.bound_s is not None] == known
        assert [x.needs_samples for x in found] == [11, 64, 130, 662]  # as MLPerf says of 90 and 99


@given(st.integers(2, 900), st.sampled_from([50, 90, 95, 99]))
def test_the_rule_by_the_binomial_distribution(samples: int, percent: int) -> None:
    t = allowed_above(samples, percent)
    over = stats.binom(samples, 1 - percent / 100)
    assert t == 0 or over.cdf(t) < 0.01
    assert t + 1 >= samples or over.cdf(t + 1) >= 0.01 - 1e-12


def test_a_percentile_is_seldom_above_its_bound() -> None:
    """Of 2000 bounds on an exponential's p90, from 100 samples each."""
    rng = np.random.default_rng(0)
    samples = np.sort(rng.exponential(size=(2000, 100)))
    bounds = samples[:, -allowed_above(100, 90)]
    assert (bounds < stats.expon.ppf(0.9)).mean() <= 0.01


def rounds(processes: int, count: int, slope: float, noise: float = 0.02) -> list[list[float]]:
    """Seconds that grow by the share `slope` from a process's first round to its last."""
    rng = np.random.default_rng(0)
    trend = np.linspace(0, slope, count)
    return (0.01 * (1 + trend) * np.exp(noise * rng.standard_normal((processes, count)))).tolist()


@pytest.mark.parametrize("processes", [1, 5])
def test_drift_is_found_in_both_directions(processes: int) -> None:
    slower, quicker = drift(rounds(processes, 30, 0.3)), drift(rounds(processes, 30, -0.2))
    assert slower is not None and 0.15 < slower < 0.3
    assert quicker is not None and -0.2 < quicker < -0.08
    (said,) = about_samples(rounds(5, 30, 0.3), 8)
    assert "At batch 8" in said and "more in the last third" in said


def test_small_drift_and_few_rounds_are_none() -> None:
    assert drift(rounds(5, 200, 0.03, noise=0.001)) is None  # certain, but of no account
    assert drift(rounds(5, 5, 0.5)) is None
    assert drift([]) is None


def test_drift_is_seldom_seen_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    false = [drift(rng.lognormal(0, 0.3, (5, 20)).tolist()) is not None for _ in range(500)]
    assert sum(false) <= 10  # 5 expected


def test_few_samples_and_processes_are_said() -> None:
    assert about_samples(rounds(5, 20, 0), 1) == []
    (few,) = about_samples(rounds(2, 20, 0), 1)
    assert few.startswith("Timed in 2 processes only")
    alone, samples = about_samples(rounds(1, 3, 0), 8)
    assert "1 process only" in alone and "Only 3 samples at batch 8" in samples


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"threads": 4}, "use at most 2"),
        ({"disturbance_cores": 0.4}, "Other programs used up to 0.4 cores"),
        ({"disturbance_cores": 0.4, "steal_cores": 0.4}, "Other virtual machines used up to 0.4"),
        ({"frequency_mhz": (2000.0, 3000.0)}, "between 2.00 and 3.00 GHz"),
        ({"frequency_mhz": None}, None),
    ],
)
def test_what_is_said_of_the_machine(changed: dict[str, object], said: str | None) -> None:
    found = about_machine(**(QUIET | changed))  # type: ignore[arg-type]
    assert found == [] if said is None else len(found) == 1 and said in found[0]


def counter(powercap: Path, name: str, microjoules: int, top: int, zone: str = "package-0") -> Path:
    """A zone's files, as the kernel lays them out."""
    package = powercap / name
    package.mkdir(parents=True)
    (package / "name").write_text(f"{zone}\n")
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text(f"{top}\n")
    return package / "energy_uj"


def test_energy_is_the_packages_counters_by_calls(tmp_path: Path) -> None:
    one = counter(tmp_path, "intel-rapl:0", 5_000_000, 10**9)
    other = counter(tmp_path, "intel-rapl:1", 999_900_000, 10**9)  # about to start again at 0
    counter(tmp_path, "intel-rapl:0:0", 1, 10**9, "core")  # a part of the first package
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        one.write_text(f"{5_000_000 + 30_000 * calls}")
        other.write_text(f"{(999_900_000 + 70_000 * calls) % 10**9}")

    assert energy_per_call_j(call, 0.05, tmp_path) == pytest.approx(0.1)
    assert calls > 1  # so that the second did start again


def test_what_counts_the_whole_machine_is_not_added_to_its_packages(tmp_path: Path) -> None:
    package = counter(tmp_path, "intel-rapl:0", 0, 10**9)
    machine = counter(tmp_path, "intel-rapl:1", 0, 10**9, "psys")
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        package.write_text(f"{100_000 * calls}")
        machine.write_text(f"{170_000 * calls}")

    assert energy_per_call_j(call, 0.0, tmp_path) == pytest.approx(0.1)


def test_without_counters_there_is_no_energy_and_no_call(tmp_path: Path) -> None:
    calls: list[int] = []
    assert energy_per_call_j(lambda: calls.append(1), 9.0, tmp_path / "none") is None
    counter(tmp_path, "intel-rapl:0", 1, 10).unlink()  # as little as a file that may not be read
    assert energy_per_call_j(lambda: calls.append(1), 9.0, tmp_path) is None
    assert calls == []
