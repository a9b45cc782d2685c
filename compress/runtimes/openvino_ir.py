"""OpenVINO's own format: a graph (.xml) and its weights (.bin), kept together by a hash.

A model that the ONNX format cannot express (binary convolutions) is deployed in it. What compress
must know of such a file stands in the graph's `rt_info`, below `compress`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from compress.data.input_spec import InputSpec
from compress.runtimes import runtime_named
from compress.utils.errors import UserError
from compress.utils.files import atomic

try:
    import openvino as ov
except ImportError as error:
    raise UserError(runtime_named("openvino").missing) from error

__all__ = ["SPEC", "ov", "read_ir", "read_model", "reason", "reshape", "save_ir"]

SPEC = ["compress", "input"]  # the input spec as JSON
WEIGHTS = ["compress", "weights_sha256"]  # of the .bin
# OpenVINO's kernels read bits in this order, its specification says the other one: a file that was
# packed by the specification would be run without a complaint, and be wrong.
BIT_ORDER = ["compress", "binary_weights"]
LSB_FIRST = "lsb-first"


def save_ir(model: ov.Model, path: Path, spec: InputSpec) -> None:
    """Writes the graph to `path` (.xml) and the weights, as precise as they are, beside it (.bin).

    A kill between the two leaves a pair that `read_ir` refuses.

    Args:
        model: binary weights, if any, packed least significant bit first. It stays as it is.

    Raises:
        UserError: the disk is full.
    """
    model = model.clone()
    model.set_rt_info(spec.model_dump_json(), SPEC)
    model.set_rt_info(LSB_FIRST, BIT_ORDER)
    with atomic(path) as graph, atomic(path.with_suffix(".bin")) as weights:
        named = graph.with_name(f"{graph.name}.xml")  # the only suffix that OpenVINO takes
        try:
            ov.serialize(model, named, weights)  # the hash of the weights is known only now
            model.set_rt_info(hashlib.sha256(weights.read_bytes()).hexdigest(), WEIGHTS)
            ov.serialize(model, named, weights)
            named.replace(graph)
        except RuntimeError as error:
            raise UserError(
                f"{path} could not be written ({reason(error)}): is the disk full?"
            ) from error
        finally:
            named.unlink(missing_ok=True)


def read_ir(path: Path) -> ov.Model:
    """Reads an IR; one of other tools too, unless its answers could be silently wrong.

    Raises:
        UserError: a file that is missing or no IR, weights that are not this graph's, or binary
            weights in an order that nobody states.
    """
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise UserError(
                f"No file at {file}: an OpenVINO model is two files, {path.name} and "
                f"{weights.name}, side by side."
            )
    operations, facts = _graph(path)
    expected = facts.get(WEIGHTS[1])
    if expected is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        raise UserError(
            f"{weights} does not belong to {path.name}: it is cut short, or another model's. Copy "
            "both files anew, or export the model again."
        )
    if "BinaryConvolution" in operations and facts.get(BIT_ORDER[1]) != LSB_FIRST:
        raise UserError(
            f"{path} has binary convolutions but does not say in which order the bits of their "
            "weights are packed: its answers could be wrong without a sign. Make the file with "
            "compress (the step binarize)."
        )
    return read_model(path)


def read_model(path: Path) -> ov.Model:
    """Any file that OpenVINO reads.

    Raises:
        UserError: not one of these.
    """
    try:
        return ov.Core().read_model(path)
    except RuntimeError as error:
        raise UserError(f"{path} cannot be loaded by openvino: {reason(error)}") from error


def reshape(model: ov.Model, shapes: Mapping[int, ov.PartialShape], path: Path) -> None:
    """Gives inputs other shapes, by their places.

    Args:
        path: which file it is of.

    Raises:
        UserError: shapes that the network was not made for.
    """
    try:
        model.reshape(dict(shapes))
    except RuntimeError as error:
        raise UserError(
            f"{path} cannot take {', '.join(map(str, shapes.values()))} ({reason(error)}): give "
            "the --size or --batch that it was made for."
        ) from error


def reason(error: Exception) -> str:
    """What OpenVINO says at the end of its list of source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _graph(path: Path) -> tuple[set[str], dict[str, str]]:
    """The kinds of operations in an IR, and what compress noted in it."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: unknown encoding
        raise UserError(f"{path} is no OpenVINO model: {error}.") from error
    operations = {layer.get("type", "") for layer in root.iter("layer")}
    noted = root.find(f"rt_info/{SPEC[0]}")
    facts = {} if noted is None else {fact.tag: fact.get("value", "") for fact in noted}
    return operations, facts
