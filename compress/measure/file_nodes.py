"""What a model file asks to be computed: its nodes with their work, whatever runs them."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from compress.measure.macs import CONVOLUTIONS, WEIGHTS, macs_by_node
from compress.models.onnx_graph import module_of

LINEAR = "linear"


@dataclass(frozen=True)
class Node:
    """An operation of the file."""

    name: str
    operation: str  # of a convolution its kernel, e.g. "conv 3×3"
    module: str | None  # dotted name of the module that it came from
    macs: int | None  # multiply-accumulates of one call; None: cannot be counted
    weight_bytes: int
    inputs: tuple[str, ...]  # tensors, weights not among them
    outputs: tuple[str, ...]

    @property
    def computes(self) -> bool:
        """Whether it multiplies and accumulates, as far as is known."""
        return self.macs != 0


def read_network(path: Path, batch: int) -> list[Node]:
    """The nodes of an ONNX file or an OpenVINO model in an order that they can be computed in."""
    return _from_openvino(path, batch) if path.suffix == ".xml" else _from_onnx(path, batch)


def _from_onnx(path: Path, batch: int) -> list[Node]:
    proto = onnx.load(path)
    weights = {t.name: t for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            weights[node.output[0]] = node.attribute[0].t
    sizes = {name: numpy_helper.to_array(tensor).nbytes for name, tensor in weights.items()}
    return [
        Node(
            name=node.name or node.output[0],
            operation=_operation(node, weights),
            module=_module(node),
            macs=macs,
            weight_bytes=sum(sizes.get(name, 0) for name in node.input),
            inputs=tuple(name for name in node.input if name and name not in weights),
            outputs=tuple(node.output),
        )
        for node, macs in macs_by_node(proto, batch)
        if node.op_type != "Constant"
    ]


def _operation(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> str:
    if node.op_type in CONVOLUTIONS:
        facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        return convolution(facts.get("kernel_shape", ()), facts.get("group", 1))
    if node.op_type not in WEIGHTS:
        return str(node.op_type)
    weight = node.input[WEIGHTS[node.op_type]]
    # Quantized weights come through a node that makes them float.
    return LINEAR if weight in weights or ".weight" in weight else "MatMul"


def convolution(kernel: Any, groups: int) -> str:
    """How a convolution is called: "conv 3×3", "depthwise 3×3"."""
    size = "×".join(map(str, kernel)) or "?"
    return f"conv {size}" if groups == 1 else f"{'depthwise' if groups > 8 else 'grouped'} {size}"


def _module(node: onnx.NodeProto) -> str | None:
    """From the weight's name, what the exporter noted, or a name that looks like a path."""
    for name in node.input[1:]:
        if found := re.match(r"(.+)\.weight", name):
            return found[1]
    return module_of(node) or _from_path(node.name)


def _from_path(name: str) -> str | None:
    """/layer1/layer1.0/conv1/Conv -> layer1.0.conv1: a part that the next one begins with goes."""
    if not name.startswith("/"):
        return None
    parts = name.split("/")[1:-1]
    pairs = zip(parts, [*parts[1:], ""], strict=False)
    kept = [part for part, following in pairs if not following.startswith(f"{part}.")]
    return ".".join(kept) or None


def _from_openvino(path: Path, batch: int) -> list[Node]:
    from compress.runtimes.openvino_ir import read_ir

    model = read_ir(path)
    shape = list(model.inputs[0].partial_shape)
    model.reshape({0: [batch, *shape[1:]]})
    nodes = []
    for op in model.get_ordered_ops():
        if op.get_type_name() in ("Parameter", "Result", "Constant"):
            continue
        sources = [entry.get_node() for entry in op.input_values()]
        constants = [s for s in sources if s.get_type_name() == "Constant"]
        macs, operation = _openvino_work(op)
        nodes.append(
            Node(
                name=op.get_friendly_name(),
                operation=operation,
                module=_openvino_module(sources),
                macs=macs,
                weight_bytes=sum(map(_bytes, constants)),
                inputs=tuple(s.get_friendly_name() for s in sources if s not in constants),
                outputs=(op.get_friendly_name(),),
            )
        )
    return nodes


def _bytes(constant: Any) -> int:
    bits = constant.get_element_type().bitwidth * math.prod(constant.get_output_shape(0))
    return -(-bits // 8)


def _openvino_module(sources: list[Any]) -> str | None:
    """Constants keep the names that the weights had in ONNX."""
    for source in sources[1:]:
        if found := re.match(r"(.+)\.weight", source.get_friendly_name()):
            return found[1]
    return None


def _openvino_work(op: Any) -> tuple[int, str]:
    kind, output = op.get_type_name(), math.prod(op.get_output_shape(0))
    weight = list(op.get_input_shape(1)) if op.get_input_size() > 1 else []
    if kind in ("Convolution", "BinaryConvolution"):
        return output * math.prod(weight[1:]), convolution(weight[2:], 1)
    if kind == "GroupConvolution":  # weights: groups, outputs of each, inputs of each, kernel
        return output * math.prod(weight[2:]), convolution(weight[3:], weight[0])
    if kind == "MatMul":
        rows = list(op.get_input_shape(0))
        shared = rows[-2 if op.get_attributes()["transpose_a"] and len(rows) > 1 else -1]
        constant = op.input_value(1).get_node().get_type_name() in ("Constant", "FakeQuantize")
        return output * shared, LINEAR if constant else kind
    return 0, kind
