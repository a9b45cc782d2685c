"""OpenVINO on the CPU, for ONNX files and for its own format."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from compress.data.input_spec import METADATA_KEY
from compress.runtimes import REFERENCE_KEY, Entry
from compress.runtimes.base import PRECISIONS, Kernel, Loader, Runtime
from compress.runtimes.denormals import denormals_as_zero
from compress.runtimes.images import TakesImages
from compress.runtimes.nodes import LINEAR, Node, convolution
from compress.utils.errors import UserError

if TYPE_CHECKING:
    import openvino as ov

# What NumPy calls the types.
DTYPES = {"boolean": "bool"} | {
    f"{letter}{bits}": f"{kind}{bits}"
    for letter, kind in (("f", "float"), ("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}
# How many bytes a number takes, by how OpenVINO calls its type.
NUMBER_BYTES = {
    "f32": 4, "f64": 8, "f16": 2, "bf16": 2, "u8": 1, "i8": 1, "boolean": 1, "u1": 1 / 8,
    "i32": 4, "i64": 8,
}  # fmt: skip
# The operations that multiply and accumulate.
MULTIPLY = ("Convolution", "BinaryConvolution", "GroupConvolution", "MatMul")


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
        from compress.runtimes.openvino_ir import ov, read_ir, read_model  # OpenVINO takes long

        if not path.is_file():
            raise UserError(f"No model at {path}.")
        self.path = path
        self.model = read_ir(path) if path.suffix == ".xml" else read_model(path)
        self.inputs = tuple(_entry(path, entry, i) for i, entry in enumerate(self.model.inputs))
        self.spec = _noted(self.model, METADATA_KEY)
        self.reference = _noted(self.model, REFERENCE_KEY)
        self.outputs = tuple(_name(output, i) for i, output in enumerate(self.model.outputs))
        self._precision = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[precision]
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
        from compress.runtimes.openvino_ir import reason

        try:
            with denormals_as_zero():
                request = self.request(*(x.shape for x in arrays))
                # Shared, not copied: as onnxruntime does.
                outputs = request.infer(list(arrays), share_inputs=True)
        except RuntimeError as error:
            raise UserError(f"openvino cannot run {self.path}: {reason(error)}") from error
        return [outputs[i] for i in range(len(self.outputs))]

    def request(self, *shapes: tuple[int, ...]) -> "ov.InferRequest":
        """What runs inputs of these shapes; compiled on the first call."""
        from compress.runtimes.openvino_ir import ov

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

    def kernels(self) -> list[list[Kernel]]:
        """Return the kernels' means over all calls so far, cut to microseconds, where it is timed.

        What takes less than one takes none.
        """
        return [_kernels(request) for request in self._requests.values()]

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


def _entry(path: Path, given: "ov.Output", place: int) -> Entry:
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


def _name(output: "ov.Output", place: int) -> str:
    """Return the output's name; an IR may have outputs without one."""
    return output.get_any_name() if output.get_names() else f"output {place}"


def _noted(model: "ov.Model", key: str) -> str | None:
    # The second place is where OpenVINO keeps an ONNX file's metadata, also in an IR made of it.
    for place in (key.split("."), ["framework", key]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).astype(str))
    return None


def _kernels(request: Any) -> list[Kernel]:
    operations = request.get_compiled_model().get_runtime_model().get_ordered_ops()
    facts = {op.get_friendly_name(): _facts(op) for op in operations}
    executed = [
        op
        for op in sorted(operations, key=lambda op: int(facts[op.get_friendly_name()]["execOrder"]))
        if facts[op.get_friendly_name()]["layerType"] not in ("Const", "Input", "Output")
    ]
    return [_kernel(op, facts) for op in executed]


def _facts(op: Any) -> dict[str, str]:
    return {key: str(value.astype(str)) for key, value in op.get_rt_info().items()}


def _kernel(op: Any, facts: dict[str, dict[str, str]]) -> Kernel:
    mine = facts[op.get_friendly_name()]
    moved = sum(_bytes(output, facts) for output in op.outputs())
    for entry in op.input_values():
        if facts[entry.get_node().get_friendly_name()].get("layerType") != "Const":
            moved += _bytes(entry, facts)
    precision = mine.get("runtimePrecision", "f32")
    names = mine.get("originalLayersNames", "")
    return Kernel(
        operation=mine["layerType"],
        precision=PRECISIONS.get(precision, precision),
        output_shape=tuple(op.outputs()[0].get_shape()) if op.outputs() else (),
        activation_bytes=int(moved),
        names=tuple(names.split(",")) if names else (op.get_friendly_name(),),
        seconds=1e-6 * int(time_us) if (time_us := mine["execTimeMcs"]).isdigit() else 0.0,
        implementation=mine.get("primitiveType", ""),
    )


def _bytes(output: Any, facts: dict[str, dict[str, str]]) -> float:
    precisions = facts[output.get_node().get_friendly_name()]["outputPrecisions"].split(",")
    precision = precisions[min(output.get_index(), len(precisions) - 1)]
    return math.prod(output.get_shape()) * NUMBER_BYTES.get(precision, 4)


def _nodes(path: Path, batch: int) -> list[Node]:
    from compress.runtimes.openvino_ir import ov, read_ir, reshape

    model = read_ir(path)
    shape = list(model.inputs[0].partial_shape)
    reshape(model, {0: ov.PartialShape([batch, *shape[1:]])}, path)
    nodes = []
    for op in model.get_ordered_ops():
        if op.get_type_name() in ("Parameter", "Result", "Constant"):
            continue
        sources = [entry.get_node() for entry in op.input_values()]
        constants = [s for s in sources if s.get_type_name() == "Constant"]
        macs, operation = _work(op)
        nodes.append(
            Node(
                name=op.get_friendly_name(),
                operation=operation,
                module=_module(sources),
                macs=macs,
                weight_bytes=sum(map(_constant_bytes, constants)),
                inputs=tuple(s.get_friendly_name() for s in sources if s not in constants),
                outputs=(op.get_friendly_name(),),
            )
        )
    return nodes


def _constant_bytes(constant: Any) -> int:
    bits = constant.get_element_type().bitwidth * math.prod(constant.get_output_shape(0))
    return -(-bits // 8)


def _module(sources: list[Any]) -> str | None:
    """Constants keep the names that the weights had in ONNX."""
    for source in sources[1:]:
        if found := re.match(r"(.+)\.weight", source.get_friendly_name()):
            return found[1]
    return None


def _work(op: Any) -> tuple[int | None, str]:
    """Return the multiply-accumulates, None where shapes depend on the data; and what it does."""
    kind = op.get_type_name()
    if kind not in MULTIPLY:
        return 0, kind
    weight = _fixed(op.get_input_partial_shape(1))
    if weight is None:
        return None, kind
    if kind == "MatMul":
        shared = weight[-1 if op.get_attributes()["transpose_b"] or len(weight) == 1 else -2]
        constant = op.input_value(1).get_node().get_type_name() in ("Constant", "FakeQuantize")
        operation = LINEAR if constant else kind
    elif kind == "GroupConvolution":  # weights: groups, outputs of each, inputs of each, kernel
        shared, operation = math.prod(weight[2:]), convolution(weight[3:], weight[0])
    else:
        shared, operation = math.prod(weight[1:]), convolution(weight[2:], 1)
    output = _fixed(op.get_output_partial_shape(0))
    return None if output is None else math.prod(output) * shared, operation


def _fixed(shape: "ov.PartialShape") -> list[int] | None:
    return None if shape.is_dynamic else list(shape.to_shape())


SCRIPT = """\
    network = openvino.Core().read_model(HERE / MODEL["file"])
{% if spec.layout == "nhwc" %}
    network.reshape([1, MODEL["height"], MODEL["width"], {{ channels }}])
{% else %}
    network.reshape([1, {{ channels }}, MODEL["height"], MODEL["width"]])
{% endif %}
    compiled = openvino.Core().compile_model(network, "CPU", MODEL["settings"])
    ask = lambda image: compiled([image])
"""


class OpenVino(Runtime):
    """OpenVINO, computing in float32 what is float in the file."""

    name = package = "openvino"
    missing = "The runtime openvino needs OpenVINO: pip install 'compress[openvino]'"
    idle = "sleep, as it has them"
    mark = "square"
    own_format = ".xml"
    tells_calls = False
    precision: ClassVar[Literal["f32", "bf16"]] = "f32"

    def loader(self) -> Loader:
        """Import OpenVINO, and return what loads ONNX files and IRs."""
        import compress.runtimes.openvino_ir  # noqa: F401

        return lambda path, threads, _, size: OpenVinoSession(
            path, threads, self.precision, size=size
        )

    def open(self, path: Path, threads: int) -> OpenVinoFile:
        """Load an ONNX file or an IR."""
        return OpenVinoFile(path, threads, self.precision)

    def profiled(self, path: Path, threads: int, folder: Path) -> OpenVinoFile:
        """Load a file whose graph holds the times."""
        return OpenVinoFile(path, threads, self.precision, profile=True)

    def nodes(self, path: Path, batch: int) -> list[Node]:
        """Return the nodes of an IR."""
        return _nodes(path, batch)

    def script(self) -> str:
        """Return how the exported script loads the file."""
        return SCRIPT

    def facts(self, threads: int) -> dict[str, Any]:
        """Return OpenVINO's settings."""
        return {
            "settings": {
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": self.precision,
                "CPU_DENORMALS_OPTIMIZATION": True,
            }
        }


class OpenVinoBf16(OpenVino):
    """The same, computing in bfloat16."""

    name = "openvino-bf16"
    precision = "bf16"
    meaning = "OpenVINO on the same file as openvino, computing in bfloat16 what is float."
    mark = "diamond"
