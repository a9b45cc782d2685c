"""A runtime that another package brings goes all the way, with no file of ours touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compress.results.file import read
from tests.conftest import tiny_recipe
from tests.installed import compress, installed

TOY = '''
"""Runs ONNX files one image after the other, and optimizes nothing."""

import numpy as np


class Network:
    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def __call__(self, images):
        (entry,) = self.session.get_inputs()
        found = [self.session.run(None, {entry.name: x[None]}) for x in images]
        return [np.concatenate(output) for output in zip(*found)]
'''
SEAM = '''
from compress.runtimes.base import Runtime


class OneByOne(Runtime):
    name, package = "one-by-one", "toyruntime"
    missing = "The runtime one-by-one needs toyruntime: pip install toyruntime"
    idle = "are none"
    meaning = "a toy that runs one image after the other."
    tells_kernels = False

    def loader(self):
        from toyseam_session import Session

        return lambda path, threads, alone, size: Session(path, threads, size)

    def open(self, path, threads):
        from toyseam_session import File

        return File(path, threads)

    def script(self):
        return """\\
    network = toyruntime.Network(HERE / MODEL["file"], MODEL["cores"])
    ask = network
"""

    def facts(self, threads):
        return {"cores": threads}
'''
SESSION = """
from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY, Entry
from compress.runtimes.images import TakesImages
from compress.utils.errors import UserError
from toyruntime import Network


class File:
    def __init__(self, path, threads):
        if path.suffix != ".onnx":
            raise UserError(f"{path} is no ONNX file.")
        self.network = Network(path, threads)
        session = self.network.session
        (given,) = session.get_inputs()
        shape = tuple(n if isinstance(n, int) else None for n in given.shape)
        self.inputs = (Entry(given.name, "float32", shape),)
        self.outputs = tuple(output.name for output in session.get_outputs())
        noted = session.get_modelmeta().custom_metadata_map
        self.spec, self.reference = noted.get(METADATA_KEY), noted.get(REFERENCE_KEY)

    def call(self, arrays):
        return self.network(arrays[0])


class Session(File, TakesImages):
    def __init__(self, path, threads, size):
        super().__init__(path, threads)
        self.take_images(path, size)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as if `toyruntime`, with what compress must know of it, were installed there."""
    folder = tmp_path_factory.mktemp("installed")
    for name, text in (("toyruntime", TOY), ("toyseam", SEAM), ("toyseam_session", SESSION)):
        (folder / f"{name}.py").write_text(text)
    return installed(folder, "toyruntime", "[compress.runtimes]\none-by-one = toyseam:OneByOne\n")


def test_from_the_recipe_to_the_exported_script(
    package: Path, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes) | {"candidates": {"small": [{"prune": {"ratio": 0.5}}]}}
    recipe["teacher"]["train"] |= {"epochs": 1}
    recipe["measure"] |= {"processes": 1, "batches": [], "throughput_rounds": 1}
    recipe["measure"] |= {"runtimes": ["onnxruntime", "one-by-one"]}
    recipe["budget"] = {"speedup": 0.01, "max_accuracy_drop": 1, "runtime": "one-by-one"}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert "is right" in compress(package, "check", path)
    assert "Chosen: " in compress(package, "run", path, "--out", tmp_path)
    rows = read(tmp_path / "reports/tiny").rows
    by_name = {(row.candidate, row.artifact.runtime): row for row in rows}
    mine, plain = by_name["small", "one-by-one"], by_name["small", "onnxruntime"]
    assert mine.accuracy.answers == plain.accuracy.answers and mine.latency
    assert mine.machine.versions["toyruntime"] == "1.0"
    assert plain.layers and not mine.layers
    assert mine.speedup and mine.speedup.runtime == "one-by-one"
    report = (tmp_path / "reports/tiny/report.md").read_text("utf-8")
    assert "toyruntime: are none" in report and "a toy that runs one image" in report

    # Where it is not installed, the report is read all the same.
    words = ("--speedup", "0.01", "--max-accuracy-drop", "1")
    assert "small" in compress(shapes, "choose", tmp_path / "reports/tiny", *words)

    ready = tmp_path / "ready"
    words = ("--speedup", "0.01", "--runtime", "one-by-one", "--export", ready)
    assert "one-by-one" in compress(package, "choose", tmp_path / "reports/tiny", *words)
    assert (ready / "requirements.txt").read_text().startswith("toyruntime==1.0\n")
    script = [sys.executable, ready / "predict.py", image := next(shapes.rglob("*.png"))]
    env = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and image.name in done.stdout, done.stderr
    assert done.stderr == ""  # it answers as it did when it was judged

    artifact = tmp_path / mine.artifact.path
    assert "one-by-one" in compress(package, "bench", artifact, "--runtime", "one-by-one")


def test_where_it_is_not_installed_a_recipe_cannot_ask_for_it(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        yaml.safe_dump(tiny_recipe(shapes) | {"measure": {"runtimes": ["one-by-one"]}})
    )
    said = compress(tmp_path, "check", tmp_path / "toy.yaml", rc=2)
    assert (
        "measure.runtimes.0: input should be 'onnxruntime', 'openvino' or 'openvino-bf16'" in said
    )
