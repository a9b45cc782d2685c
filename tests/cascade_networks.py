"""Tiny real networks for cascades: they see colours, so that what is right can be computed."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.data.input_spec import METADATA_KEY, InputSpec

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "fit": "stretch"}


def centres(
    path: Path, size: int, points: dict[str, tuple[float, float, float]], fit: str = "stretch"
) -> None:
    """Writes a network that finds, for each point, the centre of what has most of its colour.

    Args:
        points: names with the weights of red, green and blue whose positive sum is a pixel's mass.
    """
    fed = PLAIN | {"fit": fit}
    spec = InputSpec(height=size, width=size, classes=(), points=tuple(points), **fed)
    colours = np.array(list(points.values()), np.float32)[..., None, None]  # (k, 3, 1, 1)
    place = (np.arange(size, dtype=np.float32) + 0.5) / size
    grid = np.stack([np.tile(place, size), np.repeat(place, size)], 1)  # (size², 2): x, y
    nodes = [
        helper.make_node("Conv", ["images", "colours"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["mass"]),
        helper.make_node("Reshape", ["mass", "flat"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "last"], ["total"]),
        helper.make_node("Add", ["total", "little"], ["some"]),
        helper.make_node("MatMul", ["rows", "grid"], ["moments"]),
        helper.make_node("Div", ["moments", "some"], ["means"]),
        helper.make_node("Flatten", ["means"], ["outputs"]),
    ]
    constants = {
        "colours": colours,
        "flat": np.array([0, len(points), -1]),
        "last": np.array([-1]),
        "little": np.array(1e-6, np.float32),
        "grid": grid,
    }
    _save(path, nodes, constants, size, spec)


def box(path: Path, size: int, half: float) -> None:
    """Writes a network that finds a box of half a side `half` around whatever is bright."""
    spec = InputSpec(
        height=size, width=size, classes=(), points=("top_left", "bottom_right"), **PLAIN
    )
    centres(path, size, {"top_left": (1, 1, 1), "bottom_right": (1, 1, 1)})
    proto = onnx.load(path)
    proto.graph.node[-1].output[0] = "middle"
    shift = np.array([[-half, -half, half, half]], np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    proto.graph.node.append(helper.make_node("Add", ["middle", "shift"], ["outputs"]))
    _describe(proto, spec)
    onnx.save(proto, path)


def brighter_half(path: Path, size: int, classes: tuple[str, str]) -> None:
    """Writes a classifier: is the left half greener, or the right?"""
    spec = InputSpec(height=size, width=size, classes=classes, **PLAIN)
    left = np.zeros((3, size, size), np.float32)
    left[1, :, : size // 2] = 1
    weights = np.stack([left.ravel(), left[:, :, ::-1].ravel()], 1) * (40 / size**2)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["outputs"]),
    ]
    _save(path, nodes, {"weights": weights.astype(np.float32)}, size, spec)


def _save(path: Path, nodes, constants, size: int, spec: InputSpec) -> None:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    _describe(proto, spec)
    onnx.save(proto, path)


def _describe(proto: onnx.ModelProto, spec: InputSpec) -> None:
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=spec.model_dump_json())
