"""What 7-bit weights cost in accuracy: a network's int8 file with 7 and with 8 bits, and in float.

    python benchmarks/portable.py RECIPE [--out FOLDER]

RECIPE has a `quantize` step and has been run in FOLDER. Both files have the layers in int8 that the
run decided on, and are computed on the validation split as their graphs say, in float between
QuantizeLinear and DequantizeLinear: what a CPU answers that adds without overflow. Without VNNI the
8-bit file itself answers something else, which is why 7 bits are the default.

Prints Markdown.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, preprocess
from compress.export.int8 import quantize_file
from compress.measure.machine import machine, usable_threads
from compress.methods.context import BUILT
from compress.methods.decided import Decided
from compress.methods.quantize.step import FLOAT, RANGES
from compress.metrics.significance import mcnemar
from compress.recipe.load import load_recipe
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import Local
from compress.workflow.plan import make_plan
from compress.workflow.run import RUNS, STAGES, TABLES

CHUNK = 8


def answers(file: Path, data: Dataset, spec: InputSpec, threads: int) -> np.ndarray:
    """Logits of the validation images, float32 (n, classes), computed as the graph is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    paths = data.paths(data.indices("validation"))
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    found = [session.run(None, {entry: preprocess(chunk, spec)})[0] for chunk in chunks]
    return np.concatenate([np.asarray(x) for x in found])


def rows(name: str, step: Stage, store: Store, data: Dataset, threads: int) -> list[str]:
    """A row of the table each for float, 7 and 8 bits."""
    from compress.models.candidate import Candidate

    prepared, decision = step.inputs["previous"], step.inputs["decision"]
    folder = store.folder(prepared)
    floats = Decided.load(store.folder(decision)).content["float_layers"]
    ranges = json.loads((folder / RANGES).read_text("utf-8"))
    spec = Candidate.load(folder, ()).spec
    labels = data.labels[data.indices("validation")]
    found = {"float32": answers(folder / FLOAT, data, spec, threads)}
    with tempfile.TemporaryDirectory() as place:
        for title, portable in (("8 bits", False), ("7 bits (portable)", True)):
            file = Path(place) / "int8.onnx"
            quantize_file(folder / FLOAT, file, ranges, floats, portable)
            found[title] = answers(file, data, spec, threads)
    right = {title: logits.argmax(1) == labels for title, logits in found.items()}
    exact = found["float32"]
    lines = []
    for title, logits in found.items():
        error = ((logits - exact) ** 2).mean() / exact.var()
        lines.append(
            f"| {name} | {title} | {right[title].mean():.1%} | "
            f"{100 * (right[title].mean() - right['float32'].mean()):+.1f} | {error:.2%} |"
        )
    seven, eight = right["7 bits (portable)"], right["8 bits"]
    p = mcnemar(*("".join("01"[int(x)] for x in one) for one in (seven, eight)))
    lines.append(
        f"\nOf {len(labels)} images {int((seven & ~eight).sum())} are right with 7 bits only and "
        f"{int((eight & ~seven).sum())} with 8 bits only (McNemar's exact p {p:.2f})."
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args()
    here, threads = machine(), usable_threads()
    recipe = Local().decided(load_recipe(given.recipe), given.out / RUNS / TABLES)
    plan = make_plan(recipe, here, recipe.measure.threads or threads)
    store = Store(given.out / RUNS / STAGES)
    folder = store.folder(plan.data)
    root = folder / BUILT if recipe.data.builder else Path(recipe.data.path or ".")
    data = Dataset.load(folder, root)
    print("| network | weights | top-1 | against float | squared error, of the variance |")
    print("| --- | --- | --- | --- | --- |")
    steps = {e.candidate: e.model for e in plan.entries if e.model.settings.get("step")}
    for name, step in steps.items():
        if step.settings["step"] == "quantize" and step.settings["settings"]["bias_correction"]:
            print(f"{name} is left out: its biases were corrected, which is not done here.")
        elif step.settings["step"] == "quantize":
            print("\n".join(rows(name, step, store, data, threads)))


if __name__ == "__main__":
    main()
