"""What a node of a cluster is asked: what it is, what it sees, and to compute a stage."""

import hashlib
import os
import shutil
import sys
import tarfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

import compress
from compress.measure.machine import machine, usable_threads
from compress.methods.context import Context
from compress.recipe.schema import Recipe
from compress.results.schema import Machine
from compress.utils.alone import folder as own_folder
from compress.utils.errors import UserError
from compress.utils.files import below, write_text
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import where_of
from compress.workflow.precision import Precisions, compute_alike, resolved, user_cache
from compress.workflow.shared import Shared
from compress.workflow.stages.data import fingerprint

TABLES, DATA, FILES = "latency_tables", "data", "files"  # in a shared store
PACKAGES = ("compress", "teachers", "students")
Send = Callable[[str, Any], None]  # what happens, and with what: see `Progress.received`


@dataclass(frozen=True)
class Facts:
    """What a machine is."""

    python: str
    version: str  # of this package
    source: str  # digest of its text
    machine: Machine
    threads: int


def facts() -> Facts:
    """Return what this machine is."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Facts(python, compress.__version__, _source(), machine(), usable_threads())


def _source() -> str:
    """Return a digest of the text of this package."""
    root = Path(compress.__file__).parents[1]
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            digest.update(os.fsencode(file.relative_to(root)) + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def is_there(path: Path) -> bool:
    """Return whether this machine sees a file."""
    return path.exists()


@dataclass(frozen=True)
class Images:
    """Where images lie on the driver, and the fingerprint of what lies there."""

    path: Path
    fingerprint: str

    @classmethod
    def at(cls, path: Path) -> "Images":
        """Return those at a path; all files there count, as a data builder may read any."""
        return cls(path, fingerprint(path, every=True))

    @property
    def archive(self) -> str:
        """What they are called in a shared store."""
        return f"{DATA}/{self.fingerprint}.tar"

    def are_here(self) -> bool:
        """Return whether the very same lie at their path here; they are looked through once."""
        known = own_folder() / f"{DATA}-{self.fingerprint}.txt"
        if known.is_file() and known.read_text("utf-8") == str(self.path) and self.path.exists():
            return True
        if not self.path.exists() or Images.at(self.path) != self:
            return False
        write_text(known, str(self.path))
        return True

    def found(self, shared: Shared | None) -> Path:
        """Return where they lie here: at the same path, or brought from the shared store, once.

        Raises:
            UserError: neither.
        """
        if self.are_here():
            return self.path
        if shared is None:
            raise UserError(_unseen(self.path))
        return self._brought(shared, scratch(shared) / DATA / self.fingerprint)

    def _brought(self, shared: Shared, folder: Path) -> Path:
        """Unpack what `pack` put into the shared store."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                file, unpacked = folder.with_suffix(".tar"), folder.with_suffix(".unpacked")
                try:
                    shared.get(self.archive, file)
                except FileNotFoundError as error:
                    raise UserError(_unseen(self.path)) from error
                shutil.rmtree(unpacked, ignore_errors=True)
                with tarfile.open(file) as archive:
                    archive.extractall(unpacked, filter="data")
                file.unlink()
                os.replace(unpacked, folder)
        is_table = self.path.suffix.lower() == ".csv"
        return folder / self.path.name if is_table else folder

    def pack(self, shared: Shared, beside: Path) -> None:
        """Put them into a shared store, unless they are there.

        Args:
            beside: a folder for what is on its way.
        """
        if shared.has(self.archive):
            return
        file = beside / f".{self.fingerprint}.tar"
        folder = self.path.parent if self.path.is_file() else self.path
        try:
            with tarfile.open(file, "w", dereference=True) as archive:
                for each in below(folder, lambda entry: os.access(entry, os.R_OK)):
                    archive.add(each, arcname=each.relative_to(folder), recursive=False)
            shared.send(file, self.archive)
        finally:
            file.unlink(missing_ok=True)


def _unseen(path: Path) -> str:
    return (
        f"A node of the cluster does not see the data at {path}: mount them there under the same "
        "path, or give a --store, through which they travel."
    )


def scratch(shared: Shared) -> Path:
    """Return this machine's folder for what it takes from a shared store."""
    which = hashlib.sha256(shared.address.encode()).hexdigest()[:12]
    return own_folder() / which


@dataclass(frozen=True)
class Job:
    """A stage, and what computes it is told."""

    stage: Stage
    root: Path  # of the stages' folders, where there is no shared store
    shared: Shared | None
    run: str
    names: Mapping[str, str]  # of folders, by stages' keys
    context: Context  # of the driver; its progress is sent there
    cpus: int
    images: Images | None
    measures: bool

    @property
    def home(self) -> Path:
        """The folder that this machine works in."""
        return self.root.parent if self.shared is None else scratch(self.shared)

    def store(self) -> Store:
        """Return the store as this machine has it."""
        root = self.root if self.shared is None else self.home / self.root.name
        root.mkdir(parents=True, exist_ok=True)
        names = {key: root / name for key, name in self.names.items()}
        return Store(root, False, self.shared, self.run, names)


@dataclass(frozen=True)
class Failed:
    """A stage could not be done for a reason that the user can mend."""

    reason: str
    trace: str
    kind: type[UserError] = UserError


def compute(job: Job, send: Send, node: str) -> float | Failed:
    """Compute a stage; return the seconds that took, or why it could not be done.

    Args:
        node: what the machine is called in the stage's record.
    """
    send("stage", ("running",))
    compute_alike()
    torch.set_num_threads(job.cpus)
    threads = job.context.threads if job.measures else job.cpus
    work = job.stage.run
    assert work is not None
    try:
        store, context = job.store(), _context(job)
        with _tables(job.shared, context.tables, job.measures):
            return store.compute(
                job.stage,
                lambda folder: work(job.stage, store.folders(job.stage), folder, context),
                where_of(replace(context, threads=threads), node),
            )
    except UserError as error:
        return Failed(str(error), traceback.format_exc(), type(error))


def _context(job: Job) -> Context:
    """Return what the stage is told, as it is on this machine."""
    cuda = job.context.device.type == "cuda" and torch.cuda.is_available()
    return replace(
        job.context,
        device=torch.device("cuda" if cuda else "cpu"),
        machine=machine(),
        data_path=None if job.images is None else job.images.found(job.shared),
        files={key: _weights(key, path, job.shared) for key, path in job.context.files.items()},
        tables=job.home / TABLES,
    )


def _weights(key: str, path: Path, shared: Shared | None) -> Path:
    """Return where a file of weights lies here: at the same path, or brought."""
    if shared is None:
        return path
    file = scratch(shared) / FILES / key / path.name
    if not file.is_file():
        shared.get(f"{FILES}/{key}", file)
    return file


@contextmanager
def _tables(shared: Shared | None, folder: Path, keeps: bool) -> Iterator[None]:
    """Have what was timed before at hand, and keep what is timed for other stages and runs."""
    if shared is not None and keeps:
        shared.bring(TABLES, folder)
    yield
    if shared is not None and keeps and folder.is_dir():
        shared.send_new(folder, TABLES, {})


def decide(
    recipe: Recipe, shared: Shared | None, device: str, allowed: tuple[str, ...]
) -> tuple[Recipe, list[str]]:
    """Return the recipe with `precision: auto` decided here, and what is to be said of that."""
    compute_alike()
    notes: list[str] = []
    agreed = [] if shared is None else [scratch(shared) / TABLES]  # by all that use the store
    folders = [*agreed, user_cache()]
    with _tables(shared, folders[0], keeps=True):
        precisions = Precisions(machine(), torch.device(device), allowed, notes.append, folders)
        return resolved(recipe, precisions), notes
