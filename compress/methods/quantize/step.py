"""Int8 weights and activations: calibrated, proven to run in integers, repaired or dropped.

Layers that are slower in int8 on this machine, or that cost more accuracy than allowed, go back to
float; a file that is still not faster than the float one it was made of is dropped.
"""

import json
from typing import TYPE_CHECKING

from compress.methods.base import Method
from compress.methods.distill.settings import Distillation
from compress.methods.quantize.settings import Settings
from compress.models.layer_patterns import matching
from compress.training.settings import ViewSettings

if TYPE_CHECKING:
    import numpy as np

    from compress.methods.context import Context, StepInputs
    from compress.methods.decided import Decided
    from compress.methods.quantize.layer_search import MadeOf
    from compress.models.candidate import Candidate

FLOAT, RANGES, DEPLOYED = "float.onnx", "ranges.json", "int8.onnx"
SHIFTS = "bias_shifts.safetensors"
SAMPLE = 32  # images on which the simulation of int8 finds its ranges


class Quantize(Method[Settings]):
    """Makes weights and activations int8 where that pays on this machine."""

    name = "quantize"
    settings = Settings
    # 3: biases of layers in float stay; training begins from a seeded sample; 4: no paths in files
    version = 4
    prepared = {"ranges", "percentile", "images", "bias_correction", "portable", "train"}
    measures = True
    makes_file = True
    judges = True
    nothing_follows = "int8 is made of the finished float network; put quantize last"

    def untrained(self, settings: Settings) -> Settings:
        """Return the same layers in int8 without training for it."""
        return settings.model_copy(update={"train": None})

    def teachers(self, settings: Settings) -> list[str]:
        """Return the candidates that training for int8 learns from."""
        return settings.train.teachers if settings.train else []

    def view_settings(self, settings: Settings) -> ViewSettings | None:
        """What training for int8 wants cached."""
        return settings.train.view_settings() if settings.train else None

    def takes_files(self, settings: Settings) -> bool:
        """Whether a file is enough to work on, without the code of its network."""
        return settings.train is None

    def decides_by_times(self, settings: Settings) -> bool:
        """Which layers are faster in int8 is measured."""
        return True

    def prepare(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Trains for int8 where asked to, writes the float file, finds the activations' ranges."""
        from safetensors.numpy import save_file

        from compress.data.input_spec import normalise
        from compress.export.int8 import bias_shifts, largest_weight, ranges_of
        from compress.export.onnx import export_onnx
        from compress.models.candidate import Candidate
        from compress.utils.errors import UserError
        from compress.utils.files import write_text

        candidate = Candidate.load(inputs.previous, context.allowed)
        lineage = "quantize int8"
        if settings.train is not None:
            candidate = _trained(candidate, settings.train, settings.portable, inputs, context)
            lineage = f"quantize int8 (trained, {settings.train.loss.name})"
        file = inputs.folder / FLOAT
        export_onnx(candidate, file)
        chosen = _calibrated_on(inputs, settings, context)
        images = normalise(inputs.pixels.of(chosen, candidate.spec), candidate.spec)
        how, progress = settings.ranges, context.progress.advance
        try:
            ranges = ranges_of(file, images, how, settings.percentile, progress)
        except ValueError as error:
            raise UserError(f"quantize: {error}") from error
        if settings.bias_correction:
            shifts = bias_shifts(file, images, largest_weight(settings.portable))
            save_file(shifts, inputs.folder / SHIFTS)
        write_text(inputs.folder / RANGES, json.dumps(ranges))
        return candidate.after(lineage)

    def decide(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Decided":
        """Decides which layers stay in float: by times, and by what int8 in them loses."""
        from compress.methods.decided import Decided
        from compress.methods.quantize.layer_search import choose_float_layers
        from compress.results.schema import StepReport

        made_of = _made_of(inputs, settings, context)
        floats, notes = choose_float_layers(made_of, inputs.folder, context)
        return Decided({"float_layers": floats}, StepReport(step="quantize", notes=notes))

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Writes the int8 file beside the float network it is made of, and measures it here."""
        from compress.methods.quantize.layer_search import make_int8

        assert inputs.decided is not None
        made_of = _made_of(inputs, settings, context)
        out = inputs.folder / DEPLOYED
        found = make_int8(made_of, inputs.decided["float_layers"], out, context)
        notes = [*_few_images(inputs, settings), *found.report.notes]
        report = found.report.model_copy(update={"notes": notes})
        return made_of.candidate.deployed_as(DEPLOYED, report, found.dropped)


def _made_of(inputs: "StepInputs", settings: Settings, context: "Context") -> "MadeOf":
    """Return what `prepare` left, and the images that judge."""
    from safetensors.numpy import load_file

    from compress.data.input_spec import normalise
    from compress.methods.quantize.layer_search import Judge, MadeOf
    from compress.models.candidate import Candidate
    from compress.tasks import task_of

    candidate = Candidate.load(inputs.previous, context.allowed)
    chosen = _judged_on(inputs, settings, context)
    images = normalise(inputs.pixels.of(chosen, candidate.spec), candidate.spec)
    task = task_of(candidate.spec)
    records_of = task.judge(inputs.data, chosen, context.tolerance)
    file = inputs.previous / FLOAT
    ranges = json.loads((inputs.previous / RANGES).read_text("utf-8"))
    shifts = load_file(inputs.previous / SHIFTS) if settings.bias_correction else {}
    return MadeOf(
        candidate,
        file,
        ranges={name: (low, high) for name, (low, high) in ranges.items()},
        judge=Judge.of(file, images, task, records_of, context.threads),
        keep_float=lambda names: list(matching(settings.float_layers, names)),
        max_drop=settings.max_drop_vs_float,
        portable=settings.portable,
        shifts=shifts,
    )


def _order(inputs: "StepInputs", context: "Context") -> "np.ndarray":
    from compress.utils.seeding import generator

    training = inputs.data.indices("train")
    return generator(context.seed, "calibration").permutation(training)


def _calibrated_on(inputs: "StepInputs", settings: Settings, context: "Context") -> "np.ndarray":
    """Places of the images of the training split that the ranges are found on."""
    return _order(inputs, context)[: settings.images]


def _judged_on(inputs: "StepInputs", settings: Settings, context: "Context") -> "np.ndarray":
    """Places of other images of the training split; where these are few, of all of them."""
    order = _order(inputs, context)
    rest = order[settings.images :]
    return (order if _too_few(len(order), settings) else rest)[: settings.judged]


def _too_few(count: int, settings: Settings) -> bool:
    """Whether so many training images are too few to calibrate on some and judge by others."""
    return count - settings.images < min(settings.judged, count // 2)


def _few_images(inputs: "StepInputs", settings: Settings) -> list[str]:
    count = len(inputs.data.indices("train"))
    if not _too_few(count, settings):
        return []
    return [
        f"quantize: there are {count} training images, and {settings.images} were to be "
        "calibrated on: too few are left to judge by, so that the loss was judged on the same ones."
    ]


def _trained(
    candidate: "Candidate",
    settings: Distillation,
    portable: bool,
    inputs: "StepInputs",
    context: "Context",
) -> "Candidate":
    """Quantization-aware training: rounding is simulated forwards and ignored backwards.

    Simulated by NVIDIA's modelopt with the deployed scheme's rounding (weights one scale a channel,
    which a batch norm behind them only rescales). What is deployed is the trained float network,
    calibrated anew.
    """
    import copy
    from dataclasses import replace

    from compress.data.input_spec import normalise
    from compress.methods.distill.train import distil
    from compress.methods.quantize.fake_quantization import simulate_int8
    from compress.models.checkpoint import set_weights
    from compress.utils.seeding import torch_seed

    plain = copy.deepcopy(candidate.model)
    # Drawn: in the order of their names the first images may be of one class.
    sample = inputs.pixels.of(_order(inputs, context)[:SAMPLE], candidate.spec)
    with torch_seed(context.seed, "int8 ranges"):  # dropout works while the ranges are found
        simulated = simulate_int8(candidate.model, normalise(sample, candidate.spec), portable)
    training = distil(
        replace(candidate, model=simulated), settings, inputs, context, "quantization-aware"
    )
    state = simulated.state_dict()
    set_weights(plain, {name: state[name].cpu() for name in plain.state_dict()})
    return replace(candidate, model=plain.eval()).trained(training)
