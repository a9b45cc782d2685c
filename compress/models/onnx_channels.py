"""How many channels an ONNX file reads of an image, told by the weights that meet it first."""

import onnx

# What passes images on with the channels that they have; of more inputs than one, the others are
# numbers for each channel, or one for all.
PASS_ON = (
    "Cast", "Identity", "Add", "Sub", "Mul", "Div", "Clip", "Pad", "Resize", "Transpose", "Reshape",
)  # fmt: skip


def channels_read(graph: onnx.GraphProto, image: str) -> int | None:
    """Return the channels of an image that the first convolution takes; None: the file has none.

    Args:
        image: name of the input.
    """
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    weights |= {
        node.output[0]: node.attribute[0].t.dims
        for node in graph.node
        if node.op_type == "Constant"
    }
    same = {image}  # the image, as far as only its numbers changed
    for node in graph.node:
        if not node.input or node.input[0] not in same:
            continue
        if node.op_type == "Conv" and node.input[1] in weights:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            return int(weights[node.input[1]][1]) * groups
        if node.op_type in PASS_ON:
            same.update(node.output)
    return None
