"""Somebody's ONNX file as the teacher: read as data, brought to the form that our own exports have.

Exporters write batch norms unfolded, a batch of exactly one, probabilities instead of logits, or
weights in a second file. What is written here computes the same (the teacher's stage proves it on
real images) with batch norms folded, any number of images, logits, and the input spec inside.
"""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
from onnx import numpy_helper, version_converter

from compress.data.input_spec import METADATA_KEY, InputSpec
from compress.utils.errors import UserError

OLDEST_OPSET = 13  # the first in which int8 has a scale for each channel


def read_onnx(path: Path) -> onnx.ModelProto:
    """The file with all its weights, also those that lie in files beside it.

    Raises:
        UserError: missing, damaged, or weights that lie outside the file's folder.
    """
    if not path.is_file():
        raise UserError(f"teacher.onnx: no file at {path} (the path is relative to the recipe).")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's exceptions share no base class
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"teacher.onnx: {path} is damaged or no ONNX file: {reason}") from error
    if len(model.graph.output) == 0 or len(model.graph.input) == 0:
        raise UserError(f"teacher.onnx: {path} has no input or no output.")
    return model


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 of everything in the file, its weights included wherever they lay."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def noted_spec(model: onnx.ModelProto) -> InputSpec | None:
    """What the file says of its input and classes, if `compress` wrote it."""
    text = next((p.value for p in model.metadata_props if p.key == METADATA_KEY), None)
    return None if text is None else InputSpec.model_validate_json(text)


def gives_probabilities(model: onnx.ModelProto) -> bool:
    """Whether the first output comes from a softmax."""
    return _softmax(model.graph) is not None


def like_ours(model: onnx.ModelProto, spec: InputSpec) -> onnx.ModelProto:
    """The same network in the form of our own exports: see the top of this file.

    Raises:
        UserError: of an opset that cannot be converted, or nothing that onnxruntime runs.
    """
    model = _with_new_opset(model)
    softmax = _softmax(model.graph)
    if softmax is not None:
        model.graph.node.remove(softmax)
        logits = onnx.helper.make_empty_tensor_value_info(softmax.input[0])
        logits.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        model.graph.output[0].CopyFrom(logits)
    del model.graph.output[len(spec.outputs) :]
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


def _softmax(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The softmax that makes the first output, if one does."""
    result = graph.output[0].name
    return next((n for n in graph.node if result in n.output and n.op_type == "Softmax"), None)


def _free_batch(graph: onnx.GraphProto) -> None:
    """Lets the file take any number of images, also where a flattening names the one it had."""
    del graph.value_info[:]  # shapes with the old batch in them
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    fixed = batch.dim_value
    batch.dim_param = "batch"
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    if fixed == 0:
        return
    weights = {t.name: t for t in graph.initializer}
    constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape":
            continue
        if node.input[1] in weights:
            shape = numpy_helper.to_array(weights[node.input[1]]).copy()
        elif node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]].attribute[0].t).copy()
        else:
            continue
        if shape.size and shape[0] == fixed:
            del node.attribute[:]  # allowzero: zero shall stand for the input's own size
            shape[0] = 0
            node.input[1] = f"free_shape_{number}"
            graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


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
