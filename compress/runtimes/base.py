"""What compress asks of a runtime: the third seam, beside methods and tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from compress.runtimes import AnyFile, Session
from compress.runtimes.nodes import Node

if TYPE_CHECKING:
    import numpy as np

Size = tuple[int, int]  # height and width of images
# Path, threads, whether it runs alone, the size of a file that leaves its own free.
Loader = Callable[[Path, int, bool, Size | None], Session]

# What compress calls the precisions that layers compute in, by how runtimes call their types.
PRECISIONS = {
    "float": "float32", "uint8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
    "u8": "int8", "i8": "int8", "u1": "binary",
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One kernel of the runtime, in the order of execution."""

    operation: str  # as the runtime calls it
    precision: str  # of what it reads, or of what it rounds that to itself
    output_shape: tuple[int, ...]
    activation_bytes: int  # read and written, weights not among them
    names: tuple[str, ...]  # of nodes or tensors of the file that it computes, as far as it says
    seconds: float  # a call
    implementation: str = ""  # how it computes that, e.g. jit_avx512_i8, where the runtime says


class ProfiledFile(Protocol):
    """A loaded file whose kernels the runtime times."""

    def call(self, arrays: "Sequence[np.ndarray]") -> "list[np.ndarray]":
        """Return all outputs, as `AnyFile` does."""

    def kernels(self) -> list[list[Kernel]]:
        """Return the kernels of each call so far; where only means are told, those alone."""


class Runtime(ABC):
    """A runtime by one name; importing its module imports nothing of the runtime itself."""

    name: ClassVar[str]  # in recipes, results and reports
    package: ClassVar[str]  # whose version decides what it computes, and how fast
    missing: ClassVar[str]  # what is said where it is not installed
    idle: ClassVar[str]  # what its idle threads do, as reports say it
    meaning: ClassVar[str] = ""  # of its name, where that needs to be told
    mark: ClassVar[str] = "cross"  # in charts, as Vega calls shapes
    own_format: ClassVar[str] = ""  # suffix of the files that only it reads; ONNX is anybody's
    tells_calls: ClassVar[bool] = True  # whether its profile tells each call, or only means
    tells_kernels: ClassVar[bool] = True  # whether it has a profile at all

    @abstractmethod
    def loader(self) -> Loader:
        """Import the runtime, and return what loads files that take images.

        Importing takes longer than loading a small file, and is no property of the file.

        Raises:
            UserError: it is not installed.
        """

    @abstractmethod
    def open(self, path: Path, threads: int) -> AnyFile:
        """Load a file whatever inputs it has."""

    def profiled(self, path: Path, threads: int, folder: Path) -> ProfiledFile:
        """Load a file so that its kernels are timed.

        Args:
            folder: what the profile may be written to.
        """
        raise NotImplementedError(f"{self.name} tells no kernels")

    def nodes(self, path: Path, batch: int) -> list[Node]:
        """Return the nodes of a file in its own format, in an order of computing."""
        raise NotImplementedError(f"{self.name} has no format of its own")

    @abstractmethod
    def script(self) -> str:
        """Return what `load()` in the exported script begins with, a template of Jinja.

        It ends with a function `ask`: of float32 (1, channels, height, width) it gives the outputs
        in the file's order. MODEL holds `facts` beside what `predict.py.j2` says.
        """

    def facts(self, threads: int) -> dict[str, Any]:
        """Return what the script must know beside the file, as JSON."""
        return {"threads": threads}
