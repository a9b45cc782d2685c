"""An ONNX file in half precision as the same network in float32."""

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from compress.models.onnx_faults import all_nodes, real_inputs

HALVES: set[int] = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
TYPES = ("to", "dtype")  # attributes that name a type: of Cast, of EyeLike and random numbers


def is_half(model: onnx.ModelProto) -> bool:
    """Return whether weights or images are in half precision."""
    weights = {tensor.data_type for tensor in model.graph.initializer}
    images = {entry.type.tensor_type.elem_type for entry in real_inputs(model.graph)}
    return bool((weights | images) & HALVES)


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose half-precision and double numbers are float32, where images or weights
    are half or double; else the file itself.

    An operation gives the type that it takes: it is enough to change what a file begins with, its
    inputs and constants, and where it names a type.
    """
    images = {entry.type.tensor_type.elem_type for entry in real_inputs(model.graph)}
    changed: set[int] = set(HALVES) if is_half(model) else set()
    changed |= images & {TensorProto.DOUBLE}
    if not changed:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _change_graph(copy.graph, changed)
    for node in all_nodes(copy.graph):
        for attribute in node.attribute:
            _change_attribute(attribute, changed)
    return copy


def _change_graph(graph: onnx.GraphProto, changed: set[int]) -> None:
    for tensor in graph.initializer:
        _change_tensor(tensor, changed)
    for entry in (*graph.input, *graph.output, *graph.value_info):
        if entry.type.tensor_type.elem_type in changed:
            entry.type.tensor_type.elem_type = TensorProto.FLOAT


def _change_attribute(attribute: onnx.AttributeProto, changed: set[int]) -> None:
    if attribute.type == AttributeProto.INT and attribute.name in TYPES and attribute.i in changed:
        attribute.i = TensorProto.FLOAT
    for tensor in (attribute.t, *attribute.tensors):
        _change_tensor(tensor, changed)
    for graph in (attribute.g, *attribute.graphs):
        _change_graph(graph, changed)


def _change_tensor(tensor: onnx.TensorProto, changed: set[int]) -> None:
    if tensor.data_type in changed:
        numbers = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
