"""Latencies and speedups against independent formulas, and how files are timed."""

import os
import time
from collections import namedtuple
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compress.measure import processes
from compress.measure.latency import speedup, summarise, time_interleaved
from compress.measure.layer_times import LayerShape, LayerTimes, chain_model
from compress.measure.machine import frequency_mhz, machine, usable_threads
from compress.measure.memory import first_run
from compress.measure.processes import Run, Timed
from compress.results.schema import Latency
from compress.runtimes import threads
from compress.runtimes.onnxruntime import OnnxSession
from compress.utils import alone
from compress.utils.alone import TIMING, Note, alone_on_machine
from compress.utils.errors import UserError
from tests.other_run import ALONE, go_on, said, started
from tests.outputs import only


def latency(samples_s: np.ndarray) -> Latency:
    return summarise(samples_s.tolist(), 1, 2)


def test_a_latency_is_the_median_of_the_processes_medians() -> None:
    found = summarise([[1.0, 2.0, 9.0], [3.0, 3.0, 3.0], [5.0, 4.0, 6.0]], 6, 2)
    assert (found.median_s, found.images_per_s, found.batch, found.threads) == (3, 2, 6, 2)
    assert found.p95_s == np.quantile([1, 2, 9, 3, 3, 3, 5, 4, 6], 0.95)
    assert found.samples_s[0] == [1, 2, 9] and found.disturbance_cores is None
    assert [x.percent for x in found.percentiles] == [50, 90, 95, 99]


@pytest.mark.parametrize("count", [1, 5])
def test_speedup_is_the_median_of_paired_ratios(count: int) -> None:
    rng = np.random.default_rng(0)
    shared = rng.uniform(1, 3, (count, 200))  # a disturbance that hits both alike
    noise = rng.uniform(0.98, 1.02, (count, 200))
    got = speedup("teacher", "onnxruntime", latency(shared * 12), latency(shared * 3 * noise))
    assert got.ratio.value == pytest.approx(4, rel=0.01)
    assert got.ratio.low < got.ratio.value < got.ratio.high
    assert got.ratio.high - got.ratio.low < 0.1
    assert (got.threads, got.batch, got.against) == (2, 1, "teacher")


def test_the_interval_between_processes_is_students_t() -> None:
    """Of the logarithms of the processes' medians, against scipy."""
    rng = np.random.default_rng(0)
    reference, candidate = rng.uniform(1, 2, (2, 4, 9))
    got = speedup("teacher", "onnxruntime", latency(reference), latency(candidate)).ratio
    logs = np.log(np.median(reference / candidate, axis=1))
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    assert (got.low, got.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert got.value == pytest.approx(np.exp(np.median(logs))) and got.confidence == 0.95


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
@settings(deadline=None)
def test_a_speedup_lies_in_its_interval(ratios: list[float]) -> None:
    """However skewed the processes are; and the other way round it is the inverse."""
    one, other = np.ones((len(ratios), 3)), np.asarray(ratios)[:, None].repeat(3, 1)
    got = speedup("a", "onnxruntime", latency(other), latency(one)).ratio
    assert got.low <= got.value <= got.high
    back = speedup("b", "onnxruntime", latency(one), latency(other)).ratio
    inverse = (1 / back.high, 1 / back.value, 1 / back.low)
    assert inverse == pytest.approx((got.low, got.value, got.high))


# Percent of 500 intervals that hold the truth, as found, in the order of the cases below, and what
# drawing processes and rounds with replacement gave instead:
#  2 processes 96.6 93.8 96.4 94.6, instead 55.2 75.8 98.6 99.0
#  5 processes 96.2 96.0 96.2 95.8, instead 95.0 97.8 100.0 100.0
# 10 processes 94.6 94.8 96.4 96.2, instead 94.6 97.2 100.0 100.0
@pytest.mark.parametrize("count", [2, 5, 10])
@pytest.mark.parametrize(
    ("between", "within"), [(0.3, 0.05), (0.05, 0.05), (0.01, 0.1), (0.0, 0.05)]
)
def test_speedup_intervals_cover(count: int, between: float, within: float) -> None:
    """Processes differ, rounds differ, one round in 20 is far off: 95 % of intervals cover."""
    rng = np.random.default_rng(0)
    truth, hits = 4.0, 0
    for _ in range(500):
        shape = (count, 20)
        logs = rng.normal(0, between, (count, 1)) + rng.normal(0, within, shape)
        logs += np.where(rng.random(shape) < 0.05, rng.normal(0, 0.5, shape), 0)
        reference = rng.uniform(1, 2, shape)
        candidate = reference / (truth * np.exp(logs))
        got = speedup("teacher", "onnxruntime", latency(reference), latency(candidate)).ratio
        hits += got.low <= truth <= got.high
    assert 0.93 * 500 <= hits <= 0.97 * 500


class Sleeper:
    """A session that takes known time and notes when it is called."""

    image_size = (4, 4)

    def __init__(self, name: str, seconds: float, calls: list[str]) -> None:
        self.name, self.seconds, self.calls = name, seconds, calls

    def run(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(self.name)
        time.sleep(self.seconds)
        return images


def test_sessions_are_interleaved_and_raw_samples_kept() -> None:
    calls: list[str] = []
    sessions = {name: Sleeper(name, 0.001, calls) for name in "abc"}
    images = np.zeros((2, 3, 4, 4), np.float32)
    got = time_interleaved({n: lambda _, s=s: s.run(images) for n, s in sessions.items()}, 12, 1)
    runs = [(name, len(list(group))) for name, group in groupby(calls[9:])]  # 9 to warm up
    assert 24 <= len(runs) <= 36  # 12 rounds of three; neighbours may be the same model
    # Each is called untimed first: the timed call finds its own caches.
    assert all(count >= 2 for _, count in runs)
    assert len({tuple(name for name, _ in runs[i : i + 3]) for i in range(0, 24, 3)}) > 1
    for samples_s in got.values():
        assert len(samples_s) == 12 and min(samples_s) >= 0.001


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Timed]:
    """Two files that take an image of 8 x 6."""
    found = {}
    for name, channels in (("small", 4), ("large", 32)):
        shape = LayerShape(3, channels, (3, 3), input_size=(8, 6))
        onnx.save(chain_model((shape,)), tmp_path / f"{name}.onnx")
        found[name] = Timed(tmp_path / f"{name}.onnx", "onnxruntime")
    return found


def test_files_are_timed_in_fresh_processes(
    files: dict[str, Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ATTEMPTS", 1)
    steps: list[tuple[int, int]] = []
    found = processes.time_in_processes(
        files, {1: 5}, 1, 2, progress=lambda done, total: steps.append((done, total))
    )
    assert list(found) == ["small", "large"] and steps == [(1, 2), (2, 2)]
    for (got,) in found.values():
        assert (got.batch, got.threads) == (1, 1)
        assert [len(samples) for samples in got.samples_s] == [5, 5]
        assert min(map(min, got.samples_s)) > 0
        assert got.disturbance_cores is not None and got.disturbance_cores >= 0


def test_what_the_shell_says_of_threads_is_not_measured(
    files: dict[str, Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spinning and affinity are told: two shells give the same numbers."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY"):
        monkeypatch.setenv(name, "nonsense")
    found = threads.environment()
    assert not set(threads.VARIABLES) & set(found)
    assert found["PATH"] == os.environ["PATH"]
    run: Any = processes.subprocess.run
    given: list[dict[str, str]] = []

    def noted(*arguments: Any, **settings: Any) -> Any:
        given.append(settings["env"])
        return run(*arguments, **settings)

    monkeypatch.setattr(processes.subprocess, "run", noted)
    (got,) = processes.time_in_processes(files, {1: 5}, 1, 1, attempts=1)["small"]
    first_run(files["small"].path, "onnxruntime", 1)
    assert len(given) > 1 and all(environment == found for environment in given)
    assert got.cpus == sorted(os.sched_getaffinity(0))


def test_only_sessions_in_a_row_sleep_between_runs(files: dict[str, Timed]) -> None:
    """And only there do threads have CPUs of their own; afterwards this one has all again."""
    path, before = files["small"].path, os.sched_getaffinity(0)
    images = np.zeros((1, 3, 8, 6), np.float32)
    single, in_a_row = OnnxSession(path, 1), OnnxSession(path, len(before), alone=False)
    for session, told in ((single, False), (in_a_row, True)):
        options = session.session.get_session_options()
        for entry in ("force_spinning_stop", "intra_op_thread_affinities"):
            asked = told and (entry == "force_spinning_stop" or len(before) > 1)
            with nullcontext() if asked else pytest.raises(RuntimeError):
                options.get_session_config_entry(f"session.{entry}")
        session.run(images)
        assert os.sched_getaffinity(0) == before
    np.testing.assert_array_equal(only(single.run(images)), only(in_a_row.run(images)))
    with threads.on_first_cpu(len(before)):
        expected = {min(before)} if len(before) > 1 else before
        assert os.sched_getaffinity(0) == expected
    with threads.on_first_cpu(len(before) + 1):
        assert os.sched_getaffinity(0) == before


def time_in_fresh_processes(files: dict[str, Timed], tmp_path: Path, note: Note) -> None:
    processes.time_in_processes(files, {1: 2}, 1, 1, note=note)


def time_layers_of_a_table(files: dict[str, Timed], tmp_path: Path, note: Note) -> None:
    LayerTimes(tmp_path, "a", 1, note).seconds((LayerShape(12, 5),))


@pytest.mark.parametrize("work", [time_in_fresh_processes, time_layers_of_a_table])
def test_what_is_timed_waits_until_another_run_has_timed(
    work: Callable[[dict[str, Timed], Path, Note], None],
    files: dict[str, Timed],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alone, "PATIENCE_S", 0.05)
    told: list[str] = []
    with started(ALONE, TIMING) as other:
        assert said(other) == "held"

        def note(text: str) -> None:
            told.append(text)
            go_on(other)

        work(files, tmp_path, note)
        assert said(other) == "left"
    assert len(told) == 1 and told[0].startswith("Waits until another run on this machine")
    with alone_on_machine(TIMING):  # nor do its own processes wait for it
        work(files, tmp_path / "anew", pytest.fail)


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken.onnx cannot be loaded by onnxruntime"):
        processes.time_in_processes(
            {"broken": Timed(tmp_path / "broken.onnx", "onnxruntime")}, {1: 5}, 1, 1
        )


def test_disturbed_processes_are_repeated(
    files: dict[str, Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ATTEMPTS", 3)
    # By seed: quiet at once; quiet the second time; never quiet, the second least disturbed.
    disturbances = {0: [0.05], 1: [0.4, 0.1], 2: [0.9, 0.3, 0.5]}
    calls: list[tuple[int, float]] = []

    def fresh_process(job: dict[str, Any], program: str) -> Run:
        seed = job["seed"]
        cores = disturbances[seed].pop(0)
        calls.append((seed, cores))
        return Run([(name, 1, [cores + 1, cores + 1]) for name in job["models"]], cores)

    monkeypatch.setattr(processes, "_fresh_process", fresh_process)
    found = processes.time_in_processes(files, {1: 2}, 1, 3)
    assert calls == [(0, 0.05), (1, 0.4), (1, 0.1), (2, 0.9), (2, 0.3), (2, 0.5)]
    for (got,) in found.values():
        assert got.samples_s == [[1.05, 1.05], [1.1, 1.1], [1.3, 1.3]]
        assert got.disturbance_cores == 0.3
        assert Latency.model_validate_json(got.model_dump_json()) == got


@pytest.mark.parametrize(("others_s", "cores"), [(6.0, 1.5), (0.0, 0.0), (-0.01, 0.0)])
def test_disturbance_is_what_others_used(
    files: dict[str, Timed], monkeypatch: pytest.MonkeyPatch, others_s: float, cores: float
) -> None:
    """In 4 s this process used 2 s, and so many were used by others, 0.5 s of them stolen."""
    Times = namedtuple("Times", ["user", "nice", "system", "idle", "iowait", "steal"])
    before, after = Times(100, 20, 30, 500, 7, 1), Times(100 + others_s, 21, 30.5, 900, 50, 1.5)
    busy = iter([before, before, after, after])
    clock, own = iter([10.0, 14.0]), iter([3.0, 5.0])
    fake = SimpleNamespace(perf_counter=lambda: next(clock), process_time=lambda: next(own))
    monkeypatch.setattr(processes, "time", fake)
    monkeypatch.setattr(processes.psutil, "cpu_times", lambda: next(busy))
    seen = iter([2500.0, 3000.0])
    monkeypatch.setattr(processes, "frequency_mhz", lambda: next(seen))
    job = {
        "models": {name: [str(m.path), m.runtime, 1] for name, m in files.items()},
        "rounds": {"1": 2},
        "allowed": [],
        "photographs": [],
        "seed": 0,
    }
    run = processes.time_here(job, processes.load)
    assert run.disturbance_cores == pytest.approx(cores)
    assert run.steal_cores == 0.125
    assert run.frequency_mhz == [2500.0, 3000.0]
    assert [(name, batch, len(seconds)) for name, batch, seconds in run.samples] == [
        ("small", 1, 2),
        ("large", 1, 2),
    ]


def test_the_clock_is_that_of_the_fastest_core(monkeypatch: pytest.MonkeyPatch) -> None:
    here = frequency_mhz()
    assert here is None or 100 < here < 10_000
    cores = [SimpleNamespace(current=2500.0), SimpleNamespace(current=3000.0)]
    monkeypatch.setattr(processes.psutil, "cpu_freq", lambda percpu: cores)
    assert frequency_mhz() == 3000
    cores.clear()
    assert frequency_mhz() is None  # the system does not tell


def test_conditions_are_kept_and_judged(
    files: dict[str, Timed], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = iter([[3000.0, 2500.0], [2800.0]])

    def fresh_process(job: dict[str, Any], program: str) -> Run:
        samples = [(name, 1, [1.0, 1.0]) for name in job["models"]]
        return Run(samples, 0.5, 0.2, next(clocks))

    monkeypatch.setattr(processes, "_fresh_process", fresh_process)
    monkeypatch.setattr(processes, "usable_threads", lambda: 2)
    (got,) = processes.time_in_processes(files, {1: 2}, 3, 2)["small"]
    assert (got.disturbance_cores, got.steal_cores) == (0.5, 0.2)
    assert got.frequency_mhz == (2500, 3000)
    said = " ".join(got.warnings)
    for cause in ("3 threads", "0.2 of this", "up to 0.3 cores", "2.50 and 3.00 GHz", "4 samples"):
        assert cause in said
    assert Latency.model_validate_json(got.model_dump_json()) == got


def test_a_model_may_have_threads_of_its_own(files: dict[str, Timed]) -> None:
    models = {"one": replace(files["small"], threads=1), "all": files["small"]}
    timed = processes.time_in_processes(models, {1: 2}, threads=2, processes=1)
    assert {name: found[0].threads for name, found in timed.items()} == {"one": 1, "all": 2}


def test_latencies_of_before_have_no_disturbance() -> None:
    old = {"batch": 1, "threads": 1, "median_s": 1, "p95_s": 1, "images_per_s": 1}
    assert Latency.model_validate(old | {"samples_s": [1.0]}).disturbance_cores is None


def test_the_first_run_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    tensor = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Flatten", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", tensor, ["n", 3, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", tensor, ["n", 48])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)
    mine = np.ones(100_000_000)  # 800 MB
    began = time.perf_counter()
    got = first_run(path, "onnxruntime", 1)
    assert 0 < got.cold_start_s < time.perf_counter() - began
    assert 10**7 < got.peak_memory_bytes < 4 * 10**8 < mine.nbytes
    assert got.energy_j is None or got.energy_j > 0  # few machines count it


def test_a_first_run_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(RuntimeError, match=r"broken.onnx cannot be loaded by onnxruntime"):
        first_run(tmp_path / "broken.onnx", "onnxruntime", 1)


def test_machine_facts() -> None:
    here = machine()
    assert here.cores >= usable_threads() >= 1
    assert here.versions["onnxruntime"] and here.memory_bytes > 10**8
