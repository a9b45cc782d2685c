"""The deployed file: what a runtime loads, with its hash, its size and what it expects."""

import hashlib
import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.data.input_spec import METADATA_KEY, InputSpec
from compress.models.sessions import open_file
from compress.results.schema import ArtifactFacts, Runtime
from compress.runtimes import runtime_for
from compress.runtimes.images import ImageInput, image_input
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.settings import check_normalisation

RECORD = "artifact.json"


class Artifact(BaseModel):
    """A model file that runtimes load. `path` is absolute here, relative in stored records.

    An OpenVINO IR is two files (`files_of`), of which `path` is the first.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # earlier versions noted a runtime, too

    path: Path
    sha256: str
    size_bytes: int
    parameters: int
    macs: int | None  # multiply-accumulates of one image; None: could not be counted
    uncounted_operations: list[str]
    spec: InputSpec

    def save(self, folder: Path) -> None:
        """Writes the record beside the file, its path relative to `folder`."""
        relative = Path(*_relative(self.path, folder))
        record = self.model_copy(update={"path": relative})
        write_text(folder / RECORD, record.model_dump_json(indent=1))

    def facts(self, relative_to: Path, runtime: Runtime) -> ArtifactFacts:
        """What a result says of the file in a runtime."""
        return ArtifactFacts(
            path=Path(*_relative(self.path, relative_to)).as_posix(),
            runtime=runtime,
            input_height=self.spec.height,
            input_width=self.spec.width,
            **self.model_dump(exclude={"path", "spec"}),
        )

    @classmethod
    def load(cls, folder: Path) -> "Artifact":
        record = cls.model_validate_json((folder / RECORD).read_text("utf-8"))
        path = Path(os.path.abspath(folder / record.path))  # links followed, it could lie elsewhere
        return record.model_copy(update={"path": path})


def _relative(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the way from a folder, as it is written where it leads into that; links may not."""
    written, start = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    if written.is_relative_to(start):
        return written.relative_to(start).parts
    return Path(os.path.relpath(path.resolve(), folder.resolve())).parts


def files_of(path: Path) -> list[Path]:
    """The file itself; of an OpenVINO IR (.xml) also its weights, which lie beside it (.bin)."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def sha256_of(path: Path) -> str:
    """Of the bytes of all its files, one after the other."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files_of(path))).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of all its files."""
    return sum(file.stat().st_size for file in files_of(path))


def spec_of(path: Path, spec_file: Path | None = None) -> InputSpec:
    """What a deployed file expects of an image: from its metadata, or from a JSON file.

    Of what type and layout its input is, the file itself says where the JSON file does not.

    Raises:
        UserError: not a model, no spec in either place, or one that does not fit the file.
    """
    file = open_file(path, runtime_for(path), threads=1)
    takes = image_input(path, file.inputs)
    if spec_file is None:
        text, source = file.spec, f"metadata {METADATA_KEY} of {path}"
    elif not spec_file.is_file():
        raise UserError(f"No input spec at {spec_file}.")
    else:
        text, source = spec_file.read_text("utf-8", errors="replace"), str(spec_file)
    if text is None:
        raise UserError(
            f"{path} does not say how images are prepared for it (metadata {METADATA_KEY!r}). "
            'Give a JSON file with --spec: {"height": 224, "width": 224, "mean": [0.485, 0.456, '
            '0.406], "std": [0.229, 0.224, 0.225], "classes": ["cat", "dog"]}.'
        )
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UserError(f"{source} is no JSON: {error}.") from error
    if spec_file is not None and isinstance(given, dict):
        given = {"dtype": takes.kind, "layout": takes.layout} | given
    try:
        spec = InputSpec.model_validate(given)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise UserError(f"{source}: {where + ': ' if where else ''}{detail['msg']}.") from error
    try:
        check_normalisation(spec.mean, spec.std)
    except ValueError as error:
        raise UserError(f"{source}: {error}.") from error
    if sum(map(bool, (spec.classes, spec.points, spec.predicted))) != 1:
        what = "both classes and points" if spec.points else "neither classes nor points"
        raise UserError(f"{source} names {what}: give what the model predicts, one of the two.")
    _check_input(path, takes, spec, source)
    return spec


def _check_input(path: Path, takes: ImageInput, spec: InputSpec, source: str) -> None:
    """Refuses a spec of other images than the file's.

    Raises:
        UserError: that.
    """
    shape = tuple(
        own or said
        for own, said in zip((takes.channels, takes.height, takes.width), spec.shape, strict=True)
    )
    if spec.shape != shape:
        raise UserError(
            f"{path} takes images of {shape} (channels, height, width), but {source} says "
            f"{spec.shape}."
        )
    if (spec.dtype, spec.layout) != (takes.kind, takes.layout):
        raise UserError(
            f"{path} takes {takes.dtype} in {takes.layout}, but {source} says {spec.dtype} in "
            f"{spec.layout}."
        )
