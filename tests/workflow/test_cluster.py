"""A Ray cluster: what is asked of its nodes, and the same rows as one process makes."""

import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from rich.console import Console
from typer.testing import CliRunner

import compress.workflow.executors.cluster
import compress.workflow.executors.ray
from compress.cli import app
from compress.measure.machine import machine
from compress.methods.context import Context
from compress.recipe.load import load_recipe
from compress.results.schema import Result
from compress.utils.errors import StorageFailed, UserError
from compress.utils.progress import Progress, Sent
from compress.workflow.cache import DECIDE, Stage, Store
from compress.workflow.executors.cluster import TIMING, Node, check, connect
from compress.workflow.executors.executor import measures, trains
from compress.workflow.executors.local import Local
from compress.workflow.executors.node import Facts, Failed, Images, Job, compute, decide, facts
from compress.workflow.executors.ray import OnRay, memory_of, on_ray
from compress.workflow.plan import make_plan
from compress.workflow.run import run_recipe
from compress.workflow.shared import Shared
from compress.workflow.stages.data import fingerprint
from tests.conftest import tiny_recipe
from tests.workflow.sleeping import context_in, sleeping

HERE = Facts("3.11", "0.1.0", "abc", machine(), 4)


def node(name: str, cpus: int = 4, gpus: int = 0, times: bool = False, **here: Any) -> Node:
    return Node(name, name, cpus, gpus, 8 * 10**9, times, replace(HERE, **here))


def stage(kind: str, **settings: Any) -> Stage:
    return Stage(kind, f"a {kind}", 1, settings)


# What is asked of nodes


def test_what_measures_asks_for_all_of_a_timing_node_and_the_rest_for_others() -> None:
    cluster = OnRay([node("t", times=True), node("a"), node("b")], None)
    assert cluster.threads == 4
    asked = cluster.options(stage("latency", machine={}), 1, False)
    assert (asked["num_cpus"], asked["resources"]) == (4, {TIMING: 1})
    assert "label_selector" not in asked
    asked = cluster.options(stage("export"), 1, False)
    assert asked["num_cpus"] == 1 and asked["label_selector"] == {"ray.io/node-id": "!in(t)"}


@pytest.mark.parametrize(("sharing", "cpus"), [(1, 4), (2, 4), (3, 2), (4, 2), (8, 1), (100, 1)])
def test_trainings_share_the_nodes(sharing: int, cpus: int) -> None:
    cluster = OnRay([node("t", times=True), node("a"), node("b", gpus=1)], None)
    asked = cluster.options(stage("step"), sharing, True)
    assert (asked["num_cpus"], asked["num_gpus"]) == (cpus, 1)


def test_one_machine_does_all() -> None:
    cluster = OnRay([node("one", times=True)], None)
    assert "label_selector" not in cluster.options(stage("teacher"), 1, False)
    assert cluster.device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="no node of the cluster has a GPU"):
        cluster.device("cuda")


def test_stages_of_a_recipe_measure_or_do_not(shapes: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(shapes)
    recipe["candidates"]["small"] = [{"factorize": {"ratio": 0.5}}, {"quantize": {}}]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    plan = make_plan(load_recipe(path), machine(), 1)
    found = {x.kind for x in plan.stages if measures(x)}
    assert found == {"latency", "layers", "accuracy", DECIDE, "step"}
    steps = {x.title: measures(x) for x in plan.stages if x.kind in ("step", "prepare", "teacher")}
    assert steps == {
        "teacher vgg16_bn: train 3 epochs": False,
        "shufflenet_v2_x0_5: distill": False,
        "shufflenet_v2_x0_5 (no teacher): distill": False,
        "small: factorize": False,
        "small: quantize, prepared": False,
        "small: quantize": True,
    }
    assert [x.title for x in plan.stages if trains(x)] == [
        "teacher vgg16_bn: train 3 epochs",
        "shufflenet_v2_x0_5: distill",
        "shufflenet_v2_x0_5 (no teacher): distill",
    ]


def test_memory_that_no_node_has_is_told_before(tmp_path: Path) -> None:
    trained = {"train": {"batch_size": 64, "image_size": None}, "image_size": [224, 112]}
    small = memory_of(stage("teacher", **trained))
    assert small == 512 * 2**20 + 64 * 3 * 224 * 112 * 40
    trained["train"]["batch_size"] = 4096  # type: ignore[index]
    cluster = OnRay([node("t", times=True)], None)
    with pytest.raises(UserError, match=r"a teacher needs at least 12\.9 GB .* more than 8\.0 GB"):
        cluster.options(stage("teacher", **trained), 1, False)


# What is refused


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("t", times=True), node("old", python="3.9")], r"old has Python 3\.9, .* 3\.11"),
        ([node("t", times=True, version="0.0.9")], r"t has compress 0\.0\.9"),
        ([node("t", times=True), node("x", source="xyz")], "x has the text of compress xyz"),
        ([node("a"), node("b")], r"No node .*ray start --resources '\{\"compress_timing\": 1\}'"),
        ([node("t", times=True), node("u", cpus=8, times=True)], r"\(t, u\) are not of one kind"),
        ([], "No node of the cluster is there to measure"),
    ],
    ids=["python", "version", "source", "timing", "kinds", "none"],
)
def test_a_cluster_that_is_not_as_it_has_to_be(nodes: list[Node], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        check(nodes, HERE)
    check([node("t", times=True), node("a")], HERE)


def test_this_machine_is_like_itself() -> None:
    check([Node("t", "t", 1, 0, 10**9, True, facts())], facts())


def test_without_ray_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress.workflow.executors.ray, "find_spec", lambda _: None)
    with (
        pytest.raises(UserError, match=r"pip install 'compress\[ray\]'"),
        on_ray("local", None, tmp_path),
    ):
        pass


def test_an_address_that_does_not_answer() -> None:
    pytest.importorskip("ray", reason="compress[ray] runs clusters")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9: nothing answers there .*ray start"):
        connect("127.0.0.1:9", [])


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"", "timed out"), (b"HTTP/1.1 400 No\r\n\r\n", "is no Ray")],
    ids=["nothing", "web"],
)  # fmt: skip
def test_what_answers_may_be_no_ray(
    answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="compress[ray] runs clusters")
    if not answer:
        monkeypatch.setattr(compress.workflow.executors.cluster, "CONNECT_S", 0.3)
    refused = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def serve() -> None:
            there, _ = server.accept()
            with there:
                there.sendall(answer)
                refused.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(UserError, match=reason):
                connect(f"127.0.0.1:{server.getsockname()[1]}", [])
        finally:
            refused.set()
            thread.join()


def test_the_command_refuses_what_it_cannot_reach_and_shows_what_a_store_holds(
    shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="compress[ray] runs clusters")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(shapes)))
    asked = ["run", str(path), "--out", str(tmp_path), "--dry-run"]
    for more, reason in (
        (["--cluster", "127.0.0.1:9"], "nothing answers there"),
        (["--store", "nowhere://x"], "Give a folder, or an address"),
    ):
        done = CliRunner().invoke(app, [*asked, *more])
        assert isinstance(done.exception, UserError) and reason in str(done.exception)
    done = CliRunner().invoke(app, [*asked, "--store", str(tmp_path / "shared")])
    assert done.exit_code == 0 and "to do  data shapes" in done.stdout


# Images


@pytest.mark.parametrize("table", [False, True], ids=["folder", "table"])
def test_images_travel_through_the_store_once(
    table: bool, shapes: Path, dots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    (tmp_path / "node").mkdir()
    shared = Shared(str(tmp_path / "shared"))
    path = dots / "points.csv" if table else shapes
    images = Images(path, fingerprint(path))
    assert images.are_here() and images.found(None) == path
    images.pack(shared, tmp_path)
    images.pack(shared, tmp_path / "not there")  # it is there, so nothing is packed
    unseen = Images(tmp_path / "elsewhere" / path.name, images.fingerprint)
    found = unseen.found(shared)
    assert found.is_relative_to(tmp_path / "node") and found.is_file() == table
    assert fingerprint(found) == images.fingerprint
    assert unseen.found(shared) == found


def test_images_that_a_node_cannot_have(shapes: Path, tmp_path: Path) -> None:
    unseen = Images(tmp_path / "nothing", "0" * 64)
    for shared in (None, Shared(str(tmp_path / "shared"))):
        with pytest.raises(UserError, match=r"does not see the data .* mount .* --store"):
            unseen.found(shared)
    with pytest.raises(UserError, match="does not see the data"):
        Images(shapes, "of another folder").found(None)


def test_images_are_others_where_a_file_is_that_a_builder_may_read(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "boxes.json").write_text(name)
    cluster = OnRay([node("one", times=True)], None)
    context = context_in(tmp_path, Progress(Console(quiet=True)))
    here, there = (
        cluster.images(replace(context, data_path=tmp_path / name / "data"))
        for name in ("here", "there")
    )
    assert here is not None and there is not None and here.archive != there.archive
    assert here.are_here() and not replace(here, path=there.path).are_here()


# How nodes compute


def flags() -> str:
    cudnn = torch.backends.cudnn
    return f"deterministic: {cudnn.deterministic}, TF32: {cudnn.allow_tf32}"


def saying(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    (folder / "flags").write_text(flags())


def test_a_node_computes_as_one_process_does(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Local().device("auto")
    expected = flags()

    def as_torch_begins() -> None:
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    as_torch_begins()
    said = Stage("step", "saying", 1, {}, {}, saying)
    context = context_in(tmp_path, Progress(Console(quiet=True)))
    root, threads = tmp_path / "stages", torch.get_num_threads()
    job = Job(said, root, None, "", {}, context, threads, None, False)
    assert isinstance(compute(job, lambda *_: None, "here"), float)
    assert (Store(root).folder(said) / "flags").read_text() == expected

    as_torch_begins()
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(shapes)))
    decide(load_recipe(path), None, "cpu", ())
    assert flags() == expected


def test_what_ends_a_run_ends_it_whatever_stage_it_is_of(tmp_path: Path) -> None:
    full = Stage("export", "full", 1, {"seconds": 0, "full": "no space"}, {}, sleeping)
    after = Stage("export", "after", 1, {"seconds": 0}, {}, sleeping)
    progress = Progress(Console(quiet=True))
    context, store = context_in(tmp_path, progress), Store(tmp_path / "stages")
    with progress.tree({x.key: x.title for x in (full, after)}):
        with pytest.raises(StorageFailed, match="no space"):
            Local().run([full, after], store, context)
        assert not store.is_done(after)
    job = Job(full, store.root, None, "", {}, context, torch.get_num_threads(), None, False)
    failed = compute(job, lambda *_: None, "here")
    assert isinstance(failed, Failed) and failed.kind is StorageFailed


# Progress


def test_what_is_said_elsewhere_is_seen_here() -> None:
    epochs: list[Any] = []
    here = Progress(Console(quiet=True), on_epoch=lambda *x: epochs.append(x))
    said: list[str] = []
    here._say = said.append  # type: ignore[method-assign]
    with here.tree({"a": "first", "b": "second"}):
        one, other = (Sent(lambda what, given, k=k: here.received(k, what, given)) for k in "ab")
        for key in "ab":
            here.received(key, "stage", ("running",))
        one.epoch(1, 3, 0.5, 0.25, 100.0, 2.0)
        other.note("look")
        other.advance(1, 2)
        assert epochs == [("first", 1, {"loss": 0.5, "validation": 0.25, "images_per_s": 100.0})]
        assert here.lines["a"].startswith("epoch 1/3: loss 0.500")
        assert "second: look" in said
    Sent(lambda what, given: here.received("gone", what, given)).note("too late")


# End to end


class Nodes:
    """A cluster of processes on this machine: a head, one node that measures, two that train."""

    def __init__(self, tmp: Path) -> None:
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 2**20}
        head = {"num_cpus": 0, "include_dashboard": False, **small}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.timing = self.cluster.add_node(num_cpus=1, resources={TIMING: 1}, **small)
        self.training = []
        for name in ("one", "two"):
            (tmp / name).mkdir()
            self.training.append(
                self.cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(tmp / name)}, **small)
            )
        self.cluster.wait_for_nodes()

    def busy(self) -> Any:
        """Return the training node that computes a stage just now; None: none does."""
        for each in self.training:
            raylet = each.all_processes["raylet"][0].process.pid
            for worker in psutil.Process(raylet).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended just now
                    if "ray::_compute" in " ".join(worker.cmdline()):
                        return each
        return None


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="compress[ray] runs clusters")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Nodes are of this machine, and look as full as it is.
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    # The names of its sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        found = Nodes(tmp_path)
        yield found
        found.cluster.shutdown()


@pytest.mark.slow
def test_a_node_dies_and_the_rows_are_those_of_one_process(
    nodes: Nodes, shapes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(shapes)
    recipe["teacher"]["train"]["epochs"] = 40
    recipe["measure"]["processes"] = 1
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    address, store = nodes.cluster.address, Shared(str(tmp_path / "shared"))
    expected = rows(path, tmp_path / "alone", Local())
    found: list[Result] = []

    with on_ray(address, store, tmp_path / "driver") as cluster:
        run = threading.Thread(
            target=lambda: found.extend(rows(path, tmp_path / "driver", cluster))
        )
        run.start()
        killed = kill_in_training(nodes, tmp_path / "shared", run)
        run.join()

    for row, same in zip(found, expected, strict=True):
        assert row.key == same.key
        assert row.accuracy.correct == same.accuracy.correct
        assert row.accuracy.answers == same.accuracy.answers
        if row.training and same.training:
            losses = [[x.loss for x in each.training.epochs] for each in (row, same)]  # type: ignore[union-attr]
            assert losses[0] == pytest.approx(losses[1], rel=1e-4)
            assert row.training.machine == machine().cpu
    records = {x.parent.name: Shared(str(tmp_path / "shared")).record(x.parent.name)
               for x in (tmp_path / "shared").glob("*/stage.json")}  # fmt: skip
    measured = {
        name: record["where"]["node"] == nodes.timing.node_id for name, record in records.items()
    }
    kinds = {name.partition("-")[0]: on_it for name, on_it in measured.items()}
    assert kinds == {
        "data": False, "teacher": False, "teacher_outputs": False, "step": False,
        "export": False, "doubts": False, "layers": True, "accuracy": True, "latency": True,
    }  # fmt: skip
    assert killed not in {record["where"]["node"] for record in records.values()
                          if record["began"] > 0 and "teacher" in record["title"][:7]}  # fmt: skip


def rows(path: Path, out: Path, executor: Any) -> list[Result]:
    progress = Progress(Console(quiet=True), out / "run.log")
    results, failed = run_recipe(
        load_recipe(path), out, progress, "compress run tiny.yaml", executor=executor
    )
    assert failed == []
    return results


def kill_in_training(nodes: Nodes, shared: Path, run: threading.Thread) -> str:
    """Kill the node that trains the teacher when a checkpoint of it is there; return its id."""
    while run.is_alive():
        if list(shared.glob("teacher-*/*/training.safetensors")) and (busy := nodes.busy()):
            nodes.cluster.remove_node(busy, allow_graceful=False)
            return str(busy.node_id)
        time.sleep(0.05)
    raise AssertionError("the teacher was trained before a node could be killed")


@pytest.mark.slow
def test_stages_run_side_by_side_and_what_fails_stops_what_builds_on_it(
    nodes: Nodes, tmp_path: Path
) -> None:
    progress = Progress(Console(quiet=True))
    context = context_in(tmp_path, progress)
    first = Stage("export", "first", 1, {"seconds": 0}, {}, sleeping)
    bad = Stage("export", "bad", 1, {"seconds": 0, "fails": "no luck"}, {"of": first}, sleeping)
    after = Stage("export", "after", 1, {"seconds": 0}, {"of": bad}, sleeping)
    side = [Stage("export", str(i), 1, {"seconds": 3, "n": i}, {"of": first}, sleeping)
            for i in range(2)]  # fmt: skip
    stages = [first, bad, after, *side]
    with on_ray(nodes.cluster.address, None, tmp_path) as cluster:
        store = Store(tmp_path / "runs" / "stages")
        with progress.tree({x.key: x.title for x in stages}):
            broken = cluster.run(stages, store, context)
            assert broken == {bad.key: "no luck", after.key: "no luck"}
            states = {progress.titles[key]: state for key, (state, _) in progress.states.items()}
        assert states == {"first": "done", "bad": "failed", "after": "skipped",
                          "0": "done", "1": "done"}  # fmt: skip
        with progress.tree({bad.key: bad.title}), pytest.raises(UserError, match="no luck"):
            cluster.run([bad], store, context, {bad.key})
        full = Stage("export", "full", 1, {"seconds": 0, "full": "no space"}, {}, sleeping)
        with progress.tree({full.key: full.title}), pytest.raises(StorageFailed, match="no space"):
            cluster.run([full], store, context)
    spans = [json.loads((store.folder(x) / "stage.json").read_text()) for x in side]
    begins = [x["began"] for x in spans]
    assert len({x["where"]["node"] for x in spans}) == 2
    assert max(begins) < min(x["began"] + x["seconds"] for x in spans)
