"""onnxruntime on the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.threads import cpus, on_first_cpu
from compress.utils.errors import UserError


class OnnxSession:
    """An ONNX file with one image input."""

    def __init__(
        self, path: Path, threads: int, profile: Path | None = None, alone: bool = True
    ) -> None:
        """Loads the file.

        Args:
            alone: off where several sessions run one after the other (compress/pipeline): idle
                threads then sleep and stay on CPUs of their own. Else they spin after a run, as
                onnxruntime's do, and take the cores from the next network: three in a row took
                15 ms where each alone adds up to 6.7, and 7.5 so. A session alone is best left
                to spin.
            profile: how the file begins that the runtime's own profile is written to; None: no
                profile is taken.

        Raises:
            UserError: missing, or nothing that onnxruntime can load.
        """
        if not path.is_file():
            raise UserError(f"No model at {path}.")
        self.threads, self.alone = threads, alone
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        # For its own threads; the calling one, which works too, is told in `run`.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        if not alone:
            options.add_session_config_entry("session.force_spinning_stop", "1")
            if 1 < threads <= len(own := cpus()):
                # Counted from 1. The calling thread, which works too, is to run on the first CPU.
                places = ";".join(str(cpu + 1) for cpu in own[1:threads])
                options.add_session_config_entry("session.intra_op_thread_affinities", places)
        try:
            with denormals_as_zero():
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
        self.outputs = tuple(output.name for output in self.session.get_outputs())
        channels, height, width = inputs[0].shape[1:]
        if not isinstance(height, int) or not isinstance(width, int):
            raise UserError(f"{path} leaves its input's height and width free; export fixed ones.")
        self.channels = channels if isinstance(channels, int) else 3  # where they are left free
        self.image_size = (height, width)
        batch = inputs[0].shape[0]
        self.batch_size = batch if isinstance(batch, int) else None
        metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.spec = metadata.get(METADATA_KEY)
        self.reference = metadata.get(REFERENCE_KEY)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, float32 (n, …)."""
        try:
            # Alone, no thread has a CPU of its own: the system places them.
            with denormals_as_zero(), on_first_cpu(1 if self.alone else self.threads):
                outputs = self.session.run(None, {self.input: images})
        except Exception as error:
            raise UserError(f"onnxruntime cannot run the model: {error}") from error
        found = zip(self.outputs, outputs, strict=True)
        return {name: np.asarray(output, dtype=np.float32) for name, output in found}
