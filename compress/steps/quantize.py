"""Int8 weights and activations: calibrated, proven to run in integers, repaired or dropped.

Layers that are slower in int8 on this machine, or that cost more accuracy than allowed, go back to
float; a file that is still not faster than the float one it was made of is dropped.
"""

import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.layer_names import matching
from compress.training.distillation_settings import Distillation, ViewSettings
from compress.training.settings import Fraction, RecipeModel

if TYPE_CHECKING:
    import numpy as np

    from compress.candidate import Candidate
    from compress.context import Context, StepInputs

VERSION = 2
MEASURES = True
JUDGES = True
DEPLOYED = "int8.onnx"
SAMPLE = 32  # pictures on which the simulation of int8 finds its ranges
LAST = "int8 is made of the finished float network; put quantize last"


class Settings(RecipeModel):
    """How ranges are found, what may be lost, and whether the network is trained for int8."""

    ranges: Literal["minmax", "percentile", "entropy", "mse"] = "mse"  # of activations
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99  # for ranges: percentile
    pictures: Annotated[int, Field(ge=1)] = 128  # of the training split, to find ranges on
    judged: Annotated[int, Field(ge=1)] = 512  # other training pictures, to judge the loss on
    max_accuracy_drop: Fraction = 0.01  # of right answers on the judged pictures, against float
    float_layers: list[str] = []  # stay in float; * and ? match
    bias_correction: bool = False
    portable: bool = True  # 7-bit weights: right on CPUs without VNNI too; false: 8 bits
    reduce_range: Annotated[bool | None, Field(exclude=True, deprecated=True)] = None  # portable
    train: Distillation | None = None  # quantization-aware training from the teacher; none: no

    @model_validator(mode="before")
    @classmethod
    def _takes_the_old_name(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "reduce_range" not in value:
            return value
        if "portable" in value:
            raise ValueError("reduce_range is the old name of portable: give portable alone")
        old = value["reduce_range"]
        now = (
            f"portable: {str(old).lower()}"
            if isinstance(old, bool)
            else "portable, true unless given"
        )
        warnings.warn(f"quantize.reduce_range is now {now}", FutureWarning, stacklevel=1)
        return value | {"portable": old} if isinstance(old, bool) else value

    def view_settings(self) -> ViewSettings | None:
        """What training for int8 wants cached."""
        return self.train.view_settings() if self.train else None


def on_file(settings: Settings) -> bool:
    """Whether a file is enough to work on, without the code of its network."""
    return settings.train is None


def apply(inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
    """Writes the int8 file beside the float network it is made of."""
    from compress.candidate import Candidate
    from compress.errors import UserError
    from compress.export import export_onnx
    from compress.int8 import Judge, find_int8
    from compress.measure.right import judge
    from compress.quantization import correct_biases, largest_weight, ranges_of

    candidate = Candidate.load(inputs.previous, context.allowed)
    lineage = "quantize int8"
    if settings.train is not None:
        candidate = _trained(candidate, settings.train, settings.portable, inputs, context)
        lineage = f"quantize int8 (trained, {settings.train.loss.name})"

    float_file = inputs.folder / ".float.onnx"
    calibration, judged, chosen, notes = _pictures(inputs, settings, candidate, context.seed)
    export_onnx(candidate, float_file)
    try:
        ranges = ranges_of(
            float_file,
            calibration,
            settings.ranges,
            settings.percentile,
            context.progress.advance,
        )
        if settings.bias_correction:
            correct_biases(float_file, float_file, calibration, largest_weight(settings.portable))
        right = judge(inputs.data, chosen, candidate.spec, context.bounds)
        compared = Judge.of(float_file, judged, right, context.threads)
        found = find_int8(
            candidate,
            float_file,
            ranges,
            compared,
            inputs.folder / DEPLOYED,
            context,
            keep_float=lambda names: list(matching(settings.float_layers, names)),
            max_drop=settings.max_accuracy_drop,
            portable=settings.portable,
            notes=notes,
        )
    except ValueError as error:
        raise UserError(f"quantize: {error}") from error
    finally:
        float_file.unlink(missing_ok=True)
    return candidate.after(lineage, found.report, deployed=DEPLOYED, dropped=found.dropped)


def _pictures(
    inputs: "StepInputs", settings: Settings, candidate: "Candidate", seed: int
) -> "tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]":
    """Of the training split: pictures to calibrate on, others to judge on, their places, notes."""
    from compress.input_spec import preprocess
    from compress.seeding import generator

    training = inputs.data.indices("train")
    order = generator(seed, "calibration").permutation(training)
    chosen, rest = order[: settings.pictures], order[settings.pictures :][: settings.judged]
    notes = []
    if len(order) <= settings.pictures:
        notes.append(
            f"quantize: there are {len(order)} training pictures, {settings.pictures} were to be "
            "calibrated on: all of them were, and the same ones judged the loss."
        )
        rest = order[: settings.judged]
    calibration = preprocess(inputs.data.paths(chosen), candidate.spec)
    judged = preprocess(inputs.data.paths(rest), candidate.spec)
    return calibration, judged, rest, notes


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

    from compress.input_spec import preprocess
    from compress.training.distillation import distil
    from compress.training.fake_quantization import simulate_int8

    plain = copy.deepcopy(candidate.model)
    sample = inputs.data.paths(inputs.data.indices("train")[:SAMPLE])
    simulated = simulate_int8(candidate.model, preprocess(sample, candidate.spec), portable)
    training = distil(
        replace(candidate, model=simulated), settings, inputs, context, "quantization-aware"
    )
    state = simulated.state_dict()
    plain.load_state_dict({name: state[name].cpu() for name in plain.state_dict()})
    return replace(candidate, model=plain.eval(), training=training)
