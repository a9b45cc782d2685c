"""OpenVINO on the CPU, for ONNX files and for its own format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY, Entry
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.images import TakesImages
from compress.runtimes.openvino_ir import ov, read_ir, read_model, reason
from compress.utils.errors import UserError

# What NumPy calls the types.
DTYPES = {"boolean": "bool"} | {
    f"{letter}{bits}": f"{kind}{bits}"
    for letter, kind in (("f", "float"), ("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}
PRECISIONS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVinoFile:
    """An ONNX file or an OpenVINO IR with any inputs.

    The model is compiled once for the shapes that come: fixed shapes are faster, and binary
    convolutions take no others.
    """

    def __init__(
        self, path: Path, threads: int, precision: Literal["f32", "bf16"], profile: bool = False
    ) -> None:
        """Loads the file.

        Args:
            precision: of what is float in the file; int8 layers stay int8.
            profile: whether the runtime times its kernels; its graph then holds the times.

        Raises:
            UserError: missing, or nothing that OpenVINO can load.
        """
        if not path.is_file():
            raise UserError(f"No model at {path}.")
        self.path = path
        self.model = read_ir(path) if path.suffix == ".xml" else read_model(path)
        self.inputs = tuple(_entry(path, entry, i) for i, entry in enumerate(self.model.inputs))
        self.spec = _noted(self.model, METADATA_KEY)
        self.reference = _noted(self.model, REFERENCE_KEY)
        self.outputs = tuple(_name(output, i) for i, output in enumerate(self.model.outputs))
        self._precision = PRECISIONS[precision]
        self._core = ov.Core()
        # Given to each model alone: nothing is set for the process.
        self._config = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "PERF_COUNT": profile,
        }
        self._requests: dict[tuple[tuple[int, ...], ...], ov.InferRequest] = {}

    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs, of the types that they have.

        Raises:
            UserError: arrays of other shapes or types than the file takes.
        """
        try:
            with denormals_as_zero():
                request = self.request(*(x.shape for x in arrays))
                # Shared, not copied: as onnxruntime does.
                outputs = request.infer(list(arrays), share_inputs=True)
        except RuntimeError as error:
            raise UserError(f"openvino cannot run {self.path}: {reason(error)}") from error
        return [outputs[i] for i in range(len(self.outputs))]

    def request(self, *shapes: tuple[int, ...]) -> ov.InferRequest:
        """What runs inputs of these shapes; compiled on the first call."""
        if shapes not in self._requests:
            self._check(shapes)
            self.model.reshape({i: ov.PartialShape(list(x)) for i, x in enumerate(shapes)})
            compiled = self._core.compile_model(self.model, "CPU", self._config)
            if compiled.get_property("INFERENCE_PRECISION_HINT") != self._precision:
                raise UserError(
                    "OpenVINO does not compute in bfloat16 on this CPU: remove openvino-bf16 from "
                    "measure.runtimes."
                )
            self._requests[shapes] = compiled.create_infer_request()
        return self._requests[shapes]

    def _check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Refuses shapes that the file does not say: OpenVINO would reshape it to any."""
        for entry, given in zip(self.inputs, shapes, strict=True):
            pairs = list(zip(entry.shape, given, strict=False))
            if len(entry.shape) == len(given) and all(n in (None, m) for n, m in pairs):
                continue
            if pairs and pairs[0][0] not in (None, given[0]):
                raise UserError(f"{self.path} takes {pairs[0][0]} images, not {given[0]}.")
            raise UserError(f"openvino cannot run {self.path}: it takes {entry}, not {given}.")


class OpenVinoSession(OpenVinoFile, TakesImages):
    """An ONNX file or an OpenVINO IR with one image input."""

    def __init__(
        self,
        path: Path,
        threads: int,
        precision: Literal["f32", "bf16"],
        profile: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Loads the file, as `OpenVinoFile`.

        Args:
            size: height and width of the images, where the file leaves them free.

        Raises:
            UserError: missing, nothing that OpenVINO can load, or no file that takes images.
        """
        super().__init__(path, threads, precision, profile)
        self.take_images(path, size)


def _entry(path: Path, given: ov.Output, place: int) -> Entry:
    """Return an input; of a type that NumPy lacks by OpenVINO's name for it.

    Raises:
        UserError: one whose number of dimensions is not known.
    """
    name = given.get_any_name() if given.get_names() else f"input {place}"
    if given.partial_shape.rank.is_dynamic:
        raise UserError(
            f"{path} leaves the number of dimensions of its input {name} open: export it with "
            "shapes."
        )
    kind = given.get_element_type().get_type_name()
    shape = tuple(None if n.is_dynamic else n.get_length() for n in given.partial_shape)
    return Entry(name, DTYPES.get(kind, kind), shape)


def _name(output: ov.Output, place: int) -> str:
    """Return the output's name; an IR may have outputs without one."""
    return output.get_any_name() if output.get_names() else f"output {place}"


def _noted(model: ov.Model, key: str) -> str | None:
    # The second place is where OpenVINO keeps an ONNX file's metadata, also in an IR made of it.
    for place in (key.split("."), ["framework", key]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).astype(str))
    return None
