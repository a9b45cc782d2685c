"""onnxruntime on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY, Entry
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.images import TakesImages
from compress.runtimes.threads import cpus, on_first_cpu
from compress.utils.errors import UserError

# What onnxruntime calls types otherwise than NumPy.
DTYPES = {"float": "float32", "double": "float64"}


class OnnxFile:
    """An ONNX file with any inputs."""

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
        self.inputs = tuple(map(_entry, self.session.get_inputs()))
        self.outputs = tuple(output.name for output in self.session.get_outputs())
        metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.spec = metadata.get(METADATA_KEY)
        self.reference = metadata.get(REFERENCE_KEY)

    def call(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return all outputs, of the types that they have.

        Raises:
            UserError: arrays of other shapes or types than the file takes.
        """
        fed = {entry.name: x for entry, x in zip(self.inputs, arrays, strict=True)}
        try:
            # Alone, no thread has a CPU of its own: the system places them.
            with denormals_as_zero(), on_first_cpu(1 if self.alone else self.threads):
                return list(self.session.run(None, fed))
        except Exception as error:
            raise UserError(f"onnxruntime cannot run the model: {error}") from error


class OnnxSession(OnnxFile, TakesImages):
    """An ONNX file with one image input."""

    def __init__(
        self,
        path: Path,
        threads: int,
        profile: Path | None = None,
        alone: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Loads the file, as `OnnxFile`.

        Args:
            size: height and width of the images, where the file leaves them free.

        Raises:
            UserError: missing, nothing that onnxruntime can load, or no file that takes images.
        """
        super().__init__(path, threads, profile, alone)
        self.take_images(path, size)
        self.input = self.inputs[0].name


def _entry(given: onnxruntime.NodeArg) -> Entry:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(n if isinstance(n, int) else None for n in given.shape)
    return Entry(given.name, DTYPES.get(kind, kind), shape)
