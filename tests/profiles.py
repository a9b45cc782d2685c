"""Profiles that the tests make up: numbers that anybody can add in the head."""

from html.parser import HTMLParser
from typing import Any

import pytest

import compress.profile.run
from compress.measure import kernels
from compress.measure.layer_profile import Layer
from compress.profile import audit, detector
from compress.profile import cascade as pipeline
from compress.profile.records import Gain, Limits, Part, Profile, Rate
from compress.results.schema import Machine
from compress.utils.interval import Interval

MACHINE = Machine(
    cpu="CPU",
    cpu_flags=["avx2", "avx512f"],
    cores=2,
    memory_bytes=8_000_000_000,
    system="Linux x86_64",
    python="3.12",
    versions={"onnxruntime": "1.2", "torch": "2.0"},
)
# 100 GMAC/s, 10 GB/s: a layer of 10 MAC a byte is bound by both alike.
LIMITS = Limits(
    macs_per_s={
        "float32": Rate(value=100e9, reached_by="a test"),
        "int8": Rate(value=400e9, reached_by="a test"),
    },
    bytes_per_s=Rate(value=10e9, reached_by="a test"),
)


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calls; the limits are measured in test_profile.py alone."""
    monkeypatch.setattr(kernels, "ATTEMPTS", 1)
    monkeypatch.setattr(kernels, "TURNS", 2)
    monkeypatch.setattr(kernels, "TURN_S", 0.002)
    monkeypatch.setattr(audit, "PROCESSES", (1, 1))
    monkeypatch.setattr(audit, "ROUNDS", (3, 3))
    for timed in (detector, pipeline):
        monkeypatch.setattr(timed, "LEAST_S", 0.0)
        monkeypatch.setattr(timed, "CALLS", 3)
    monkeypatch.setattr(pipeline, "ROUNDS", 1)
    monkeypatch.setattr(compress.profile.run, "measure_limits", lambda *_: LIMITS)


def layer(name: str = "features.0", **facts: Any) -> Layer:
    """A convolution that takes 10 ms at 90 % of the limit of LIMITS."""
    return Layer(
        **{
            "name": name,
            "block": name.split(".")[0],
            "operation": "conv 3×3",
            "precision": "float32",
            "output_shape": (1, 8, 16, 16),
            "seconds": 0.01,
            "macs": 900_000_000,
            "weight_bytes": 400_000,
            "activation_bytes": 600_000,
            **facts,
        }
    )


def profile(layers: list[Layer], root: Part, **facts: Any) -> Profile:
    """What `compress profile` would have found."""
    return Profile(
        **{
            "model": "model.onnx",
            "runtime": "onnxruntime",
            "runtime_version": "1.2",
            "random_weights": False,
            "threads": 2,
            "batch": 1,
            "height": 64,
            "width": 64,
            "machine": MACHINE,
            "whole_s": root.seconds,
            "profiled_s": root.seconds,
            "disturbance_cores": 0.0,
            "root": root,
            "layers": layers,
            "limits": LIMITS,
            **facts,
        }
    )


def gain(change: str, low: float, value: float, high: float, **facts: Any) -> Gain:
    """Against torch eager."""
    ratio = Interval(value=value, low=low, high=high)
    return Gain(
        **{"change": change, "against": "torch eager", "median_s": 0.01, **facts}, ratio=ratio
    )


HOSTILE = "</script><img src=https://evil.example/x onerror=alert(1)>\x1b[2J"


class Loads(HTMLParser):
    """Every address that a page would load or lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [v or "" for k, v in attributes if k in ("src", "href", "data", "action")]
