"""Accuracy, intervals and speedups against independent formulas."""

import time
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.measure.accuracy import paired_drop, score, wilson
from compress.measure.latency import speedup, summarise, time_interleaved
from compress.measure.machine import machine, usable_threads
from compress.measure.memory import peak_memory_bytes


def test_accuracy_against_loops() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 9)), rng.integers(0, 7, 60)
    logits[np.arange(60), labels] += 1.0
    got = score(logits, labels)
    ranks = [sorted(row, reverse=True).index(row[y]) for row, y in zip(logits, labels, strict=True)]
    assert got.top1.value == np.mean([r == 0 for r in ranks])
    assert got.top5 == np.mean([r < 5 for r in ranks])
    losses = [-np.log(np.exp(r[y]) / np.exp(r).sum()) for r, y in zip(logits, labels, strict=True)]
    assert got.log_loss == pytest.approx(np.mean(losses))
    recalls = []
    for label in set(labels.tolist()):
        hits = [r == 0 for r, y in zip(ranks, labels, strict=True) if y == label]
        recalls.append(np.mean(hits))
    assert got.macro_recall == pytest.approx(np.mean(recalls))
    assert got.correct == "".join("1" if r == 0 else "0" for r in ranks)


def test_huge_logits_give_a_finite_loss() -> None:
    assert np.isfinite(score(np.array([[1e4, -1e4], [0.0, 3e4]]), np.array([1, 1])).log_loss)


def test_wilson_by_hand() -> None:
    interval = wilson(8, 10)
    z, p, n = 1.959964, 0.8, 10
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half), abs=1e-5)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=5, max_size=60))
def test_paired_drop_is_the_difference_and_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    a = "".join("1" if x else "0" for x, _ in pairs)
    b = "".join("1" if y else "0" for _, y in pairs)
    drop, back = paired_drop(a, b), paired_drop(b, a)
    assert drop.value == pytest.approx((a.count("1") - b.count("1")) / len(a))
    assert drop.low <= drop.value <= drop.high
    assert (back.value, back.low, back.high) == pytest.approx((-drop.value, -drop.high, -drop.low))


def test_two_that_never_disagree_are_still_uncertain() -> None:
    drop = paired_drop("1" * 12 + "0" * 4, "1" * 12 + "0" * 4)
    # Agresti & Min: half a picture in each cell, so 1 discordant pair of 18.
    half = 1.959964 * np.sqrt(1 / 18**2)
    assert (drop.low, drop.value, drop.high) == pytest.approx((-half, 0, half), abs=1e-6)


def test_paired_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    lost, gained, n = 0.12, 0.05, 200
    hits = 0
    for _ in range(1000):
        kinds = rng.choice(3, n, p=[lost, gained, 1 - lost - gained])
        teacher = "".join("101"[k] for k in kinds)
        student = "".join("011"[k] for k in kinds)
        drop = paired_drop(teacher, student)
        hits += drop.low <= lost - gained <= drop.high
    assert 930 <= hits <= 970


def test_a_paired_interval_is_sharper_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.5
    b = np.where(rng.random(400) < 0.02, ~a, a)  # the same answers but for a few
    text = ["".join("1" if x else "0" for x in v) for v in (a, b)]
    drop = paired_drop(*text)
    assert drop.high - drop.low < 0.04 < wilson(int(a.sum()), 400).high - a.mean()


def test_speedup_is_the_median_of_paired_ratios() -> None:
    rng = np.random.default_rng(0)
    shared = rng.uniform(1, 3, 200)  # a disturbance that hits both alike
    teacher = summarise((shared * 12).tolist(), 1, 2)
    student = summarise((shared * 3 * rng.uniform(0.98, 1.02, 200)).tolist(), 1, 2)
    got = speedup("teacher", "onnxruntime", teacher, student)
    assert got.ratio.value == pytest.approx(4, rel=0.01)
    assert got.ratio.low < got.ratio.value < got.ratio.high
    assert got.ratio.high - got.ratio.low < 0.1
    assert (got.threads, got.batch, got.against) == (2, 1, "teacher")


class Sleeper:
    """A session that takes known time and notes when it is called."""

    picture_size = (4, 4)

    def __init__(self, name: str, seconds: float, calls: list[str]) -> None:
        self.name, self.seconds, self.calls = name, seconds, calls

    def run(self, pictures: np.ndarray) -> np.ndarray:
        self.calls.append(self.name)
        time.sleep(self.seconds)
        return pictures


def test_sessions_are_interleaved_and_raw_samples_kept() -> None:
    calls: list[str] = []
    sessions = {name: Sleeper(name, 0.001, calls) for name in "abc"}
    inputs = {name: np.zeros((2, 3, 4, 4), np.float32) for name in "abc"}
    got = time_interleaved(sessions, inputs, 12, 1)
    runs = [(name, len(list(group))) for name, group in groupby(calls[9:])]
    assert 24 <= len(runs) <= 36  # 12 rounds of three; neighbours may be the same model
    # Each is called untimed first: the timed call finds its own caches.
    assert all(count >= 2 for _, count in runs)
    assert len({tuple(name for name, _ in runs[i : i + 3]) for i in range(0, 24, 3)}) > 1
    for latency in got.values():
        assert len(latency.samples_s) == 12 and min(latency.samples_s) >= 0.001
        assert latency.pictures_per_s == pytest.approx(2 / latency.median_s)
        assert latency.median_s == pytest.approx(np.median(latency.samples_s))


def test_peak_memory_is_not_that_of_the_process_that_asks(tmp_path: Path) -> None:
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
    peak = peak_memory_bytes(path, "onnxruntime", 1, ())
    assert 10**7 < peak < 4 * 10**8 < mine.nbytes


def test_machine_facts() -> None:
    here = machine()
    assert here.cores >= usable_threads() >= 1
    assert here.versions["onnxruntime"] and here.memory_bytes > 10**8
