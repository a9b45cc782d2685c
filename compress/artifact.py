"""The deployed file: what a runtime loads, with its hash, its size and what it expects."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.errors import UserError
from compress.files import write_text
from compress.input_spec import METADATA_KEY, InputSpec
from compress.results import ArtifactFacts
from compress.runtimes.onnxruntime import OnnxSession

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


def spec_of(path: Path, spec_file: Path | None = None) -> InputSpec:
    """What an ONNX file expects of a picture: from its metadata, or from a JSON file.

    Raises:
        UserError: not an ONNX model, no spec in either place, or one that does not fit the file.
    """
    session = OnnxSession(path, threads=1)
    text, source = session.metadata.get(METADATA_KEY), f"metadata {METADATA_KEY} of {path}"
    if spec_file is not None:
        if not spec_file.is_file():
            raise UserError(f"No input spec at {spec_file}.")
        text, source = spec_file.read_text("utf-8", errors="replace"), str(spec_file)
    if text is None:
        raise UserError(
            f"{path} does not say how pictures are prepared for it (metadata {METADATA_KEY!r}). "
            'Give a JSON file with --spec: {"height": 224, "width": 224, "mean": [0.485, 0.456, '
            '0.406], "std": [0.229, 0.224, 0.225], "classes": ["cat", "dog"]}.'
        )
    try:
        spec = InputSpec.model_validate_json(text)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise UserError(f"{source}: {where + ': ' if where else ''}{detail['msg']}.") from error
    if (spec.height, spec.width) != session.picture_size:
        raise UserError(
            f"{path} takes pictures of {session.picture_size} (height, width), but {source} says "
            f"{(spec.height, spec.width)}."
        )
    return spec
