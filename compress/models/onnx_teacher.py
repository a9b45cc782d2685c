"""Somebody's ONNX file as the teacher: read as data, brought to the form that our own exports have.

Exporters write batch norms unfolded, a batch of exactly one, probabilities instead of logits, half
precision, weights in a second file or among the inputs. What is written here computes the same (the
teacher's stage proves it on real images) in float32, with batch norms folded, any number of images,
logits, and the input spec inside. Images stay as the file takes them: as bytes, where it does, or
with their channels last.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, version_converter
from pydantic import ValidationError

from compress.data.input_spec import METADATA_KEY, InputSpec
from compress.metrics.probabilities import LEAST, MOST, Scale
from compress.models.onnx_channels import channels_read
from compress.models.onnx_faults import fault_of, real_inputs, sizes_of
from compress.models.onnx_float32 import in_float32
from compress.runtimes import Entry
from compress.runtimes.images import ImageInput, image_input
from compress.runtimes.onnxruntime import unreadable
from compress.utils.errors import UserError

OLDEST_OPSET = 13  # the first in which int8 has a scale for each channel


def read_onnx(path: Path) -> onnx.ModelProto:
    """The file with all its weights, also those that lie in files beside it.

    Raises:
        UserError: missing, damaged, weights that lie outside the file's folder, or a file that
            cannot be a teacher: int8, in training mode, of operators that no runtime has, of other
            inputs than images.
    """
    if not path.is_file():
        raise UserError(f"teacher.onnx: no file at {path} (the path is relative to the recipe).")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        reason = (str(error).strip().splitlines() or [""])[0]
        why = unreadable(path) or f"is damaged or no ONNX file: {reason}"
        raise UserError(f"teacher.onnx: {path} {why}.") from error
    if len(model.graph.output) == 0 or len(model.graph.input) == 0:
        raise UserError(f"teacher.onnx: {path} has no input or no output.")
    if fault := fault_of(model):
        raise UserError(f"teacher.onnx: {path} {fault}.")
    return model


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 of everything in the file, its weights included wherever they lay."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def noted_spec(model: onnx.ModelProto) -> InputSpec | None:
    """What the file says of its input and classes, if `compress` wrote it.

    Raises:
        UserError: it says so in another form.
    """
    text = next((p.value for p in model.metadata_props if p.key == METADATA_KEY), None)
    if text is None:
        return None
    try:
        return InputSpec.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise UserError(
            f"teacher.onnx: its metadata {METADATA_KEY} are no input spec "
            f"({where + ': ' if where else ''}{detail['msg']}): export it again, or remove them."
        ) from error


def taken_by(model: onnx.ModelProto) -> ImageInput:
    """What images the file takes; free channels are as many as its first layers read, if they say.

    Raises:
        UserError: other inputs than images.
    """
    (entry,) = real_inputs(model.graph)
    of = entry.type.tensor_type.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(of).name
    # bfloat16 is no type that NumPy has.
    dtype = "float32" if of == onnx.TensorProto.BFLOAT16 else dtype
    taken = image_input(Path("teacher.onnx"), [Entry(entry.name, dtype, tuple(sizes_of(entry)))])
    return taken._replace(channels=taken.channels or channels_read(model.graph, entry.name))


def plain(model: onnx.ModelProto, spec: InputSpec) -> onnx.ModelProto:
    """The same network in float32, without weights among its inputs, of a size that is fixed.

    Raises:
        UserError: it takes images of another size, or of other channels.
    """
    taken = taken_by(model)
    if taken.channels not in (None, spec.shape[0]):
        grey = "channels: grey and one number" if taken.channels == 1 else "three numbers"
        raise UserError(
            f"teacher.onnx takes images of {taken.channels} channels, and is to get "
            f"{spec.shape[0]}: give {grey} in mean and std (1 and 3 channels are possible)."
        )
    own = (taken.height or spec.height, taken.width or spec.width)
    if own != spec.size:
        raise UserError(
            f"teacher.onnx takes images of {own} (height, width); teacher.image_size is "
            f"{spec.height if spec.height == spec.width else list(spec.size)}. Give its own size."
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(in_float32(model))
    (entry,) = real_inputs(copy.graph)
    channels, height, width = spec.shape
    last = taken.layout == "nhwc"
    fixed = (height, width, channels) if last else (channels, height, width)
    for side, pixels in zip(entry.type.tensor_type.shape.dim[1:], fixed, strict=True):
        side.dim_value = pixels
    _only(copy.graph.input, [entry])
    copy.ir_version = max(copy.ir_version, 4)  # before, weights had to be inputs
    del copy.graph.value_info[:]  # of any size
    return copy


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same network with these outputs alone, in this order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = {output.name: output for output in copy.graph.output}
    _only(copy.graph.output, [outputs[name] for name in names])
    return copy


def _only(entries: Any, kept: list[onnx.ValueInfoProto]) -> None:
    copies = [onnx.ValueInfoProto.FromString(entry.SerializeToString()) for entry in kept]
    del entries[:]
    entries.extend(copies)


def like_ours(
    model: onnx.ModelProto, spec: InputSpec, scale: Scale | None = None, logits: int = 0
) -> onnx.ModelProto:
    """The same network in the form of our own exports: see the top of this file.

    Args:
        model: plain, with the spec's outputs in their order.
        scale: of which function it gives the probabilities, where logits are expected.
        logits: the number of that output.

    Raises:
        UserError: of an opset that cannot be converted, or nothing that onnxruntime runs.
    """
    model = _with_new_opset(model)
    if scale is not None:
        _give_logits(model.graph, model.graph.output[logits], scale)
    _free_batch(model.graph)
    model = _folded(model)
    _name_nodes(model.graph)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.model_dump_json()})
    return model


def _with_new_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = next((x.version for x in model.opset_import if x.domain in ("", "ai.onnx")), 0)
    if opset >= OLDEST_OPSET:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # RuntimeError, or whatever the converter's C++ throws
        raise UserError(
            f"teacher.onnx is of opset {opset} and cannot be converted ({error}): export it again "
            f"with opset_version={OLDEST_OPSET} or newer."
        ) from error


def _give_logits(graph: onnx.GraphProto, output: onnx.ValueInfoProto, scale: Scale) -> None:
    """Undoes what makes probabilities of logits: leaves out a last softmax, else inverts it."""
    last = next((n for n in graph.node if output.name in n.output), None)
    if scale == "softmax" and last is not None and last.op_type == "Softmax":
        name = last.input[0]
        graph.node.remove(last)
    else:
        name = f"{output.name}_as_logits"
        graph.node.extend(_inverse(graph, output.name, name, scale))
    output.CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


def _inverse(
    graph: onnx.GraphProto, given: str, result: str, scale: Scale
) -> Iterator[onnx.NodeProto]:
    """Yields what computes log p, or log p - log(1 - p), as `probabilities.logits_of` does."""
    most = MOST if scale == "sigmoid" else 1.0
    for name, number in (("least", LEAST), ("most", most), ("one", 1.0)):
        value = np.asarray(number, np.float32)
        graph.initializer.append(numpy_helper.from_array(value, f"{result}_{name}"))
    steps = [("Clip", [given, f"{result}_least", f"{result}_most"], "p")]
    if scale == "softmax":
        steps += [("Log", [f"{result}_p"], "")]
    else:
        steps += [
            ("Log", [f"{result}_p"], "log_p"),
            ("Sub", [f"{result}_one", f"{result}_p"], "q"),
            ("Log", [f"{result}_q"], "log_q"),
            ("Sub", [f"{result}_log_p", f"{result}_log_q"], ""),
        ]
    for kind, inputs, output in steps:
        yield onnx.helper.make_node(kind, inputs, [f"{result}_{output}" if output else result])


def _free_batch(graph: onnx.GraphProto) -> None:
    """Lets the file take any number of images, also where a flattening names the one it had."""
    del graph.value_info[:]  # shapes with the old batch in them
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    fixed = batch.dim_value
    batch.dim_param = "batch"
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    if fixed <= 0:  # it was free
        return
    weights = {t.name: t for t in graph.initializer}
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape":
            continue
        if node.input[1] in weights:
            shape = numpy_helper.to_array(weights[node.input[1]]).copy()
        elif node.input[1] in constants:
            shape = _value(constants[node.input[1]])
        else:
            continue
        if shape.size and shape[0] == fixed:
            del node.attribute[:]  # allowzero: zero shall stand for the input's own size
            shape[0] = 0
            node.input[1] = f"free_shape_{number}"
            graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def _value(constant: onnx.NodeProto) -> np.ndarray:
    """Return what a Constant gives, a tensor or a list of integers."""
    given = onnx.helper.get_attribute_value(constant.attribute[0])
    is_tensor = isinstance(given, onnx.TensorProto)
    return numpy_helper.to_array(given).copy() if is_tensor else np.atleast_1d(given)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Batch norms folded, constants computed: what onnxruntime would do when loading it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(written)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"teacher.onnx cannot be loaded by onnxruntime: {error}") from error
        folded = onnx.load(written)
    # onnxruntime lists all that it knows; other runtimes may know less.
    used = {node.domain for node in folded.graph.node}
    kept = [x for x in folded.opset_import if x.domain in used | {""}]
    del folded.opset_import[:]
    folded.opset_import.extend(kept)
    del folded.metadata_props[:]
    return folded


def _name_nodes(graph: onnx.GraphProto) -> None:
    """A name for each node that has none or another's: quantization tells them apart by it."""
    counts = Counter(node.name for node in graph.node)
    for number, node in enumerate(graph.node):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.op_type}_{number}"
