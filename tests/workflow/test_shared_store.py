"""A store that others share: what is done there is done, what is begun there goes on, once."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

import compress.workflow.claims
import compress.workflow.executors.local
import compress.workflow.shared
from compress.measure.machine import machine
from compress.methods.context import Context
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.claims import Claims
from compress.workflow.executors.local import run_stage
from compress.workflow.shared import Shared
from tests.workflow.sleeping import context_in

Work = Callable[[Stage, dict[str, Path], Path, Context], None]


class Loose(MemoryFileSystem):
    """A file system that cannot create exclusively."""

    protocol = "loose"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        super().pipe_file(path, value, **more)


register_implementation("loose", Loose, clobber=True)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of an S3-compatible server."""
    moto = pytest.importorskip("moto.server", reason="moto serves the bucket")
    s3fs = pytest.importorskip("s3fs", reason="compress[s3] reads it")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(skip_instance_cache=True).makedirs("team", exist_ok=True)
        yield "s3://team/compress"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that is empty."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress.workflow.shared, "LOOK_S", 0.05)
    monkeypatch.setattr(compress.workflow.executors.local, "LOOK_S", 0.05)


def stage_of(work: Work, **inputs: Stage) -> Stage:
    return Stage("step", work.__name__, 1, {"work": work.__name__}, inputs, work)


def run(stage: Stage, store: Store) -> str:
    """Run a stage and say what became of it."""
    progress = Progress(Console(quiet=True))
    progress.titles[stage.key] = stage.title
    run_stage(stage, store, context_in(store.root, progress))
    return progress.states[stage.key][0]


def first(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "made.txt").write_text("made")
    (folder / "pixels-v2.npy").write_text("anyone can make it")


def second(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    made = (inputs["first"] / "deep" / "made.txt").read_text()
    (folder / "of.txt").write_text(f"of {made}")


def test_what_is_done_in_one_place_is_done_in_another(address: str, tmp_path: Path) -> None:
    one, other = stage_of(first), stage_of(second, first=stage_of(first))
    here, there = (Store(tmp_path / name, shared=Shared(address)) for name in ("a", "b"))
    assert not there.is_done(one)
    assert run(one, here) == "done"
    assert there.is_done(one) and not list((tmp_path / "b").glob("step-*"))
    assert run(other, there) == "done"
    assert run(one, there) == "reused"
    assert {x.name for x in there.folder(one).rglob("*")} == {"deep", "made.txt", "stage.json"}
    assert (there.folder(other) / "of.txt").read_text() == "of made"
    assert (here.folder(other) / "of.txt").read_text() == "of made"
    record = json.loads((here.folder(other) / "stage.json").read_text())
    assert record["run"] == there.run_name and record["where"]["cpu"] == machine().cpu


def test_what_was_made_before_there_was_a_store_is_put_there(address: str, tmp_path: Path) -> None:
    one = stage_of(first)
    assert run(one, Store(tmp_path / "a")) == "done"
    assert run(one, Store(tmp_path / "a", shared=Shared(address))) == "reused"
    assert run(one, Store(tmp_path / "b", shared=Shared(address))) == "reused"


def checkpoints(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Count up to 5; is disturbed at 3, once."""
    file = folder / "count"
    begun = int(file.read_text()) if file.is_file() else 0
    for count in range(begun + 1, 6):
        file.write_text(str(count))
        if count == 3 and begun == 0:
            time.sleep(1)
            raise OSError("the node dies")
    file.unlink()
    (folder / "result").write_text(f"from {begun}")


def test_another_node_goes_on_from_what_was_written(address: str, tmp_path: Path) -> None:
    stage = stage_of(checkpoints)
    one, other = (Store(tmp_path / name, shared=Shared(address)) for name in ("a", "b"))
    with pytest.raises(OSError, match="node dies"):
        run(stage, one)
    assert not other.is_done(stage)
    assert run(stage, other) == "done"
    folder = one.folder(stage)
    assert (folder / "result").read_text() == "from 3"
    left = set(Shared(address)._files(folder.name))
    assert {f"{other.run_name}/result", "stage.json"} <= left
    assert f"{other.run_name}/count" not in left


def naming(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    (folder / "names").write_text(f"../{inputs['of'].name}/deep/made.txt")


def test_what_an_outcome_names_comes_with_it(address: str, tmp_path: Path) -> None:
    one = stage_of(first)
    stage = Stage("export", "names", 1, {}, {"of": one}, naming, refers=("of",))
    here, there = (Store(tmp_path / name, shared=Shared(address)) for name in ("a", "b"))
    assert [run(one, here), run(stage, here)] == ["done", "done"]
    folder = there.folder(stage)
    assert (folder / (folder / "names").read_text()).read_text() == "made"


COMPUTED: list[str] = []


def slow(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    time.sleep(0.5)
    computed(folder)


def computed(folder: Path) -> None:
    COMPUTED.append(folder.parent.name)
    for name in ("one", "two"):
        (folder / name).write_text(folder.parent.name)


BOTH = threading.Barrier(2, timeout=60)


def both(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Wait until the other run computes it, too."""
    BOTH.wait()
    computed(folder)


def at_once(stage: Stage, stores: list[Store]) -> list[str]:
    """Run a stage in several stores at the same time."""
    COMPUTED.clear()
    states = ["" for _ in stores]

    def work(number: int) -> None:
        states[number] = run(stage, stores[number])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return states


def test_two_runs_compute_a_stage_once(address: str, tmp_path: Path) -> None:
    stage = stage_of(slow)
    stores = [Store(tmp_path / name, shared=Shared(address)) for name in "ab"]
    assert sorted(at_once(stage, stores)) == ["done", "reused"]
    assert len(COMPUTED) == 1
    assert [(x.folder(stage) / "two").read_text() for x in stores] == 2 * COMPUTED


def test_where_nothing_is_exclusive_twice_is_harmless(tmp_path: Path) -> None:
    stage = stage_of(both)
    stores = [Store(tmp_path / name, shared=Shared(f"loose://{tmp_path.name}")) for name in "ab"]
    for store in stores:  # each has claimed it before the other looks
        store.claims.take = lambda name: True  # type: ignore[method-assign]
    assert at_once(stage, stores) == ["done", "done"]
    assert sorted(COMPUTED) == ["a", "b"]
    read = [(x.folder(stage) / name).read_text() for x in stores for name in ("one", "two")]
    assert len(set(read)) == 1
    third = Store(tmp_path / "c", shared=stores[0].shared)
    assert (third.folder(stage) / "one").read_text() == read[0]
    assert f"{stores['ab'.index(read[0])].run_name}/one" in third.shared._files(third.name(stage))


def both_finish(address: str, tmp_path: Path) -> tuple[Shared, list[bool]]:
    """Have b see that a stage is not done, then a finish it, then b, too; say which counted."""
    a, b = Shared(address), Shared(address)
    for name, each in (("a", a), ("b", b)):
        (tmp_path / "made").write_text(name)
        each.send(tmp_path / "made", f"x/{name}/made")
    look, counted = b.is_done, list[bool]()

    def then_a_finishes(name: str) -> bool:
        found = look(name)
        if not counted:
            counted.append(a.finish(name, {}, "a"))
        return found

    b.is_done = then_a_finishes  # type: ignore[method-assign]
    return a, [*counted, b.finish("x", {}, "b"), *counted]


def test_who_finishes_a_moment_later_loses_only_its_own(address: str, tmp_path: Path) -> None:
    shared, (of_b, of_a) = both_finish(address, tmp_path)
    assert of_a and not of_b
    assert sorted(shared._files("x")) == ["a/made", "stage.json"]
    Shared(address).take("x", tmp_path / "taken")
    assert (tmp_path / "taken" / "made").read_text() == "a"


def test_where_nothing_is_exclusive_what_counts_is_whole(tmp_path: Path) -> None:
    shared, _ = both_finish(f"loose://{tmp_path.name}", tmp_path)
    Shared(shared.address).take("x", tmp_path / "taken")
    assert (tmp_path / "taken" / "made").read_text() == shared.record("x")["run"]
    assert {"a/made", "b/made"} <= set(shared._files("x"))  # who has read of either finds it


def test_nobody_sees_half_of_a_file_that_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, seen = Shared(str(tmp_path / "shared")), list[bytes | None]()
    linked = os.link

    def looking(*paths: Path) -> None:
        seen.append(shared.read("x/stage.json"))
        linked(*paths)

    monkeypatch.setattr(os, "link", looking)
    assert shared.create("x/stage.json", b"{}") and not shared.create("x/stage.json", b"no")
    assert seen == [None, b"{}"]
    assert shared._files("x") == ["stage.json"]


def test_a_folder_without_links_creates_exclusively_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: Path) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(os, "link", unable)
    shared = Shared(str(tmp_path / "shared"))
    assert shared.create("x", b"{}") and not shared.create("x", b"no")
    assert shared.read("x") == b"{}"


def test_a_claim_of_a_run_that_died_is_taken_over(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Store(tmp_path / name, shared=Shared(address)) for name in "ab")
    assert one.claims.take("x") and not other.claims.take("x")
    assert Store(tmp_path / "a", shared=Shared(address)).claims.take("x")  # its own, gone on
    assert not other.claims.take("x")
    monkeypatch.setattr(compress.workflow.claims, "STALE_S", 0.1)
    time.sleep(0.2)
    assert other.claims.take("x")
    other.claims.release("x")
    assert one.claims.take("x")


@pytest.fixture
def stale(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Claims, Claims, Claims]:
    """The claims of three runs: the first has claimed x and died, the others have seen it."""
    dead, one, other = (Claims(Shared(address), name) for name in ("dead", "one", "other"))
    assert dead.take("x") and not one.take("x") and not other.take("x")
    monkeypatch.setattr(compress.workflow.claims, "STALE_S", 0.1)
    time.sleep(0.2)
    return dead, one, other


def test_one_of_two_takes_a_claim_over(stale: tuple[Claims, Claims, Claims]) -> None:
    _, one, other = stale
    look, took = other._is_stale, list[bool]()

    def then_one_takes_it(file: str, content: bytes) -> bool:
        found = look(file, content)
        took.append(one.take("x"))
        return found

    other._is_stale = then_one_takes_it  # type: ignore[method-assign]
    assert not other.take("x") and took == [True]
    assert one._is_own(one.shared.read("claims/x"))


def test_who_dies_while_it_takes_a_claim_over_is_followed_too(
    stale: tuple[Claims, Claims, Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, one, other = stale

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(one.shared, "remove", dies)
        one.take("x")
    assert not other.take("x")
    time.sleep(0.2)
    assert other.take("x")
    assert other.shared._files("claims") == ["x"]


def test_who_was_given_up_leaves_the_claim_to_who_has_it(
    stale: tuple[Claims, Claims, Claims],
) -> None:
    dead, one, _ = stale
    assert one.take("x")
    dead._beat("x")
    dead.release("x")
    assert one._is_own(one.shared.read("claims/x"))


def test_a_folder_that_may_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir(mode=0o500)

    def denied(*_: Any) -> None:
        raise PermissionError(13, os.strerror(13))

    if os.geteuid() == 0:  # root may write anywhere
        monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(UserError, match=r"cannot be used: .*denied"):
        Shared(str(tmp_path / "shared")).check()


class ReadOnly(MemoryFileSystem):
    protocol = "readonly"

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")


register_implementation("readonly", ReadOnly, clobber=True)


def test_a_store_that_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"readonly://x cannot be used: Access Denied"):
        Shared("readonly://x").check()
    with pytest.raises(UserError, match="Give a folder, or an address"):
        Shared("nowhere://x")


def test_a_bucket_that_is_not_there_is_told(s3: str) -> None:
    with pytest.raises(UserError, match="s3://nobodys/x cannot be used"):
        Shared("s3://nobodys/x").check()


def test_a_store_that_is_full_ends_the_stage_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "a", shared=Shared(str(tmp_path / "shared")))

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(compress.workflow.shared.shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"No space left|full"):
        run(stage_of(first), store)
    assert not store.is_done(stage_of(first))
