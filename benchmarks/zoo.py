"""Which networks work: torchvision's classifiers and 60 timm families, through every method.

    python benchmarks/zoo.py [NETWORK …] [--ask QUESTION …] [--again] [--out .]

Each network is examined in a process of its own, with random weights and ten classes at the
smallest size of images that it takes, one thread, and LIMIT_S of CPU time at most:

- built, as the teacher of a recipe is;
- export: the file is compared with the network on 8 random images;
- prune: half of the channels of every group, exported, compared with the pruned network;
- int8: ranges on the same images, every layer in int8, what onnxruntime makes of that;
- factorize: every layer that can be split, at half of its weights; saved, built again, compared.

What is refused is kept with its reason; what fails otherwise is a bug of compress. Answers are
appended to benchmarks/zoo.jsonl below --out as they come: a stopped run goes on there. Named
networks and questions are the only ones, `--again` asks what has been answered. Writes zoo.md, too.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from compress.data.input_spec import InputSpec
from compress.export.int8 import integer_operations, quantize_file, ranges_of
from compress.export.onnx import check_export, export_onnx
from compress.measure.machine import machine
from compress.measure.module_shapes import layer_shapes
from compress.methods.context import Context, StepInputs
from compress.methods.factorize.decomposition import ranks_by_ratio
from compress.methods.factorize.settings import Settings as FactorizeSettings
from compress.methods.factorize.step import Factorize, fault_when_split
from compress.methods.prune.equivalence import randomly_drawn
from compress.methods.prune.settings import Settings as PruneSettings
from compress.methods.prune.step import Prune
from compress.models.candidate import Candidate
from compress.models.factorized_layers import forms
from compress.models.sessions import infer, open_session
from compress.runtimes.outputs import by_name
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.progress import Progress

LIMIT_S = 300  # of CPU time: what others run beside it does not count
SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 384)
IMAGES, CLASSES, HALF = 8, 10, 0.5
ALIKE = 0.01  # of the answers' standard deviation: images that differ by less are answered alike
TIMM = (
    "beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "coatnet_nano_rw_224",
    "convit_tiny", "convmixer_768_32", "convnext_atto", "crossvit_tiny_240",
    "davit_tiny", "deit_tiny_patch16_224", "densenet121", "dla46_c", "dpn48b",
    "edgenext_xx_small", "efficientformer_l1", "efficientnet_b0",
    "efficientvit_b0", "ese_vovnet19b_dw", "fastvit_t8", "fbnetc_100",
    "ghostnet_050", "hardcorenas_a", "hgnetv2_b0", "hrnet_w18_small", "inception_next_atto",
    "inception_v4", "lcnet_050", "levit_128s", "mixer_s32_224", "mnasnet_small",
    "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "mobileone_s0",
    "mobilevit_xxs", "mvitv2_tiny", "nfnet_l0", "pit_ti_224", "poolformer_s12", "pvt_v2_b0",
    "regnety_002", "repghostnet_050", "repvgg_a0", "repvit_m0_9", "res2net50_14w_8s", "resnest14d",
    "resnet18", "rexnet_100", "selecsls42", "skresnet18", "starnet_s1",
    "swin_tiny_patch4_window7_224", "tinynet_e", "tresnet_m",
    "twins_svt_small", "visformer_tiny", "vit_tiny_patch16_224", "volo_d1_224", "xception41",
    "xcit_nano_12_p16_224",
)  # fmt: skip

Found = dict[str, Any]  # what is noted of one question


def networks() -> list[str]:
    """Names of builders."""
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    return [*(f"torchvision.models:{name}" for name in known), *(f"timm:{name}" for name in TIMM)]


def sizes(builder: str) -> Iterator[int]:
    """Sides of images to be tried, from the least that the network's library names for it."""
    package, _, name = builder.partition(":")
    least = 0
    if package == "timm":
        import timm

        known = timm.get_pretrained_cfg(name)
        if known.fixed_input_size:
            yield known.input_size[-1]
            return
    else:
        import torchvision

        weights = next(iter(torchvision.models.get_model_weights(name)))
        least = max(weights.meta["min_size"])
    yield from (size for size in SIZES if size >= least)


def built(builder: str) -> Candidate:
    """The network at the smallest size that it takes.

    Raises:
        UserError: it takes none of them; why not the last.
    """
    refused = UserError("no size is known that it would take")
    for size in sizes(builder):
        spec = InputSpec(
            height=size,
            width=size,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            classes=tuple(f"class{number}" for number in range(CLASSES)),
        )
        try:
            return Candidate.create(builder, {}, spec, (builder,), 0, ())
        except UserError as error:
            refused = error
    raise refused


def images_for(candidate: Candidate) -> np.ndarray:
    """Random ones, float32 (n, channels, height, width)."""
    drawn = np.random.default_rng(0).standard_normal((IMAGES, *candidate.spec.shape))
    return drawn.astype(np.float32)


def as_trained(candidate: Candidate) -> Candidate:
    """The network with weights that tell its layers apart, as training leaves them.

    Fresh ones answer all images alike: heads of zeros, residual branches scaled by nothing, batch
    norms that let what they see vanish.
    """
    model = randomly_drawn(candidate.model).eval()
    norms = [(module, module.momentum) for module in model.modules() if is_batch_norm(module)]
    for norm, _ in norms:
        norm.train().momentum = 0.9  # not 1: a channel that is dead here would be blown up later
    with torch.no_grad():
        model(torch.from_numpy(images_for(candidate)))
    for norm, momentum in norms:
        norm.eval().momentum = momentum
    return candidate


def is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats


def answers(candidate: Candidate) -> np.ndarray:
    """Logits of the images, float32 (n, classes)."""
    with torch.no_grad():
        given = candidate.model.eval()(torch.from_numpy(images_for(candidate)))
    return by_name(given, candidate.spec.outputs)["logits"].numpy()


def of_spread(difference: np.ndarray, values: np.ndarray) -> float:
    """The largest difference, of the values' standard deviation."""
    return float(np.abs(difference).max() / values.std())


def stored(model: nn.Module) -> int:
    """Numbers in a network's weights."""
    return sum(p.numel() for p in model.parameters())


def exported(folder: Path, file: Path) -> Found:
    """Exports the candidate of a folder and compares the file with it."""
    candidate = Candidate.load(folder, ())
    export_onnx(candidate, file)
    return {"difference": check_export(candidate, file, images_for(candidate))}


def pruned(folder: Path, file: Path) -> Found:
    """Removes half of the channels of every group."""
    full = Candidate.load(folder, ())
    shapes = layer_shapes(full.model, torch.zeros(1, *full.spec.shape))
    settings = PruneSettings(ratio=HALF, importance="magnitude", scope="uniform", round_to=1)
    step = Prune()
    decided = step.decide(inputs(folder), settings, context(folder))
    made = file.with_suffix("")
    save(step.apply(inputs(folder, decided.content), settings, context(folder)), made)
    narrow = Candidate.load(made, ())
    found = layer_shapes(narrow.model, torch.zeros(1, *full.spec.shape))
    narrower = [shape for name, shape in found.items() if shape != shapes[name]]
    return {
        "layers": len(narrower) / len(shapes),
        "gone": 1 - stored(narrow.model) / stored(full.model),
        **exported(made, file),
    }


def quantized(folder: Path, file: Path) -> Found:
    """Makes every layer of the exported file int8."""
    candidate = Candidate.load(folder, ())
    images, original = images_for(candidate), file.with_name("export.onnx")
    if not original.is_file():
        export_onnx(candidate, original)
    quantize_file(original, file, ranges_of(original, images, "mse"))
    integers, floats = integer_operations(file)
    expected, got = (
        infer(open_session(path, "onnxruntime", 1), images, candidate.spec)["logits"]
        for path in (original, file)
    )
    error = float(((got - expected) ** 2).mean() / (expected.var() + 1e-30))
    return {"integers": len(integers), "floats": len(floats), "error": error}


def factorized(folder: Path, file: Path) -> Found:
    """Splits every layer that can be, whether that is faster or not."""
    full = Candidate.load(folder, ())
    example = torch.zeros(1, *full.spec.shape)
    shapes = layer_shapes(full.model, example)
    split = {}
    for name in shapes:
        layer = full.model.get_submodule(name)
        form = next(iter(forms(layer)), None)
        if form and not fault_when_split(full.model, name, form, example):
            split[name] = {"form": form, "ranks": ranks_by_ratio(layer, form, HALF)}
    decided = {"split": split, "named": len(shapes)}
    step, settings = Factorize(), FactorizeSettings(ratio=HALF)
    new = step.apply(inputs(folder, decided), settings, context(folder))
    save(new, file.with_suffix(""))
    again, expected = Candidate.load(file.with_suffix(""), ()), answers(new)
    return {
        "layers": len(split) / len(shapes),
        "gone": 1 - stored(again.model) / stored(full.model),
        "difference": of_spread(answers(again) - expected, expected),
    }


QUESTIONS: dict[str, Callable[[Path, Path], Found]] = {
    "export": exported,
    "prune": pruned,
    "int8": quantized,
    "factorize": factorized,
}


def save(candidate: Candidate, folder: Path) -> None:
    folder.mkdir()
    candidate.save(folder, {}, {})


def inputs(folder: Path, decided: Found | None = None) -> StepInputs:
    """What a step is given that looks at no images."""
    return StepInputs(
        data=None,
        pixels=None,
        previous=folder,
        teacher_folder=folder,
        teacher_outputs=(),
        taught_by=(),
        teacher_artifact=None,
        decided=decided,
        folder=folder,
        allowed=(),
    )


def context(folder: Path) -> Context:
    return Context(
        seed=0,
        device=torch.device("cpu"),
        threads=1,
        allowed=(),
        progress=Progress(Console(quiet=True)),
        data_path=None,
        files={},
        tables=folder,
        machine=machine(),
    )


def examine(builder: str, questions: list[str]) -> None:
    """What a fresh process does: prints what it finds out, a line of JSON for each question."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "candidate"
        if ask("build", partial(build, builder, folder)):
            for name in questions:
                ask(name, partial(QUESTIONS[name], folder, folder.with_name(f"{name}.onnx")))


def build(builder: str, folder: Path) -> Found:
    """Builds the network, and saves it as every question begins with it."""
    candidate = as_trained(built(builder))
    save(candidate, folder)
    given = answers(candidate)
    return {
        "size": candidate.spec.height,
        "parameters": stored(candidate.model),
        "varies": of_spread(given.std(0), given),
    }


def ask(question: str, answer: Callable[[], Found]) -> bool:
    """Prints what comes of it and what it took; returns whether there is an answer."""
    began = time.process_time()
    try:
        found = answer()
    except UserError as error:
        found = {"refused": str(error)}
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found = {"failed": reason, "traceback": traceback.format_exc()}
    # Of this process, and of all before it: the largest resident set so far.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = {"cpu_s": time.process_time() - began, "peak_bytes": peak}
    print(json.dumps({question: found | used}), flush=True)
    return is_answer(found)


def is_answer(found: Found) -> bool:
    return not {"refused", "failed"} & found.keys()


def examined(builder: str, questions: list[str]) -> Found:
    """Lets a process answer the questions; what it does not come to is refused."""
    command = [sys.executable, __file__, "--examine", builder, "--ask", *questions]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    record: Found = {"network": builder}
    for line in child.stdout.splitlines():
        if line.startswith("{"):
            record |= json.loads(line)
    missing = [name for name in ("build", *questions) if name not in record]
    if not is_answer(record.get("build", {})) or not missing:
        return record
    if child.returncode == -signal.SIGXCPU:
        rest = LIMIT_S - sum(seconds(record))
        reason = f"not done after {rest:.0f} s of CPU time, all that was left of {LIMIT_S} s"
        record[missing[0]] = {"refused": reason, "cpu_s": rest}
        record |= {name: {"refused": "no time was left for it"} for name in missing[1:]}
    else:
        reason = f"the process ended with {child.returncode}"
        record |= {name: {"failed": reason, "traceback": child.stderr[-4000:]} for name in missing}
    return record


def seconds(record: Found) -> list[float]:
    """CPU time of each question."""
    return [found.get("cpu_s", 0.0) for found in record.values() if isinstance(found, dict)]


def share(value: float) -> str:
    return f"{value:.0%}"


def cell(found: Found) -> str:
    """What a table says of one question."""
    if not is_answer(found):
        return "refused" if "refused" in found else "**bug**"
    if "integers" in found:
        return f"{found['integers']} of {found['integers'] + found['floats']}"
    gone = [f"{share(found['layers'])}, {share(found['gone'])}"] if "gone" in found else []
    return " · ".join([*gone, f"{found['difference']:.0e}"])


def line_of(record: Found) -> str:
    build = record["build"]
    cells = [record["network"].partition(":")[2], "", ""]
    if is_answer(build):
        cells[1:] = [str(build["size"]), f"{build['parameters'] / 1e6:.1f}"]
    cells += [cell(record[question]) if question in record else "" for question in QUESTIONS]
    peaks = [found.get("peak_bytes", 0) for found in record.values() if isinstance(found, dict)]
    cells += [f"{sum(seconds(record)):.0f}", f"{max(peaks, default=0) / 1e9:.1f}"]
    return f"| {' | '.join(cells)} |"


def refusals(records: list[Found]) -> list[str]:
    """A line of a table for each."""
    return [
        f"| {record['network'].partition(':')[2]} | {question} | "
        f"{'bug: ' if 'failed' in found else ''}{plain(found.get('refused') or found['failed'])} |"
        for record in records
        for question in ("build", *QUESTIONS)
        if not is_answer(found := record.get(question, {}))
    ]


def plain(reason: str) -> str:
    """One line that a Markdown table can hold."""
    return " ".join(reason.split()).replace("|", "\\|").replace("<", "\\<")


def counts(records: list[Found]) -> str:
    """How many of the networks each question was answered of."""
    answered = {
        question: [is_answer(record[question]) for record in records if question in record]
        for question in ("build", *QUESTIONS)
    }
    return ", ".join(f"{question} {sum(x)} of {len(x)}" for question, x in answered.items())


def table(records: list[Found]) -> str:
    lines = "\n".join(map(line_of, records))
    return f"""\
| network | px | parameters, M | export | prune | int8 | factorize | s | GB |
| --- | --: | --: | --- | --- | --- | --- | --: | --: |
{lines}
"""


def write(records: list[Found], folder: Path) -> None:
    """Writes zoo.md."""
    here = machine()
    kinds = {
        package: [record for record in records if record["network"].startswith(package)]
        for package in ("torchvision", "timm")
    }
    sections = "\n".join(
        f"## {package}\n\n{counts(found)}.\n\n{table(found)}" for package, found in kinds.items()
    )
    known = {record["network"] for record in records}
    missing = [name.partition(":")[2] for name in networks() if name not in known]
    left = f"\nNot examined yet: {', '.join(missing)}.\n" if missing else ""
    alike = [r["network"].partition(":")[2] for r in records if r["build"].get("varies", 1) < ALIKE]
    text = f"""\
# The zoo

{here.cpu}, Python {here.python},
{", ".join(map(" ".join, here.versions.items()))}; {datetime.now(UTC).date()}.

`python benchmarks/zoo.py`: random weights, {CLASSES} classes, the smallest of the usual sizes that
a network takes, a process and one thread for each, {LIMIT_S} s of CPU time at most (`s`; `GB`: the
largest resident set). Batch norms have the statistics of the images, and weights that were all
equal are drawn, so that answers to different images differ. They hardly do (by less than
{ALIKE:.0%} of their standard deviation), and equal answers say little, in:
{", ".join(alike) or "none"}.

- export: the largest difference between the file's answers in onnxruntime and the network's on
  {IMAGES} random images, of the answers' standard deviation.
- prune: half of the channels of every group; the share of layers that got narrower and of
  parameters that went · the difference between the exported file and the pruned network.
- int8: how many operations of layers run in integers, with every layer in int8.
- factorize: every layer that can be split, at half of its weights; the share of layers that were
  split and of parameters that went · the difference between the saved network, built again, and
  the split one.

An empty cell was not asked yet: the same command goes on where it stopped.
{left}
{sections}
## What is refused

| network | | reason |
| --- | --- | --- |
{chr(10).join(refusals(records))}
"""
    write_text(folder / "zoo.md", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="torchvision.models:NAME or timm:NAME")
    parser.add_argument("--ask", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--again", action="store_true", help="also what has been answered")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--examine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.examine:
        examine(given.examine, given.ask)
        return

    folder = given.out / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "zoo.jsonl"
    records: dict[str, Found] = {}
    for line in file.read_text("utf-8").splitlines() if file.is_file() else []:
        record = json.loads(line)
        records[record["network"]] = records.get(record["network"], {}) | record
    for name in given.networks or networks():
        record = records.get(name, {"network": name})
        questions = [q for q in given.ask if given.again or q not in record]
        if not questions or (
            "build" in record and not given.again and not is_answer(record["build"])
        ):
            continue
        found = examined(name, questions)
        records[name] = record | found
        print(line_of(records[name]), flush=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
    write([records[name] for name in networks() if name in records], folder)


if __name__ == "__main__":
    main()
