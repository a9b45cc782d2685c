"""The shapes of an ONNX file's layers, for times per layer where there is no torch network."""

from pathlib import Path
from typing import Any

import onnx
from onnx import helper, shape_inference

from compress.measure.layer_times import LayerShape


def file_layer_shapes(path: Path) -> dict[str, LayerShape]:
    """Convolutions and linear layers by node name; those of unknown shape are left out."""
    graph = shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    weights = {t.name: tuple(t.dims) for t in graph.initializer}
    maps = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info)
    }
    found = {}
    for node in graph.node:
        weight = weights.get(node.input[1], ()) if len(node.input) > 1 else ()
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Conv" and len(weight) == 4:
            shape = _convolution(weight, maps.get(node.input[0], ()), attributes)
        elif node.op_type == "Gemm" and len(weight) == 2:
            first, second = weight
            shape = LayerShape(*((second, first) if attributes.get("transB") else weight))
        elif node.op_type == "MatMul" and len(weight) == len(maps.get(node.input[0], ())) == 2:
            shape = LayerShape(*weight)
        else:
            shape = None
        if shape is not None:
            found[node.name] = shape
    return found


def _convolution(
    weight: tuple[int, ...], seen: tuple[int, ...], attributes: dict[str, Any]
) -> LayerShape | None:
    """None where the map's size is unknown, or more is padded at one side than at the other."""
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    fixed = attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    if len(seen) != 4 or 0 in seen[2:] or (top, left) != (bottom, right) or not fixed:
        return None
    groups = attributes.get("group", 1)
    return LayerShape(
        in_channels=weight[1] * groups,
        out_channels=weight[0],
        kernel=(weight[2], weight[3]),
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=(top, left),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=groups,
        input_size=(seen[2], seen[3]),
    )
