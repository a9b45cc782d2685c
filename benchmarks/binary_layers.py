"""Binary layers and networks against float32 and int8, all in OpenVINO with the same threads.

    python benchmarks/binary_layers.py [--out .] [--threads N] [--processes 5] [--rounds 20]

Layers: as compress/methods/binarize/layer_timing.py times them, in several fresh processes.
Networks: students of `students.binary` with random weights at 224 px, written as compress deploys
them, beside the same network with real convolutions in float32 and in int8. Writes
binary_layers.md and binary_layers.json to benchmarks/ below --out.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov

from compress.data.input_spec import InputSpec
from compress.export.int8 import quantize_model, ranges_of
from compress.export.onnx import export_onnx
from compress.measure.conditions import QUIET_CORES
from compress.measure.latency import speedup, summarise
from compress.measure.layer_times import LayerShape
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import (
    ATTEMPTS,
    Timed,
    others_cpu_s,
    time_in_processes,
)
from compress.methods.binarize.layer_timing import KINDS, Kind, layer_samples, limits
from compress.methods.binarize.openvino_graph import int8_rest, write_ir
from compress.models.candidate import Candidate
from compress.results.schema import Latency
from compress.runtimes.openvino_ir import save_ir
from compress.utils.files import write_text
from compress.utils.interval import Interval

RUNTIME, SIZE, CALIBRATION = "openvino", 224, 16
NETWORKS = ("binary_resnet18", "binary_vgg16")
FLOAT32, BINARY_INT8 = "float32", "binary, rest int8"  # rows of a network


def convolution(channels: int, size: int, kernel: int = 3) -> LayerShape:
    """A layer that keeps its channels and its map, as most of these networks' do."""
    return LayerShape(
        channels,
        channels,
        (kernel, kernel),
        padding=(kernel // 2, kernel // 2),
        input_size=(size, size),
    )


LAYERS = {
    "ResNet-18": [convolution(c, s) for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))],
    "VGG16": [
        convolution(c, s) for c, s in ((64, 224), (128, 112), (256, 56), (512, 28), (512, 14))
    ],
    "ReActNet": [convolution(c, s, 1) for c, s in ((256, 14), (512, 14), (512, 7), (1024, 7))],
}
SHAPES = [shape for shapes in LAYERS.values() for shape in shapes]
ASKED = convolution(256, 14)
ASKED_LAYER: dict[Kind, float] = {"float32": 12.0, "int8": 3.0}  # times faster
ASKED_NETWORK = 2.5  # times faster than int8


@dataclass(frozen=True)
class Run:
    """What one process measured."""

    samples_s: list[dict[Kind, list[float]]]  # of each of SHAPES
    limits: dict[Kind, float]  # multiply-accumulates a second
    disturbance_cores: float  # that other processes used meanwhile


@dataclass(frozen=True)
class Layer:
    network: str
    shape: LayerShape
    latency: dict[Kind, Latency]

    @property
    def title(self) -> str:
        height, width = self.shape.input_size
        kernel = " x ".join(map(str, self.shape.kernel))
        return f"{self.shape.in_channels} x {height} x {width}, {kernel}"

    def times_faster(self, than: Kind) -> Interval:
        return ratio(self.latency[than], self.latency["binary"])


@dataclass(frozen=True)
class Network:
    name: str
    latency: dict[str, Latency]  # by row
    size_bytes: dict[str, int]

    @property
    def int8(self) -> str:
        """The fastest of the int8 rows: what the binary network has to beat."""
        rows = [row for row in self.latency if row.startswith("int8")]
        return min(rows, key=lambda row: self.latency[row].median_s)

    def times_faster(self, row: str, than: str) -> Interval:
        return ratio(self.latency[than], self.latency[row])


def ratio(reference: Latency, candidate: Latency) -> Interval:
    return speedup("", RUNTIME, reference, candidate).ratio


def time_layers(seed: int, threads: int) -> Run:
    """What a fresh process does: all shapes, in an order of its own."""
    started, used = time.perf_counter(), others_cpu_s()
    order = np.random.default_rng(seed).permutation(len(SHAPES)).tolist()
    samples = {number: layer_samples(SHAPES[number], threads) for number in order}
    fastest = limits(threads)
    disturbance = (others_cpu_s() - used) / (time.perf_counter() - started)
    return Run([samples[n] for n in range(len(SHAPES))], fastest, max(0.0, disturbance))


def quietest(seed: int, threads: int) -> Run:
    """The least disturbed of a few fresh processes; the first quiet one is the last."""
    runs: list[Run] = []
    while len(runs) < ATTEMPTS and all(run.disturbance_cores > QUIET_CORES for run in runs):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            runs.append(process.submit(time_layers, seed, threads).result())
    return min(runs, key=lambda run: run.disturbance_cores)


def layers_of(runs: Sequence[Run], threads: int) -> list[Layer]:
    names = [name for name, shapes in LAYERS.items() for _ in shapes]
    return [
        Layer(
            name,
            shape,
            {
                kind: summarise([run.samples_s[number][kind] for run in runs], 1, threads)
                for kind in KINDS
            },
        )
        for number, (name, shape) in enumerate(zip(names, SHAPES, strict=True))
    ]


def network_files(name: str, folder: Path) -> dict[str, Path]:
    """The network in every form, by row; weights and calibration images are random."""
    spec = InputSpec(
        height=SIZE,
        width=SIZE,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=tuple(f"class{number}" for number in range(1000)),
    )
    rng = np.random.default_rng(0)
    images = rng.standard_normal((CALIBRATION, 3, SIZE, SIZE)).astype(np.float32)

    def exported(binary: bool) -> Path:
        path = folder / f"{name}-{'signs' if binary else 'float32'}.onnx"
        builder = f"students.binary:{name}"
        export_onnx(Candidate.create(builder, {"binary": binary}, spec, (name,), 0, ()), path)
        return path

    real, signs = exported(binary=False), exported(binary=True)
    files = {FLOAT32: real}
    model, ranges = onnx.load(real), ranges_of(real, images, "mse")
    for row, layers_only in (("int8, compress", False), ("int8, compress, layers only", True)):
        files[row] = folder / f"{name}-{row}.onnx"
        int8 = quantize_model(model, ranges, layers_only=layers_only)
        onnx.save(int8, files[row])
    if installed("nncf"):
        files["int8, NNCF"] = folder / f"{name}-nncf.xml"
        save_ir(with_nncf(real, images), files["int8, NNCF"], spec)
    files["binary, rest float32"] = folder / f"{name}-binary-float32.xml"
    write_ir(onnx.load(signs), files["binary, rest float32"], spec)
    files[BINARY_INT8] = folder / f"{name}-binary-int8.xml"
    write_ir(int8_rest(signs, images), files[BINARY_INT8], spec)
    return files


def with_nncf(path: Path, images: np.ndarray) -> ov.Model:
    """As NNCF's documentation does it for OpenVINO."""
    import nncf

    model = ov.Core().read_model(path)
    return nncf.quantize(model, nncf.Dataset([image[None] for image in images]))


def time_network(name: str, threads: int, processes: int, rounds: int) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        files = network_files(name, Path(folder))
        timed = time_in_processes(
            {row: Timed(path, RUNTIME) for row, path in files.items()},
            {1: rounds},
            threads,
            processes,
        )
        sizes = {
            row: sum(f.stat().st_size for f in {path, path.with_suffix(".bin")} if f.is_file())
            for row, path in files.items()
        }
    return Network(name, {row: latencies[0] for row, latencies in timed.items()}, sizes)


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def times(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def line_of_layer(layer: Layer, limit: dict[Kind, float]) -> str:
    cells = [layer.network, layer.title]
    cells += [f"{1e3 * layer.latency[kind].median_s:.3f}" for kind in KINDS]
    cells += [times(layer.times_faster(than)) for than in ("float32", "int8")]
    rates = {kind: layer.shape.macs / layer.latency[kind].median_s for kind in KINDS}
    cells += [f"{rates[kind] / limit[kind]:.0%}" for kind in KINDS]
    return f"| {' | '.join(cells)} |"


def line_of_network(network: Network, row: str) -> str:
    cells = [network.name.removeprefix("binary_"), row]
    cells.append(f"{1e3 * network.latency[row].median_s:.2f}")
    for than in (FLOAT32, network.int8):
        cells.append("" if row == than else times(network.times_faster(row, than)))
    cells.append(f"{network.size_bytes[row] / 1e6:.1f}")
    return f"| {' | '.join(cells)} |"


def outcomes(layers: Sequence[Layer], networks: Sequence[Network]) -> list[str]:
    """What was asked for, and whether it came out so."""
    layer = next(layer for layer in layers if layer.shape == ASKED)
    found = [
        (f"{layer.title}, than {kind}", layer.times_faster(kind), asked)
        for kind, asked in ASKED_LAYER.items()
    ]
    found += [
        (f"{n.name}, than {n.int8}", n.times_faster(BINARY_INT8, n.int8), ASKED_NETWORK)
        for n in networks
    ]
    return [
        f"- {what}: {times(faster)} times faster, asked at least {asked:g}: "
        f"{'reached' if faster.value >= asked else 'missed'}."
        for what, faster, asked in found
    ]


def write(runs: Sequence[Run], networks: Sequence[Network], threads: int, folder: Path) -> str:
    """Writes both files; returns the Markdown."""
    here, command = machine(), shlex.join(["python", "benchmarks/binary_layers.py", *sys.argv[1:]])
    versions = here.versions | {p: v for p in ("nncf",) if (v := installed(p))}
    layers = layers_of(runs, threads)
    limit = {kind: max(run.limits[kind] for run in runs) for kind in KINDS}
    disturbed = [*(r.disturbance_cores for r in runs)]
    disturbed += [n.latency[FLOAT32].disturbance_cores or 0.0 for n in networks]
    rounds = len(networks[0].latency[FLOAT32].samples_s[0])
    layer_lines = "\n".join(line_of_layer(layer, limit) for layer in layers)
    network_lines = "\n".join(line_of_network(n, row) for n in networks for row in n.latency)
    reached = "\n".join(outcomes(layers, networks))
    text = f"""\
# Binary layers and networks

{here.cpu} ({", ".join(here.cpu_flags)}), {threads} threads, Python {here.python},
{", ".join(map(" ".join, versions.items()))}; {datetime.now(UTC).date()}.

`{command}`: {len(runs)} fresh processes, everything interleaved within each; medians of paired
ratios, the median over the processes, 95 % intervals of how processes differ. Others used up to
{max(disturbed):.2f} cores meanwhile. Batch 1, all in OpenVINO.

{reached}

## Layers

Turning activations into int8 or signs is counted. Limit: the highest rate that a call on large
3 x 3 layers reached here, in the same processes:
{", ".join(f"{kind} {rate / 1e9:,.0f}" for kind, rate in limit.items())} GMAC/s.

| layer of | shape | float32, ms | int8, ms | binary, ms | binary: times faster than float32 | \
than int8 | of limit: float32 | int8 | binary |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{layer_lines}

## Networks

At {SIZE} px with random weights, {rounds} rounds in each process. int8 is quantized in all forms
that are at hand; the fastest is what "than int8" means. NNCF: its defaults.

| network | form | ms | times faster than float32 | than int8 | MB |
| --- | --- | --- | --- | --- | --- |
{network_lines}
"""
    record: dict[str, Any] = {
        "command": command,
        "date": str(datetime.now(UTC).date()),
        "machine": here.model_dump() | {"versions": versions},
        "threads": threads,
        "limits_macs_per_s": limit,
        "disturbance_cores": max(disturbed),
        "layers": [
            {
                "network": layer.network,
                "shape": asdict(layer.shape),
                "macs": layer.shape.macs,
                "latency": {kind: x.model_dump() for kind, x in layer.latency.items()},
                "times_faster": {
                    than: layer.times_faster(than).model_dump() for than in ("float32", "int8")
                },
            }
            for layer in layers
        ],
        "networks": [
            {
                "name": n.name,
                "int8": n.int8,
                "latency": {row: x.model_dump() for row, x in n.latency.items()},
                "size_bytes": n.size_bytes,
                "times_faster_than_float32": {
                    row: n.times_faster(row, FLOAT32).model_dump() for row in n.latency
                },
                "times_faster_than_int8": {
                    row: n.times_faster(row, n.int8).model_dump() for row in n.latency
                },
            }
            for n in networks
        ],
    }
    write_text(folder / "binary_layers.md", text)
    write_text(folder / "binary_layers.json", json.dumps(record, indent=1, ensure_ascii=False))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20, help="of the networks, in each process")
    given = parser.parse_args()

    runs = [quietest(seed, given.threads) for seed in range(given.processes)]
    networks = [
        time_network(name, given.threads, given.processes, given.rounds) for name in NETWORKS
    ]
    print(write(runs, networks, given.threads, given.out / "benchmarks"))


if __name__ == "__main__":
    main()
