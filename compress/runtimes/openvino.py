"""OpenVINO on the CPU, for ONNX files and for its own format."""

from pathlib import Path
from typing import Literal

import numpy as np

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.openvino_ir import ov, read_ir, read_model, reason
from compress.utils.errors import UserError

PRECISIONS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVinoSession:
    """An ONNX file or an OpenVINO IR with one image input.

    The model is compiled once for each number of images that comes: fixed shapes are faster, and
    binary convolutions take no others.
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
        shapes = [i.partial_shape for i in self.model.inputs]
        if len(shapes) != 1 or shapes[0].rank.is_dynamic or len(shapes[0]) != 4:
            raise UserError(
                f"{path} takes {', '.join(map(str, shapes))}; expected one input "
                "(batch, channels, height, width)."
            )
        batch, channels, height, width = shapes[0]
        if height.is_dynamic or width.is_dynamic:
            raise UserError(f"{path} leaves its input's height and width free; export fixed ones.")
        self.channels = 3 if channels.is_dynamic else channels.get_length()
        self.image_size = (height.get_length(), width.get_length())
        self.batch_size = None if batch.is_dynamic else batch.get_length()
        self.spec = _noted(self.model, METADATA_KEY)
        self.reference = _noted(self.model, REFERENCE_KEY)
        self.outputs = tuple(_name(output, i) for i, output in enumerate(self.model.outputs))
        self._shape = [channels, height, width]
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
        self._requests: dict[int, ov.InferRequest] = {}  # by batch size

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …)."""
        try:
            with denormals_as_zero():
                request = self.request(len(images))
                # Shared, not copied: as onnxruntime does.
                outputs = request.infer([images], share_inputs=True)
        except RuntimeError as error:
            raise UserError(f"openvino cannot run {self.path}: {reason(error)}") from error
        return {
            name: np.asarray(outputs[i], dtype=np.float32) for i, name in enumerate(self.outputs)
        }

    def request(self, batch: int) -> ov.InferRequest:
        """What runs `batch` images; compiled on the first call."""
        if batch not in self._requests:
            if self.batch_size not in (None, batch):
                raise UserError(f"{self.path} takes {self.batch_size} images, not {batch}.")
            self.model.reshape(ov.PartialShape([batch, *self._shape]))
            compiled = self._core.compile_model(self.model, "CPU", self._config)
            if compiled.get_property("INFERENCE_PRECISION_HINT") != self._precision:
                raise UserError(
                    "OpenVINO does not compute in bfloat16 on this CPU: remove openvino-bf16 from "
                    "measure.runtimes."
                )
            self._requests[batch] = compiled.create_infer_request()
        return self._requests[batch]


def _name(output: ov.Output, place: int) -> str:
    """Return the output's name; an IR may have outputs without one."""
    return output.get_any_name() if output.get_names() else f"output {place}"


def _noted(model: ov.Model, key: str) -> str | None:
    # The second place is where OpenVINO keeps an ONNX file's metadata, also in an IR made of it.
    for place in (key.split("."), ["framework", key]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).astype(str))
    return None
