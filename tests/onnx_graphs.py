"""Small ONNX files, made node by node: what exporters of all kinds write."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

Dims = Sequence[int | str]
FLOAT = TensorProto.FLOAT
WEIGHT = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32) * 3


def save(
    path: Path,
    nodes: list[NodeProto],
    inputs: dict[str, tuple[int, Dims]],
    outputs: dict[str, tuple[int, int]],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    listed: bool = False,
) -> Path:
    """Write a file.

    Args:
        inputs, outputs: type, and shape or number of dimensions, by name.
        listed: weights are among the inputs, as old exporters had them.
    """
    tensors = [numpy_helper.from_array(x, name) for name, x in (weights or {}).items()]
    given = [helper.make_tensor_value_info(k, of, shape) for k, (of, shape) in inputs.items()]
    if listed:
        given = [
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors
        ] + given
    gives = [
        helper.make_tensor_value_info(name, of, [f"{name} {i}" for i in range(rank)])
        for name, (of, rank) in outputs.items()
    ]
    graph = helper.make_graph(nodes, "graph", given, gives, tensors)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=3 if listed else 8)
    onnx.save(model, path)
    return path


def classifier(
    path: Path,
    tail: Sequence[NodeProto] = (),
    shape: Dims = ("n", 3, 32, 32),
    of: int = FLOAT,
    name: str = "pixel_values",
    listed: bool = False,
    opset: int = 17,
) -> Path:
    """Three classes from the mean of each channel: `x` are the logits, `y` what the tail makes."""
    weight = WEIGHT.astype(helper.tensor_dtype_to_np_dtype(of))
    nodes = [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["x"]),
        *(tail or [helper.make_node("Identity", ["x"], ["y"])]),
    ]
    return save(
        path, nodes, {name: (of, shape)}, {"y": (of, 2)}, {"weight": weight}, opset, listed=listed
    )


def logits(images: np.ndarray) -> np.ndarray:
    """What `classifier` computes, float32 (n, 3)."""
    return np.asarray(images.mean((2, 3)) @ WEIGHT, np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


node = helper.make_node
TAILS = {
    "softmax": [node("Softmax", ["x"], ["y"], axis=1)],
    "then flatten": [node("Softmax", ["x"], ["p"], axis=1), node("Flatten", ["p"], ["y"])],
    "then identity": [node("Softmax", ["x"], ["p"], axis=1), node("Identity", ["p"], ["y"])],
    "then clip": [node("Softmax", ["x"], ["p"], axis=1), node("Clip", ["p"], ["y"])],
    "in pieces": [
        node("ReduceMax", ["x"], ["m"], axes=[1]), node("Sub", ["x", "m"], ["d"]),
        node("Exp", ["d"], ["e"]), node("ReduceL1", ["e"], ["s"], axes=[1]),
        node("Div", ["e", "s"], ["y"]),
    ],
}  # fmt: skip
SIGMOIDS = {
    "sigmoid": [node("Sigmoid", ["x"], ["y"])],
    "in pieces": [
        node("Neg", ["x"], ["n"]), node("Softplus", ["n"], ["s"]), node("Neg", ["s"], ["l"]),
        node("Exp", ["l"], ["y"]),
    ],
}  # fmt: skip

Graph = Callable[[Path], Path]
TYPES = [
    FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8, TensorProto.INT64,
    TensorProto.BOOL, TensorProto.BFLOAT16, TensorProto.STRING,
]  # fmt: skip
numbers = st.sampled_from([1, 3, 32, "n", "m"])
shapes = st.one_of(
    st.tuples(st.sampled_from([1, 2, "n"]), *[st.sampled_from([3, 32, "h"])] * 3),
    st.lists(numbers, max_size=4).map(tuple),
)
# An input, brought to float and to a few numbers an image; or one that nothing reads.
HEADS = ("ReduceMean", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph of one to three inputs of any types and shapes, and as many outputs."""
    mostly_one = st.sampled_from([1, 1, 1, 2, 3])
    count = draw(mostly_one)
    inputs = {
        f"in {i}": (draw(st.sampled_from([FLOAT, *TYPES])), draw(shapes)) for i in range(count)
    }
    nodes = []
    for i, (name, (of, _)) in enumerate(inputs.items()):
        to = FLOAT if draw(st.booleans()) or of != FLOAT else of
        nodes.append(node("Cast", [name], [f"f{i}"], to=to))
        nodes.append(node(draw(st.sampled_from(HEADS)), [f"f{i}"], [f"h{i}"]))
        nodes.append(node("Flatten", [f"h{i}"], [f"flat{i}"]))
        nodes.append(
            node(draw(st.sampled_from(["Sigmoid", "Neg", "Softmax"])), [f"flat{i}"], [f"y{i}"])
        )
        nodes.append(node("Neg", [f"h{i}"], [f"dead{i}"]))
    kept = draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    listed = draw(st.booleans())
    outputs = {f"y{i}": (FLOAT, 2) for i in kept}
    weights = {"unused": np.ones(3, np.float32)}
    opset = draw(st.sampled_from([11, 13, 17]))
    return lambda path: save(path, nodes, inputs, outputs, weights, opset, listed)
