"""onnxruntime on the CPU."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime

from compress.errors import UserError


@contextmanager
def _float_environment_kept() -> Iterator[None]:
    """Restores how this thread treats denormals.

    With `set_denormal_as_zero` onnxruntime's first session changes the calling thread for good, so
    that a network trained before and one trained after would differ in their last bits.
    """
    try:
        libm = ctypes.CDLL(None)
        get, set_ = libm.fegetenv, libm.fesetenv
    except (AttributeError, OSError, TypeError):  # Windows: its C library keeps it elsewhere
        yield
        return
    environment = ctypes.create_string_buffer(256)  # fenv_t has 8 to 32 bytes
    get(environment)
    try:
        yield
    finally:
        set_(environment)


class OnnxSession:
    """An ONNX file with one picture input and logits as its first output."""

    def __init__(self, path: Path, threads: int) -> None:
        """Loads the file.

        Raises:
            UserError: missing, or nothing that onnxruntime can load.
        """
        if not path.is_file():
            raise UserError(f"No model at {path}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Denormals make float layers many times slower on some pictures; all peers set this.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            with _float_environment_kept():
                self.session = onnxruntime.InferenceSession(
                    path, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"{path} cannot be loaded by onnxruntime: {error}") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = ", ".join(f"{i.name} {i.shape}" for i in inputs)
            raise UserError(
                f"{path} takes {shapes}; expected one input (batch, channels, height, width)."
            )
        self.input = inputs[0].name
        height, width = inputs[0].shape[2:]
        if not isinstance(height, int) or not isinstance(width, int):
            raise UserError(f"{path} leaves its input's height and width free; export fixed ones.")
        self.picture_size = (height, width)
        batch = inputs[0].shape[0]
        self.batch_size = batch if isinstance(batch, int) else None

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        try:
            outputs = self.session.run(None, {self.input: pictures})
        except Exception as error:
            raise UserError(f"onnxruntime cannot run the model: {error}") from error
        return np.asarray(outputs[0], dtype=np.float32)
