"""A store that others share: stages at a folder's path, or at any address that fsspec knows.

What is written to a stage's folder is put there as it is written, `stage.json` last: whoever goes
on with the stage, wherever, begins with what is there. Each run writes below a name of its own, and
`stage.json` says which of them counts. So a stage that two runs compute is of one of them, whole.
"""

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.data.image_cache import PIXELS
from compress.utils.errors import StorageFailed, UserError
from compress.utils.files import atomic

DONE = "stage.json"
RUN = "run"  # in it: which run's files count
LOOK_S = 1.0  # between looks for files that are new
TRANSFERS = 8  # files that travel at once


class Shared:
    """Files at an address, by name: whole stages, what is there of unfinished ones, and others.

    Raises:
        UserError: an address that nothing here understands.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._fs, root = _opened(address)
        self.root = root.rstrip("/")
        self._done: set[str] = set()
        from fsspec.implementations.local import LocalFileSystem

        self._is_folder = isinstance(self._fs, LocalFileSystem)
        if self._is_folder:  # wherever it is named, it is the same
            self.address = self.root

    def __reduce__(self) -> tuple[type["Shared"], tuple[str]]:
        return Shared, (self.address,)

    def check(self) -> None:
        """Write something and remove it.

        Raises:
            StorageFailed: nothing can be written there.
        """
        name = f"check-{uuid.uuid4().hex[:12]}"
        self.write(name, b"")
        self.remove(name)

    def is_done(self, name: str) -> bool:
        """Return whether a stage is there, whole."""
        if name not in self._done and self.read(f"{name}/{DONE}") is not None:
            self._done.add(name)
        return name in self._done

    def record(self, name: str) -> dict[str, Any]:
        """Return what a finished stage's `stage.json` says."""
        found: dict[str, Any] = json.loads(self.read(f"{name}/{DONE}") or b"{}")
        return found

    def done(self, kind: str) -> list[str]:
        """Return the names of finished stages of a kind, the newest last."""
        with self._telling():
            self._fs.invalidate_cache()
            found = self._fs.glob(f"{self.root}/{kind}-*/{DONE}")
            return [path.split("/")[-2] for path in sorted(found, key=self._fs.modified)]

    def take(self, name: str, folder: Path) -> None:
        """Bring a finished stage into a folder; `stage.json` comes last."""
        record = self.read(f"{name}/{DONE}")
        assert record is not None, f"{name} is not finished"
        self.bring(f"{name}/{json.loads(record)[RUN]}", folder)
        with atomic(folder / DONE) as temporary:
            temporary.write_bytes(record)

    def begun(self, name: str, folder: Path) -> None:
        """Bring what there is of an unfinished stage into a folder: of the run that came furthest.

        Furthest is whose files are the newest.
        """
        found = self._files(name)
        if found:
            newest = max(found, key=lambda file: self._fs.modified(f"{self.root}/{name}/{file}"))
            self.bring(f"{name}/{newest.split('/')[0]}", folder)

    @contextmanager
    def following(self, name: str, folder: Path, run: str) -> Iterator[None]:
        """Put a stage's files there as they are written, until the block ends.

        Args:
            run: whose files they are.

        Raises:
            StorageFailed: they could not be written.
        """
        sent: dict[str, tuple[int, int]] = {}
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(LOOK_S):
                try:
                    self.send_new(folder, f"{name}/{run}", sent)
                except Exception:  # removed while looked at, say; what lasts is told at the end
                    continue

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        self.send_new(folder, f"{name}/{run}", sent)
        for gone in set(self._files(f"{name}/{run}")) - set(sent):
            self.remove(f"{name}/{run}/{gone}")

    def finish(self, name: str, record: dict[str, Any], run: str) -> bool:
        """Say that a stage is finished, unless another run was faster; return whether it counts.

        A run removes no files but its own, and these only if they never counted: whoever has read
        `stage.json` still finds what it names. Files of runs that died stay.
        """
        content = json.dumps(record | {RUN: run}, indent=1).encode()
        lost = self.is_done(name) or not self.create(f"{name}/{DONE}", content)
        counts = bool(self.record(name)[RUN] == run)
        if lost and not counts:
            self.remove(f"{name}/{run}")
        self._done.add(name)
        return counts

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there, whole; return whether it was not.

        Where the file system cannot do that in one step, two may both be told so.
        """
        path = f"{self.root}/{name}"
        with self._telling():
            try:
                if self._is_folder:
                    _create(Path(path), content)
                else:
                    self._make_folder(path)
                    self._fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with self._telling():
            path = f"{self.root}/{name}"
            if self._is_folder:
                with atomic(Path(path)) as temporary:
                    temporary.write_bytes(content)
            else:
                self._make_folder(path)
                self._fs.pipe_file(path, content)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none."""
        with self._telling():
            try:
                self._fs.invalidate_cache()
                found: bytes = self._fs.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return None
        return found

    def send(self, file: Path, name: str) -> None:
        """Put a file there, whole or not at all."""
        path = f"{self.root}/{name}"
        with self._telling():
            if self._is_folder:
                with atomic(Path(path)) as temporary:
                    shutil.copyfile(file, temporary)
            else:
                self._make_folder(path)
                self._fs.put_file(str(file), path)

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        with self._telling():
            self._fs.invalidate_cache()
            return bool(self._fs.exists(f"{self.root}/{name}"))

    def get(self, name: str, file: Path) -> None:
        """Bring a file here.

        Raises:
            FileNotFoundError: it is not there.
        """
        with self._telling(FileNotFoundError), atomic(file) as temporary:
            self._fs.get_file(f"{self.root}/{name}", str(temporary))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if it is there."""
        with self._telling():
            try:
                self._fs.rm(f"{self.root}/{name}", recursive=True)
            except FileNotFoundError:
                return

    def bring(self, name: str, folder: Path) -> None:
        """Bring all files below a name into a folder."""
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(lambda x: self.get(f"{name}/{x}", folder / x), self._files(name)))

    def send_new(self, folder: Path, name: str, sent: dict[str, tuple[int, int]]) -> None:
        """Put files there that are new or changed.

        Args:
            sent: time and size of those that are there; is brought up to date.
        """
        now = {
            file.relative_to(folder).as_posix(): (file.stat().st_mtime_ns, file.stat().st_size)
            for file in folder.rglob("*")
            # Decoded images are made again in less time than they travel.
            if file.is_file() and not file.name.startswith((".", PIXELS)) and file.name != DONE
        }
        new = [path for path, seen in now.items() if sent.get(path) != seen]
        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(lambda path: self.send(folder / path, f"{name}/{path}"), new))
        sent.clear()
        sent.update(now)

    def _make_folder(self, path: str) -> None:
        """Make the folder of a file; a store of objects has none, and would make a bucket."""
        if self._fs.root_marker:
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)

    def _files(self, name: str) -> list[str]:
        """Return the paths of files below a name, relative to it."""
        with self._telling():
            self._fs.invalidate_cache()
            start = f"{self.root}/{name}/"
            return [path.removeprefix(start) for path in self._fs.find(start) if path != start]

    @contextmanager
    def _telling(self, *expected: type[Exception]) -> Iterator[None]:
        """Tell what an address answers instead of doing what it was asked.

        Args:
            expected: errors that are no fault of the store.

        Raises:
            StorageFailed: it refuses, is full, or does not answer.
        """
        try:
            yield
        except Exception as error:  # each kind of store has errors of its own
            if isinstance(error, (UserError, *expected)):
                raise
            said = str(error) or type(error).__name__
            raise StorageFailed(
                f"The store {self.address} cannot be used: {said} (--store needs a place that may "
                "be read and written, with space left)."
            ) from error


def _create(path: Path, content: bytes) -> None:
    """Write a file that is not there; nobody sees half of it where files can be linked.

    Raises:
        FileExistsError: it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # this file system knows no links
            with path.open("xb") as file:
                file.write(content)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(os.path.expanduser(address))
    except ImportError as error:
        extra = "s3" if address.startswith("s3") else ""
        how = f"pip install 'compress[{extra}]'" if extra else str(error)
        raise UserError(f"What {address} needs is not installed: {how}.") from error
    except ValueError as error:
        raise UserError(
            f"--store {address}: {error}. Give a folder, or an address that fsspec knows (s3://…)."
        ) from error
    return found
