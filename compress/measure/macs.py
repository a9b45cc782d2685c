"""Multiply-accumulates of an ONNX graph for one image, counted from its shapes."""

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import shape_inference

from compress.models.onnx_faults import real_inputs, sizes_of

# Operations whose work is not multiply-accumulates of weights: they count as none, as everywhere.
_FREE = {
    "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Div", "Dropout", "DynamicQuantizeLinear", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Gather", "GatherElements", "GatherND", "GlobalAveragePool", "GlobalMaxPool",
    "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu", "Max", "MaxPool",
    "Min", "Mul", "Pad", "Pow", "PRelu", "QuantizeLinear", "DequantizeLinear", "Range", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Sign",
    "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    "Where",
}  # fmt: skip

CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
# Operations that multiply and accumulate, and which of their inputs holds the weights.
WEIGHTS = {
    "Conv": 1, "ConvInteger": 1, "QLinearConv": 3,
    "Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3,
}  # fmt: skip


def count_macs(path: Path) -> tuple[int | None, list[str]]:
    """Multiply-accumulates of convolutions and matrix products at batch 1, and what else there is.

    Returns:
        (macs, operations whose work could not be counted); macs is None where shapes are unknown.
    """
    total, uncounted = 0, set()
    for node, macs in macs_by_node(onnx.load(path), batch=1):
        if macs is None:
            uncounted.add(node.op_type)
        else:
            total += macs
    unknown = WEIGHTS.keys() & uncounted
    return (None if unknown else total), sorted(uncounted)


def macs_by_node(proto: onnx.ModelProto, batch: int) -> Iterator[tuple[onnx.NodeProto, int | None]]:
    """Each node with its multiply-accumulates for `batch` images; None: not countable."""
    shapes = _shapes(proto, batch)
    for node in proto.graph.node:
        yield node, _macs(node, shapes)


def _shapes(proto: onnx.ModelProto, batch: int) -> dict[str, list[int]]:
    """Of all tensors whose shapes can be inferred; 0 is an unknown size."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    inputs = [x for x in real_inputs(fixed.graph) if x.type.tensor_type.shape.dim]
    of_images = sizes_of(inputs[0])[0] if inputs else None
    for value in inputs:
        # Another fixed size than that of the images is an input's own: five prompts.
        if sizes_of(value)[0] in (None, of_images):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    # The exporter left shapes with a free batch dimension, which inference would keep.
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.input, *graph.output)
    }
    return shapes | {t.name: list(t.dims) for t in graph.initializer}


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int | None:
    if node.op_type in _FREE:
        return 0
    if node.op_type not in WEIGHTS:
        return None
    weight = shapes.get(node.input[WEIGHTS[node.op_type]], [])
    output = shapes.get(node.output[0], [])
    if not weight or not output or 0 in weight or 0 in output:
        return None
    if node.op_type in CONVOLUTIONS:
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return math.prod(output) * (weight[1] if transposed else weight[0])
    return math.prod(output) * weight[-2 if len(weight) > 1 else 0]
