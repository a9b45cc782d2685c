"""Peers, side by side: the same teacher, images and machine, one interleaved run.

    python benchmarks/peers.py [--out .] [--recipe recipes/everything.yaml] [--only NAME…]

Runs the recipe (what is done is re-used), lets each peer make a file of the recipe's teacher and
training images the way its own documentation does, scores all files with the same code and times
them together. Writes benchmarks/peers.md and peers.json below --out. Peers' files lie in
runs/peers/ and are re-used, so that a killed benchmark goes on.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from rich.console import Console

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec, preprocess
from compress.export.artifact import Artifact
from compress.export.onnx import INPUT, OPSET, export_onnx
from compress.measure.inference import run_on_images
from compress.measure.latency import speedup
from compress.measure.machine import machine, usable_threads
from compress.measure.processes import Timed, time_in_processes
from compress.methods.context import Context, StepInputs
from compress.methods.distill.settings import Distillation
from compress.methods.distill.train import distil
from compress.metrics.accuracy import paired_drop, score
from compress.models.provenance import Provenance
from compress.models.sessions import open_session
from compress.recipe.load import load_recipe
from compress.recipe.schema import Recipe, chosen
from compress.results.schema import Accuracy, Latency
from compress.training.loop import finish
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.interval import Interval
from compress.utils.progress import Progress
from compress.utils.seeding import derive, generator
from compress.workflow.cache import DONE, Stage, Store
from compress.workflow.plan import Plan, make_plan
from compress.workflow.planned_row import PlannedRow
from compress.workflow.run import RUNS, STAGES, TABLES, run_recipe

VERSION = 1  # of how the peers are called
OURS = ("vgg16_int8", "vgg16_pruned-speedup-4", "vgg16_pruned_factorized_int8")
RUNTIME, FILE = "onnxruntime", "model.onnx"
TRAINED = ("distill", "torch_pruning")  # their seconds are those of all epochs, resumed or not


@dataclass(frozen=True)
class Job:
    """What a peer is given; it writes `file`."""

    stage: Stage
    inputs: StepInputs
    context: Context
    recovery: Distillation | None  # how the recipe's pruned networks are trained

    @property
    def file(self) -> Path:
        return self.inputs.folder / FILE

    def images(self, count: int) -> Any:
        """float32 (count, 3, height, width), training images; 128: those of `quantize`."""
        training = self.inputs.data.indices("train")
        order = generator(self.context.seed, "calibration").permutation(training)
        return preprocess(self.inputs.data.paths(order[:count]), self.inputs.teacher.spec)


class Reader(CalibrationDataReader):
    def __init__(self, images: Any) -> None:
        self.feeds = iter([{INPUT: image[None]} for image in images])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def with_onnxruntime(job: Job) -> None:
    quantize_static(job.inputs.teacher_file, job.file, Reader(job.images(128)))


def with_nncf(job: Job) -> None:
    import nncf

    images = nncf.Dataset([{INPUT: image[None]} for image in job.images(300)])
    onnx.save(nncf.quantize(onnx.load(job.inputs.teacher_file), images), job.file)


def with_torch_pruning(job: Job) -> None:
    """As its README, whose fine-tuning is "your own code": labels, as many steps as `distill`."""
    import torch_pruning as tp

    if job.recovery is None:
        raise UserError("the recipe has no distill step whose schedule could be taken")
    teacher = job.inputs.teacher
    layers = [m for m in teacher.model.modules() if isinstance(m, torch.nn.Linear)]
    pruner = tp.pruner.BasePruner(
        teacher.model,
        torch.randn(1, 3, teacher.spec.height, teacher.spec.width),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[m for m in layers if m.out_features == len(teacher.spec.classes)],
        round_to=8,
    )
    pruner.step()
    training = distil(
        teacher, job.recovery, job.inputs, job.context, "Torch-Pruning", from_teacher=False
    )
    pruned = teacher.after("Torch-Pruning").trained(training)
    export_onnx(pruned, job.file)
    pruned.save(job.inputs.folder, job.stage.settings, {"teacher": job.inputs.teacher_folder})
    finish(job.inputs.folder)


def with_neural_compressor(job: Job) -> None:
    """3.x quantizes PyTorch only; what it makes is exported, with its weights stored in int8."""
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import convert, get_default_static_config, prepare
    from onnxscript.optimizer import fold_constants

    images = torch.from_numpy(job.images(128))
    example, shapes = (images[:2],), ({0: torch.export.Dim("batch", min=1, max=65536)},)
    model = export(job.inputs.teacher.model, example_inputs=example, dynamic_shapes=shapes)
    model = prepare(model, get_default_static_config())
    with torch.no_grad():
        for image in images.split(1):
            model(image)
    program = torch.onnx.export(
        convert(model),
        example,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=[INPUT],
        output_names=["logits"],
        opset_version=OPSET,
        verbose=False,
    )
    fold_constants(
        program.model,
        input_size_limit=2**31,
        output_size_limit=2**31,
        should_fold=lambda node: node.op_type in ("QuantizeLinear", "Clip"),
    )
    program.save(job.file)


@dataclass(frozen=True)
class Peer:
    title: str
    package: str
    how: str
    make: Callable[[Job], None]


PEERS = {
    "onnxruntime": Peer(
        "onnxruntime", "onnxruntime", "`quantize_static`, defaults, 128 images", with_onnxruntime
    ),
    "nncf": Peer("NNCF", "nncf", "`nncf.quantize`, defaults, 300 images", with_nncf),
    "torch_pruning": Peer(
        "Torch-Pruning",
        "torch-pruning",
        "half of the channels by group magnitude, fine-tuned on labels as long as our distil",
        with_torch_pruning,
    ),
    "neural_compressor": Peer(
        "Intel Neural Compressor",
        "neural-compressor-pt",
        "static int8 in PyTorch, defaults, 128 images, exported to ONNX",
        with_neural_compressor,
    ),
}


@dataclass(frozen=True)
class Measured:
    size_bytes: int
    accuracy: Accuracy
    latency: Latency
    drop: Interval  # teacher's top-1 minus this, paired
    speedup: Interval  # against the teacher


@dataclass(frozen=True)
class Row:
    """A file and what was measured of it, or the reason why there is none."""

    name: str
    how: str
    role: str  # teacher, ours or peer
    file: Path | None = None
    spec: InputSpec | None = None
    seconds: float | None = None  # from the trained teacher to the file
    problem: str = ""
    measured: Measured | None = None

    def record(self) -> dict[str, Any]:
        names = ("name", "how", "role", "seconds", "problem")
        found = {name: getattr(self, name) for name in names}
        if self.measured is not None:
            values = {f.name: getattr(self.measured, f.name) for f in fields(Measured)}
            found |= {k: v if isinstance(v, int) else v.model_dump() for k, v in values.items()}
        return found


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def seconds_of(store: Store, stage: Stage) -> float:
    """What a finished stage took."""
    folder = store.folder(stage)
    seconds = json.loads((folder / DONE).read_text("utf-8"))["seconds"]
    if stage.settings.get("step", stage.kind) in TRAINED:
        training = Provenance.load(folder).training
        seconds = max(seconds, training.seconds if training else 0.0)
    return float(seconds)


def stages_to(stage: Stage, given: Sequence[str]) -> dict[str, Stage]:
    """By key, the stages from those with the `given` keys to this one."""
    if stage.key in given:
        return {}
    before = [stages_to(input_, given) for input_ in stage.inputs.values()]
    return {key: s for found in before for key, s in found.items()} | {stage.key: stage}


def our_rows(plan: Plan, store: Store) -> list[Row]:
    """The teacher and our candidates: those of OURS, or all where the recipe has none of them."""
    entries = [e for e in plan.entries if e.runtime == RUNTIME]
    teacher, *rest = (e for e in entries if e.role != "control")
    given = (plan.data.key, teacher.model.key, teacher.artifact.key)

    def row(entry: PlannedRow) -> Row:
        artifact = Artifact.load(store.folder(entry.artifact))
        if entry is teacher:
            return Row("teacher", "", "teacher", artifact.path, artifact.spec)
        past = Provenance.load(store.folder(entry.model))
        how = " → ".join(past.lineage[1:]) + (f" (dropped: {past.dropped})" if past.dropped else "")
        seconds = sum(seconds_of(store, s) for s in stages_to(entry.artifact, given).values())
        return Row(entry.candidate, how, "ours", artifact.path, artifact.spec, seconds)

    return [row(e) for e in (teacher, *([e for e in rest if e.candidate in OURS] or rest))]


def peer_row(name: str, plan: Plan, store: Store, context: Context) -> Row:
    """Makes the peer's file unless it is there."""
    peer = PEERS[name]
    row = Row(peer.title, peer.how, "peer")
    found = installed(peer.package)
    if found is None:
        return replace(row, problem="not installed: pip install -e '.[peers]'")
    teacher = next(e for e in plan.entries if e.runtime == RUNTIME)
    steps = [chosen(step) for chain in plan.recipe.candidates.values() for step in chain]
    recovery = next((s for kind, s in steps if kind == "distill" and s.student is None), None)
    described: dict[str, Any] = {"package": f"{peer.package} {found}", "seed": plan.recipe.seed}
    if name in TRAINED and recovery is not None:
        described["recovery"] = recovery.model_dump()
    stages = {"data": plan.data, "teacher": teacher.model, "teacher_artifact": teacher.artifact}
    stage = Stage(name, peer.title, VERSION, described, stages)
    peers = Store(store.root.parent / "peers")
    folders = store.folders(stage)
    data = context.data(folders["data"])
    inputs = StepInputs(
        data=data,
        pixels=context.pixels(data, folders["data"]),
        previous=folders["teacher"],
        teacher_folder=folders["teacher"],
        teacher_outputs=(),
        taught_by=(),
        teacher_artifact=folders["teacher_artifact"],
        decided=None,
        folder=peers.folder(stage),
        allowed=(),
    )
    job = Job(stage, inputs, context, recovery)

    def work(_: Path) -> None:
        peer.make(job)
        open_session(job.file, RUNTIME, context.threads).run(job.images(1))  # it can be run

    if not peers.is_done(stage):
        context.progress.note(f"{peer.title}: {peer.how}")
        try:
            peers.compute(stage, work)
        except Exception as error:  # whatever a library throws; the others go on
            context.progress.failed(error)
            said = (str(error).strip().splitlines() or [""])[0]
            said = re.sub(r"(/[^\s/:'\"]+)+/", "", said)[:200]  # without this machine's folders
            return replace(row, problem=f"failed: {type(error).__name__}: {said}")
    spec = Artifact.load(folders["teacher_artifact"]).spec
    return replace(row, file=job.file, spec=spec, seconds=seconds_of(peers, stage))


def measure(
    rows: Sequence[Row], data: Dataset, recipe: Recipe, threads: int, progress: Progress
) -> list[Row]:
    """Times the files together, and scores each. The first row is the teacher's."""
    timed = time_in_processes(
        {row.name: Timed(row.file, RUNTIME) for row in rows if row.file},
        {1: recipe.measure.rounds},
        threads,
        recipe.measure.processes,
        progress=progress.advance,
    )
    validation = data.indices("validation")
    paths, labels = data.paths(validation), data.labels[validation]
    scored = {}
    for row in rows:
        if row.file:
            session = open_session(row.file, RUNTIME, threads)
            scored[row.name] = score(run_on_images(session, paths, row.spec)["logits"], labels)
    teacher = rows[0].name

    def measured(row: Row) -> Measured:
        accuracy, latency = scored[row.name], timed[row.name][0]
        drop = paired_drop(scored[teacher].correct, accuracy.correct)
        ratio = speedup(teacher, RUNTIME, timed[teacher][0], latency).ratio
        return Measured(row.file.stat().st_size, accuracy, latency, drop, ratio)

    return [replace(row, measured=measured(row)) if row.file else row for row in rows]


def points(interval: Interval) -> str:
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def times(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def line_of(row: Row) -> str:
    if row.measured is None:
        return f"| {row.name} | {row.how}: {row.problem} | | | | | | |"
    m = row.measured
    drop, faster, minutes = points(m.drop), times(m.speedup), f"{(row.seconds or 0) / 60:.1f}"
    if row.role == "teacher":
        drop = faster = minutes = ""
    return (
        f"| {row.name} | {row.how} | {m.accuracy.top1.value:.1%} | {drop} | "
        f"{1e3 * m.latency.median_s:.2f} | {faster} | {m.size_bytes:,} | {minutes} |"
    )


def wins_over(ours: Row, peers: Sequence[Row]) -> list[str]:
    """One line for each peer that is better in something, as the report defines it."""
    lines = []
    our = ours.measured
    for row in peers:
        peer = row.measured
        ratio = speedup(ours.name, RUNTIME, our.latency, peer.latency).ratio
        gain = paired_drop(peer.accuracy.correct, our.accuracy.correct)
        better = {
            "speed": gain.value >= 0 and ratio.value > 1,
            "bytes": gain.value >= 0 and peer.size_bytes < our.size_bytes,
            "accuracy": gain.value > 0 and ratio.value >= 1,
        }
        if any(better.values()):
            lines.append(
                f"- {ours.name}: {row.name} wins in "
                f"{' and '.join(what for what, wins in better.items() if wins)}: {times(ratio)} "
                f"times as fast, {peer.size_bytes / our.size_bytes:.2f} of the bytes, top-1 "
                f"{points(gain)} points."
            )
    return lines or [f"- {ours.name}: no peer."]


def write(rows: Sequence[Row], folder: Path, recipe: str) -> str:
    """Writes both files; returns the Markdown."""
    here, first = machine(), rows[0].measured
    packages = {peer.package: installed(peer.package) for peer in PEERS.values()}
    versions = here.versions | {k: v for k, v in packages.items() if v is not None}
    command = shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]])
    peers = [row for row in rows if row.role == "peer" and row.measured]
    wins = [line for row in rows if row.role == "ours" for line in wins_over(row, peers)]
    samples, threads = first.latency.samples_s, first.latency.threads
    lines, won = "\n".join(map(line_of, rows)), "\n".join(wins)
    text = f"""\
# Peers, side by side

{here.cpu}, {threads} threads, Python {here.python}, {", ".join(map(" ".join, versions.items()))}.

`{command}`: the teacher of the recipe {recipe}, {first.accuracy.images} validation images,
all files in onnxruntime. Drop: points of top-1 that the teacher has more, paired. Latency: one
image, {len(samples)} fresh processes with {len(samples[0])} interleaved rounds each. Minutes:
from the trained teacher to the file, as measured when it was made. Intervals: 95 %.

| | made by | top-1 | drop | latency, ms | times faster | bytes | minutes |
| --- | --- | --- | --- | --- | --- | --- | --- |
{lines}

## Where a peer wins

For each of our rows: peers that are faster or smaller and no less accurate, or more accurate and no
slower, by the values alone. Where an interval covers 1 time or 0 points, the two are not told
apart.

{won}
"""
    record = {
        "command": command,
        "machine": here.model_dump() | {"versions": versions},
        "rows": [row.record() for row in rows],
        "wins": wins,
    }
    write_text(folder / "peers.md", text)
    write_text(folder / "peers.json", json.dumps(record, indent=1, ensure_ascii=False))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--recipe", type=Path, default=Path("recipes/everything.yaml"))
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    given = parser.parse_args()

    recipe, here = load_recipe(given.recipe), machine()
    threads = recipe.measure.threads or usable_threads()
    console = Console() if sys.stdout.isatty() else Console(width=100)
    progress = Progress(console, given.out / RUNS / recipe.name / "run.log")
    _, failed = run_recipe(recipe, given.out, progress, f"compress run {given.recipe}")

    plan = make_plan(recipe, here, threads).without({failure.candidate for failure in failed})
    store = Store(given.out / RUNS / STAGES)
    cuda = torch.cuda.is_available() and recipe.device != "cpu"
    context = Context(
        seed=derive(recipe.seed, "run"),
        device=torch.device("cuda" if cuda else "cpu"),
        threads=threads,
        allowed=(),
        progress=progress,
        data_path=None if recipe.data.path is None else Path(recipe.data.path),
        files={},  # the teacher is there
        tables=given.out / RUNS / TABLES,
        machine=here,
    )
    rows = [*our_rows(plan, store), *(peer_row(n, plan, store, context) for n in given.only)]
    rows = measure(rows, context.data(store.folder(plan.data)), recipe, threads, progress)
    print(write(rows, given.out / "benchmarks", recipe.name))


if __name__ == "__main__":
    main()
