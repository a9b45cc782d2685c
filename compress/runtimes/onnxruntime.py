"""onnxruntime on the CPU."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY, Entry
from compress.runtimes.base import PRECISIONS, Kernel, Loader, Runtime
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.images import TakesImages
from compress.runtimes.threads import cpus, on_first_cpu
from compress.utils.errors import UserError
from compress.utils.other_files import other_file

if TYPE_CHECKING:
    import onnxruntime

Event = dict[str, Any]  # of onnxruntime's profile

# What onnxruntime calls types otherwise than NumPy.
DTYPES = {"float": "float32", "double": "float64"}
ROUNDS = "DynamicQuantizeMatMul"  # reads floats, but multiplies integers
# Other files of networks, by how they begin.
NO_ONNX = {
    rb"PK\x03\x04": "a zip archive (of torch.save, or Keras)",
    rb"\x80[\x02-\x05]": "a pickle (of torch.save, say)",
    rb"[\s\S]{5}\0{3}\{": "a safetensors file, weights without their network",
}


def unreadable(path: Path) -> str | None:
    """Return why a file is none that ONNX's reader takes, and what to do; None: it does not tell.

    A file that can be read need not be asked.
    """
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    with path.open("rb") as file:
        start = file.read(100)
    if not start:
        return "is empty: copy or download it again"
    if other := other_file(start):
        return other
    for begins, what in NO_ONNX.items():
        if re.match(begins, start):
            return f"is {what}: export the network to ONNX"
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # protobuf's and onnx's exceptions share no base class
        return None
    beside = {ExternalDataInfo(x).location for x in graph.initializer if uses_external_data(x)}
    if missing := [name for name in sorted(beside) if not (path.parent / name).is_file()]:
        verb, all_ = ("are", "all") if missing[1:] else ("is", "both")
        return (
            f"keeps its weights in {' and '.join(missing)}, which {verb} not beside it: copy {all_}"
        )
    return None


def _unloadable(path: Path, error: Exception) -> str:
    """Return why onnxruntime did not load a file, and what to do."""
    try:
        import onnx
    except ImportError:  # an exported cascade is run without it
        return f"cannot be loaded by onnxruntime: {error}"

    if why := unreadable(path):
        return f"{why}."
    if lacking := re.search(r"NOT_IMPLEMENTED.* implementation for (\w+)", str(error)):
        graph = onnx.load(path, load_external_data=False).graph
        types = {x.type.tensor_type.elem_type for x in graph.input}
        if onnx.TensorProto.DOUBLE in types | {x.data_type for x in graph.initializer}:
            return (
                f"computes in float64, in which onnxruntime's CPU has no kernel for {lacking[1]}: "
                "convert it to float32 (export it after model.float())."
            )
    return f"cannot be loaded by onnxruntime: {error}"


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
        import onnxruntime  # here: who only asks for its name need not wait for it

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
            raise UserError(f"{path} {_unloadable(path, error)}") from error
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

    def kernels(self) -> list[list[Kernel]]:
        """Return the kernels of each call so far, where a profile is taken; it ends with that."""
        return kernels_by_call(json.loads(Path(self.session.end_profiling()).read_text("utf-8")))


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


def _entry(given: "onnxruntime.NodeArg") -> Entry:
    kind = given.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(n if isinstance(n, int) else None for n in given.shape)
    return Entry(given.name, DTYPES.get(kind, kind), shape)


def kernels_by_call(profile: Sequence[Event]) -> list[list[Kernel]]:
    """Return what onnxruntime's profile says of each call, in the order of execution.

    A kernel that runs a graph of its own (If, Loop) stands for those inside.
    """
    starts = sorted(event["ts"] for event in profile if event["name"] == "model_run")
    events = [
        event
        for event in profile
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")
    ]
    # The outer one first, where two start in the same microsecond.
    events.sort(key=lambda event: (event["ts"], -event["dur"]))
    calls: list[list[Kernel]] = [[] for _ in starts]
    call = ends = 0
    for event in events:
        while call + 1 < len(starts) and event["ts"] >= starts[call + 1]:
            call += 1
        if event["ts"] + event["dur"] <= ends and event["dur"]:
            continue
        calls[call].append(_kernel(event))
        ends = event["ts"] + event["dur"]
    return calls


def _kernel(event: Event) -> Kernel:
    arguments = event["args"]
    inputs = [name for entry in arguments["input_type_shape"] for name in entry]
    outputs = [shape for entry in arguments["output_type_shape"] for shape in entry.values()]
    read = inputs[0] if inputs else "float"
    name = str(event["name"]).removesuffix("_kernel_time")
    operation = arguments["op_name"]
    return Kernel(
        operation=operation,
        precision="int8" if operation == ROUNDS else PRECISIONS.get(read, read),
        output_shape=tuple(outputs[0]) if outputs else (),
        activation_bytes=int(arguments["activation_size"]) + int(arguments["output_size"]),
        names=(name,),
        seconds=1e-6 * event["dur"],
        # Channels in blocks, as wide as the CPU's registers: its fast float convolutions.
        implementation="nchwc" if "_nchwc" in name else "",
    )


SCRIPT = """\
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = MODEL["threads"]
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(
        HERE / MODEL["file"], options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    ask = lambda image: session.run(None, {name: image})
"""


class OnnxRuntime(Runtime):
    """onnxruntime with its own threads."""

    name = package = "onnxruntime"
    missing = "The runtime onnxruntime is not installed: pip install onnxruntime"
    idle = "spin for a while, as it has them; in pipelines they sleep, each on its own CPU"
    mark = "circle"

    def loader(self) -> Loader:
        """Import onnxruntime, and return what loads ONNX files."""
        import onnxruntime  # noqa: F401

        return lambda path, threads, alone, size: OnnxSession(path, threads, alone=alone, size=size)

    def open(self, path: Path, threads: int) -> OnnxFile:
        """Load an ONNX file."""
        return OnnxFile(path, threads)

    def profiled(self, path: Path, threads: int, folder: Path) -> OnnxFile:
        """Load an ONNX file; the profile is written when the kernels are asked for."""
        return OnnxFile(path, threads, profile=folder / "kernels")

    def script(self) -> str:
        """Return how the exported script loads the file."""
        return SCRIPT
