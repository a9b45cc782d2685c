"""Multiply-accumulates of an ONNX graph for one picture, counted from its shapes."""

import math
from pathlib import Path

import onnx
from onnx import shape_inference

# Operations whose work is not multiply-accumulates of weights: they count as none, as everywhere.
_FREE = {
    "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Div", "Dropout", "Equal", "Erf", "Exp", "Expand", "Flatten", "Gather",
    "GatherElements", "GatherND",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "LayerNormalization", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Pad", "Pow", "PRelu",
    "QuantizeLinear", "DequantizeLinear", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu",
    "Reshape", "Resize", "Shape", "Sigmoid", "Sign", "Slice", "Softmax", "Split", "Sqrt",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def count_macs(path: Path) -> tuple[int | None, list[str]]:
    """Multiply-accumulates of convolutions and matrix products at batch 1, and what else there is.

    Returns:
        (macs, operations whose work could not be counted); macs is None where shapes are unknown.
    """
    proto = onnx.load(path)
    for value in proto.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    # The exporter left shapes with a free batch dimension, which inference would keep.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes |= {t.name: list(t.dims) for t in graph.initializer}
    total, uncounted = 0, set()
    for node in graph.node:
        macs = _macs(node, shapes)
        if macs is None:
            uncounted.add(node.op_type)
        else:
            total += macs
    unknown = {"Conv", "Gemm", "MatMul"} & uncounted
    return (None if unknown else total), sorted(uncounted)


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int | None:
    """None: not countable."""
    if node.op_type in _FREE:
        return 0
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    weight, output = shapes.get(node.input[1], []), shapes.get(node.output[0], [])
    if not weight or not output or 0 in weight or 0 in output:
        return None
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return math.prod(output) * (weight[1] if transposed else weight[0])
    return math.prod(output) * weight[-2 if len(weight) > 1 else 0]
