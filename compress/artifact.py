"""The deployed file: what a runtime loads, with its hash, its size and what it expects."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.errors import UserError
from compress.files import write_text
from compress.input_spec import METADATA_KEY, InputSpec
from compress.results import ArtifactFacts

RECORD = "artifact.json"
Runtime = Literal["onnxruntime", "torch"]


class Artifact(BaseModel):
    """A model file for a runtime. `path` is absolute here, relative in stored records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    runtime: Runtime
    sha256: str
    size_bytes: int
    parameters: int
    macs: int | None  # multiply-accumulates of one picture; None: could not be counted
    uncounted_operations: list[str]
    spec: InputSpec

    def save(self, folder: Path) -> None:
        """Writes the record beside the file, its path relative to `folder`."""
        relative = Path(*_relative(self.path, folder))
        record = self.model_copy(update={"path": relative})
        write_text(folder / RECORD, record.model_dump_json(indent=1))

    def facts(self, relative_to: Path) -> ArtifactFacts:
        """What a result says of the file."""
        return ArtifactFacts(
            path=Path(*_relative(self.path, relative_to)).as_posix(),
            input_height=self.spec.height,
            input_width=self.spec.width,
            **self.model_dump(exclude={"path", "spec"}),
        )

    @classmethod
    def load(cls, folder: Path) -> "Artifact":
        record = cls.model_validate_json((folder / RECORD).read_text("utf-8"))
        return record.model_copy(update={"path": (folder / record.path).resolve()})


def _relative(path: Path, folder: Path) -> tuple[str, ...]:
    import os

    return Path(os.path.relpath(path.resolve(), folder.resolve())).parts


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec_of(path: Path) -> InputSpec:
    """The input spec in an ONNX file's metadata, read by onnxruntime.

    Raises:
        UserError: not an ONNX model, or one without `compress.input`.
    """
    from compress.runtimes.onnxruntime import OnnxSession

    session = OnnxSession(path, threads=1)
    metadata = session.metadata
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path} does not say how pictures are prepared for it (metadata {METADATA_KEY!r}: "
            "size, mean, std, classes). Export it with `compress run`, or add that key."
        )
    try:
        spec = InputSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise UserError(f"{path}: metadata {METADATA_KEY}: {where}: {detail['msg']}") from error
    if (spec.height, spec.width) != session.picture_size:
        raise UserError(
            f"{path} takes pictures of {session.picture_size}, but its metadata {METADATA_KEY} "
            f"says {(spec.height, spec.width)}."
        )
    return spec
