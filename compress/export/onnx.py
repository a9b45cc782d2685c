"""Candidate -> ONNX file, proven to compute what the network computes on real images."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from compress.data.input_spec import METADATA_KEY, InputSpec
from compress.export.plain_attention import plain_attention
from compress.models.binary_layers import for_deployment
from compress.models.candidate import Candidate
from compress.models.cosine_layer import with_weights_of_length
from compress.models.onnx_graph import forget_machine, module_of
from compress.models.onnx_network import OnnxNetwork
from compress.models.repeatability import refuse_unrepeatable
from compress.runtimes.onnxruntime import OnnxSession
from compress.runtimes.outputs import by_name
from compress.utils.errors import UserError
from compress.utils.files import atomic

OPSET = 18
TOLERANCE = 1e-3  # largest difference, as a fraction of the standard deviation of the outputs
INPUT = "images"
LARGEST = onnx.checker.MAXIMUM_PROTOBUF - 2**26  # bytes of weights; there is a graph beside them


def export_onnx(candidate: Candidate, path: Path) -> None:
    """Writes the network as ONNX with a free batch dimension, batch norms folded.

    Binary layers are written as float convolutions of ±1: exact in any runtime, and no faster.

    Metadata: `compress.input` holds the input spec (size, channels, mean, std, fit, class names)
    as JSON.

    Raises:
        UserError: an operation that cannot be exported; a network that counts its images in a way
            that cannot; more weights than one file holds.
    """
    if isinstance(candidate.model, OnnxNetwork):
        shutil.copyfile(candidate.model.path, path)  # brought to this form when it was read
        return
    _refuse_too_large(candidate)
    spec = candidate.spec
    model = with_weights_of_length(for_deployment(candidate.model.eval().float().cpu()))
    example = torch.zeros(2, *spec.shape)
    # A hook and no module around it: nodes are known by the modules that they come from.
    model.register_forward_hook(lambda _module, _inputs, given: _answer(given, spec))
    try:
        program = _translated(model, example, list(spec.outputs))
    except Exception as error:  # the exporter's exceptions share no base class
        cause = error.__cause__ or error  # the exporter wraps what went wrong in its own advice
        reason = f"{type(cause).__name__}: {(str(cause).strip().splitlines() or [''])[0]}"
        raise UserError(f"{candidate.name} cannot be exported to ONNX: {reason}") from error
    proto = program.model_proto
    _refuse_fixed_batch(candidate, proto)
    forget_machine(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.model_dump_json()
    with atomic(path) as temporary:
        onnx.save(proto, temporary)


def _translated(
    model: nn.Module, example: Tensor, outputs: list[str], tried: bool = False
) -> torch.onnx.ONNXProgram:
    """Return a network as torch's exporter translates it; attention that it cannot, written out.

    Raises:
        Exception: of whatever kind the exporter raises.
    """
    batch = torch.export.Dim("batch", min=1, max=65536)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=[INPUT],
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        return program
    except Exception:
        if tried:
            raise
        with plain_attention():
            return _translated(model, example, outputs, tried=True)
    finally:
        logger.setLevel(level)


def _refuse_too_large(candidate: Candidate) -> None:
    """Refuse what takes minutes to export and then cannot be written.

    Raises:
        UserError: says how large the file would be.
    """
    tensors = (*candidate.model.parameters(), *candidate.model.buffers())
    size = 4 * sum(tensor.numel() for tensor in tensors)
    if size > LARGEST:
        raise UserError(
            f"{candidate.name} cannot be exported to ONNX: its weights are {size / 1e9:.2f} GB in "
            f"float32, and one file holds {LARGEST / 1e9:.2f} GB. Take a smaller network."
        )


def _refuse_fixed_batch(candidate: Candidate, proto: onnx.ModelProto) -> None:
    """Refuse a file that takes as many images at once as the exporter showed the network.

    Raises:
        UserError: how such a network is usually written.
    """
    number = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if number:
        raise UserError(
            f"{candidate.name} cannot be exported to ONNX for any number of images: in forward it "
            f"turns their number ({number} here) into a constant. Write x.shape[0] for len(x) and "
            "int(x.shape[0]), or leave that axis to -1."
        )


def _answer(given: Any, spec: InputSpec) -> Tensor | tuple[Tensor, ...]:
    """Return what a task names of all that a network gives, in the task's order."""
    named = tuple(by_name(given, spec.outputs).values())
    return named if len(named) > 1 else named[0]


def check_export(candidate: Candidate, path: Path, images: np.ndarray) -> float:
    """Compares all outputs of the file in onnxruntime with those of the network in torch.

    Args:
        images: float32 (n, channels, height, width), real ones, normalised.

    Returns:
        The largest difference of an output, as a fraction of the outputs' standard deviation.

    Raises:
        UserError: they differ by more than TOLERANCE, or the network's own do when it is asked
            twice; names the first layer where they do.
    """
    outputs = candidate.spec.outputs
    refuse_unrepeatable(candidate.model.eval(), torch.from_numpy(images), candidate.name)
    with torch.inference_mode():
        given = by_name(candidate.model.eval()(torch.from_numpy(images)), outputs)
    expected = {name: given[name].float().numpy() for name in outputs}
    if not all(np.isfinite(output).all() for output in expected.values()):
        raise UserError(
            f"{candidate.name} answers real images with numbers that are not finite: its "
            "training diverged. Lower lr, or use precision: float32."
        )
    got = by_name(OnnxSession(path, threads=1).run(images), outputs)
    difference = max(_difference(output, got[name]) for name, output in expected.items())
    if difference > TOLERANCE:
        layer = first_difference(candidate.model, path, images)
        where = f"It starts at layer {layer!r}." if layer else "No single layer could be named."
        raise UserError(
            f"The exported file {path} does not compute what the network does: outputs differ by "
            f"{difference:.1%} of their standard deviation. {where}"
        )
    return difference


def _difference(expected: np.ndarray, got: np.ndarray) -> float:
    if expected.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    # Of what is next to constant (an even map, say) the rounding is measured against its size.
    scale = max(float(expected.std()), float(np.abs(expected).max()) / 100)
    return float(np.abs(expected - got).max() / (scale + 1e-12))


def first_difference(model: nn.Module, path: Path, images: np.ndarray) -> str | None:
    """The first layer, in the file's order, whose output is not the network's.

    The exporter notes in each node which module it came from; the last node of a module computes
    the module's output (of the batch norm, where one was folded into a convolution).
    """
    proto = onnx.load(path)
    outputs: dict[str, str] = {}
    for node in proto.graph.node:
        if module := module_of(node):
            outputs[module] = node.output[0]
    leaves = {n: m for n, m in model.named_modules() if n in outputs and not list(m.children())}

    expected: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: expected.__setitem__(name, out.clone())
        )
        for name, module in leaves.items()
    ]
    with torch.inference_mode():
        model.eval()(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()

    del proto.graph.output[:]
    names = [name for name in outputs if name in expected]
    for name in names:
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(outputs[name]))
    probe = path.with_name(f".probe-{path.name}")
    try:
        onnx.save(proto, probe)
        session = OnnxSession(probe, threads=1)
        got = session.session.run(None, {session.input: images})
    except (UserError, RuntimeError, ValueError):
        return None
    finally:
        probe.unlink(missing_ok=True)
    for name, value in zip(names, got, strict=True):
        if _difference(expected[name].numpy(), np.asarray(value)) > TOLERANCE:
            return name
    return None


def count_parameters(path: Path) -> int:
    """Numbers stored in the file's floating-point and integer weights; shapes do not count."""
    proto = onnx.load(path)
    weights = (numpy_helper.to_array(t) for t in proto.graph.initializer)
    return int(sum(w.size for w in weights if w.dtype.kind == "f" or w.dtype.itemsize < 8))
