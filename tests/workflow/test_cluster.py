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
from compress.cli.run import executor_for
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
from compress.workflow.executors.needs import memory_of
from compress.workflow.executors.node import Facts, Failed, Images, Job, compute, decide, facts
from compress.workflow.executors.ray import OnRay, on_ray
from compress.workflow.plan import make_plan
from compress.workflow.run import make_ready, run_recipe
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
    assert asked["label_selector"] == {"ray.io/node-id": "in(t)"}
    asked = cluster.options(stage("export"), 1, False)
    assert asked["num_cpus"] == 1 and asked["label_selector"] == {"ray.io/node-id": "in(a,b)"}


def test_what_runs_files_whose_answers_are_of_a_node_runs_there() -> None:
    cluster = OnRay([node("t", times=True), node("a")], None)
    for kind in ("cascade_further", "doubts"):
        asked = cluster.options(stage(kind), 1, False)
        assert measures(stage(kind)) and asked["label_selector"] == {"ray.io/node-id": "in(t)"}


@pytest.mark.parametrize(("sharing", "cpus"), [(1, 4), (2, 4), (3, 2), (4, 2), (8, 1), (100, 1)])
def test_trainings_share_the_nodes(sharing: int, cpus: int) -> None:
    cluster = OnRay([node("t", times=True), node("a"), node("b", gpus=1)], None)
    asked = cluster.options(stage("step"), sharing, True)
    assert (asked["num_cpus"], asked["num_gpus"]) == (cpus, 1)


def test_one_machine_does_all() -> None:
    cluster = OnRay([node("one", times=True)], None)
    asked = cluster.options(stage("teacher"), 1, False)
    assert asked["label_selector"] == {"ray.io/node-id": "in(one)"}
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
    assert found == {"latency", "layers", "accuracy", "doubts", DECIDE, "step"}
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


def test_what_prune_and_binarize_decide_is_measured(shapes: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(shapes)
    recipe["candidates"] = {
        "pruned": [{"prune": {"speedup": 2}}],
        "binary": [{"binarize": {"train": {"epochs": 1}}}],
    }
    recipe["teacher"] |= {"builder": "torchvision.models:resnet18", "settings": {}}
    recipe["measure"]["runtimes"] = ["openvino"]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    stages = make_plan(load_recipe(path), machine(), 1).stages
    decided = {x.title: measures(x) for x in stages if x.kind == DECIDE}
    assert decided == {
        "pruned: prune, decided": True,
        "binary: binarize, decided": True,
        "binary (no teacher): binarize, decided": True,
    }


def test_keys_hold_the_machine_that_measures(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(shapes)))
    recipe = load_recipe(path)
    there = machine().model_copy(update={"cpu": "another", "cpu_flags": ["other"]})
    monkeypatch.setattr(OnRay, "decided", lambda _, recipe, *__: recipe)
    cluster = OnRay([node("t", times=True, machine=there), node("a")], None)
    progress = Progress(Console(quiet=True))
    plan = make_ready(recipe, tmp_path, progress, executor=cluster).plan
    keys, here = {x.key for x in plan.stages}, make_plan(recipe, machine(), 1).stages
    assert keys == {x.key for x in make_plan(recipe, there, 1).stages}
    assert {x.kind for x in here if x.key not in keys} == {
        "accuracy", "doubts", "latency", "layers",
    }  # fmt: skip


def test_memory_that_no_node_has_is_told_before(tmp_path: Path) -> None:
    trained = {"train": {"batch_size": 64, "image_size": None}, "image_size": [224, 112]}
    small = memory_of(stage("teacher", **trained), {})
    assert small == 512 * 2**20 + 64 * 3 * 224 * 112 * 40
    trained["train"]["batch_size"] = 4096  # type: ignore[index]
    cluster = OnRay([node("t", times=True)], None)
    with pytest.raises(UserError, match=r"a teacher needs at least 12\.9 GB .* more than 8\.0 GB"):
        cluster.options(stage("teacher", **trained), 1, False)


def weights_of(folder: Path, size: int) -> dict[str, Path]:
    """Return a file of so many bytes, as stages know it."""
    file = folder / "weights.safetensors"
    with file.open("wb") as opened:
        opened.truncate(size)
    return {"abc": file}


def test_a_training_keeps_more_than_its_weights(tmp_path: Path) -> None:
    trained = {"train": {"batch_size": 1}, "image_size": [1, 1], "weights": "abc"}
    files = weights_of(tmp_path, 10**9)
    assert memory_of(stage("teacher", **trained), files) == 512 * 2**20 + 120 + 4 * 10**9
    for other in ({"train_only": "head"}, {"weights": "torchvision:X"}, {"train": None}):
        assert memory_of(stage("teacher", **trained | other), files) < 10**9


def test_memory_is_asked_of_nodes_that_have_what_else_is_asked() -> None:
    big = replace(node("big"), memory_bytes=10**12)
    cluster = OnRay([node("t", times=True), big, node("gpu", gpus=1)], None)
    trained = {"train": {"batch_size": 4096}, "image_size": [224, 224]}
    cluster.options(stage("teacher", **trained), 1, False)
    with pytest.raises(UserError, match=r"no node of the cluster with a GPU has more than 8\.0"):
        cluster.options(stage("teacher", **trained), 1, True)
    asked = cluster.options(stage("teacher"), 1, True)
    assert asked["label_selector"] == {"ray.io/node-id": "in(gpu)"}


# Nodes that come and go


def told(*nodes: Node) -> list[dict[str, Any]]:
    """Return what Ray tells of nodes."""
    return [{"NodeID": x.id, "NodeManagerHostname": x.name, "of": x} for x in nodes]


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Nodes that follow each other in a cluster: of one that measures and one that trains."""
    monkeypatch.setattr(
        compress.workflow.executors.ray, "nodes_of", lambda alive: [x["of"] for x in alive]
    )
    monkeypatch.setattr(compress.workflow.executors.node, "facts", lambda: HERE)
    cluster = OnRay([node("t", times=True), node("a")], None)
    said: list[str] = []
    progress = Progress(Console(quiet=True))
    progress.note = said.append  # type: ignore[method-assign]
    context, store = context_in(tmp_path, progress), Store(tmp_path / "stages")

    def follow(*alive: Node) -> tuple[list[str], list[str], list[str]]:
        said.clear()
        cluster.follow(told(*alive), store, context)
        return [x.id for x in cluster.timing], [x.id for x in cluster.training], said

    yield follow


def test_a_node_that_joins_is_used_if_it_is_as_it_has_to_be(joined: Any) -> None:
    t, a, b = node("t", times=True), node("a"), node("b")
    assert joined(t, a, b) == (["t"], ["a", "b"], [])
    other = HERE.machine.model_copy(update={"cpu": "another"})
    odd, old = node("odd", times=True, machine=other), node("old", version="0.0.9")
    timing, training, notes = joined(t, a, b, odd, old)
    assert (timing, training) == (["t"], ["a", "b"]) and len(notes) == 2
    assert "odd has joined the cluster and is not used: The nodes with the resource" in notes[0]
    assert "old has joined the cluster and is not used: old has compress 0.0.9" in notes[1]
    assert joined(t, a, b, odd, old) == (["t"], ["a", "b"], [])


def test_the_last_of_a_kind_is_waited_for_until_another_comes(joined: Any) -> None:
    t, a, b = node("t", times=True), node("a"), node("b")
    assert joined(t) == (["t"], ["a"], [])
    assert joined(t, b) == (["t"], ["b"], [])
    other = HERE.machine.model_copy(update={"cpu": "another"})
    _, _, notes = joined(b, node("u", times=True, machine=other))  # t, whose keys all have, is gone
    assert "u has joined the cluster and is not used" in notes[0]
    assert joined(a, node("v", times=True)) == (["v"], ["a"], [])


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


def test_torchrun_on_a_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UserError, match=r"--cluster cannot be used under torchrun: .* Leave out"),
        executor_for("local", None, tmp_path, ()),
    ):
        pass


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
    for measured, used in ((False, 3), (True, 1)):  # the latter as the recipe says
        other = replace(said, settings={"measured": measured})
        compute(replace(job, stage=other, cpus=3, measures=measured), lambda *_: None, "here")
        record = json.loads((Store(root).folder(other) / "stage.json").read_text())
        assert record["where"]["threads"] == used
    torch.set_num_threads(threads)

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
def ray_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clusters may be started on this machine."""
    pytest.importorskip("ray", reason="compress[ray] runs clusters")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Nodes are of this machine, and look as full as it is.
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    # The names of its sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        yield


@pytest.fixture
def nodes(ray_here: None, tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(tmp_path)
    yield found
    found.cluster.shutdown()


@pytest.mark.slow
def test_all_cores_of_this_machine(ray_here: None, shapes: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(shapes)
    recipe["candidates"] = {"small": [{"factorize": {"ratio": 0.5}}]}
    recipe["measure"] |= {"processes": 1}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    asked = ["run", str(path), "--out", str(tmp_path), "--cluster", "local"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0 and "small" in done.stdout
    records = [json.loads(x.read_text()) for x in tmp_path.glob("runs/stages/*/stage.json")]
    assert len({x["where"]["node"] for x in records}) == 1 and records[0]["where"]["node"]


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
    where: dict[bool, set[str]] = {True: set(), False: set()}
    for name, record in records.items():
        where[record["where"]["node"] == nodes.timing.node_id].add(name.partition("-")[0])
    assert where == {
        True: {"doubts", "layers", "accuracy", "latency"},
        False: {"data", "teacher", "teacher_outputs", "step", "export"},
    }
    assert "resumed after epoch" in (tmp_path / "driver" / "run.log").read_text()
    assert killed not in {record["where"]["node"] for record in records.values()
                          if record["began"] > 0 and "teacher" in record["title"][:7]}  # fmt: skip


def chatting(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    for number in range(300):
        context.progress.note(f"says {number}")


def two_runs(nodes: Nodes, shared: Path, out: Path) -> set[str]:
    """Have a second run begin when the first has; return the runs that computed something."""
    stages = [Stage("export", str(i), 1, {"seconds": 0.7, "shared": i}, {}, sleeping)
              for i in range(16)]  # fmt: skip
    with on_ray(nodes.cluster.address, Shared(str(shared)), out) as cluster:

        def run(name: str) -> None:
            progress = Progress(Console(quiet=True))
            store = Store(out / name, shared=Shared(str(shared)))
            with progress.tree({x.key: x.title for x in stages}):
                assert cluster.run(stages, store, context_in(out, progress)) == {}

        threads = [threading.Thread(target=run, args=(name,)) for name in ("here", "there")]
        for thread in threads:
            thread.start()
            time.sleep(2)
        for thread in threads:
            thread.join()
    found = Shared(str(shared))
    return {found.record(name)["run"] for name in found.done("export")}


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
    assert len(two_runs(nodes, tmp_path / "shared", tmp_path / "two")) == 2
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
        said: list[str] = []
        progress._say = said.append  # type: ignore[method-assign]
        chats = Stage("export", "chats", 1, {}, {}, chatting)
        with progress.tree({chats.key: chats.title}):
            cluster.run([chats], store, context)
        assert {x for x in said if "says" in x} == {f"chats: says {i}" for i in range(300)}
        slow = Stage("export", "slow", 1, {"seconds": 30}, {}, sleeping)
        trained = {"seconds": 0, "batch_size": 10**9, "image_size": 32}
        large = Stage("step", "large", 1, trained, {"of": slow}, sleeping)
        began = time.monotonic()
        with (
            progress.tree({x.key: x.title for x in (slow, large)}),
            pytest.raises(UserError, match="large needs at least"),
        ):
            cluster.run([slow, large], store, context, {large.key})
        assert time.monotonic() - began < 30 and not store.is_done(slow)
    spans = [json.loads((store.folder(x) / "stage.json").read_text()) for x in side]
    begins = [x["began"] for x in spans]
    assert len({x["where"]["node"] for x in spans}) == 2
    assert max(begins) < min(x["began"] + x["seconds"] for x in spans)


@pytest.mark.slow
def test_a_node_that_joins_takes_the_place_of_those_that_died(nodes: Nodes, tmp_path: Path) -> None:
    progress, said = Progress(Console(quiet=True)), list[str]()
    progress.note = said.append  # type: ignore[method-assign]
    stages = [Stage("export", str(i), 1, {"seconds": 5, "n": i}, {}, sleeping) for i in range(3)]
    store, broken = Store(tmp_path / "stages"), list[dict[str, str]]()
    with on_ray(nodes.cluster.address, None, tmp_path) as cluster:

        def run() -> None:
            with progress.tree({x.key: x.title for x in stages}):
                broken.append(cluster.run(stages, store, context_in(tmp_path, progress)))

        thread = threading.Thread(target=run)
        thread.start()
        until = time.monotonic() + 120
        while not nodes.busy() and time.monotonic() < until:
            time.sleep(0.1)
        for gone in nodes.training:
            nodes.cluster.remove_node(gone, allow_graceful=False)
        while not any("No node is left that trains" in x for x in said):
            assert thread.is_alive() and time.monotonic() < until
            time.sleep(0.1)
        came = nodes.cluster.add_node(num_cpus=1)
        thread.join()
    assert broken == [{}]
    records = [json.loads((store.folder(x) / "stage.json").read_text()) for x in stages]
    assert came.node_id in {x["where"]["node"] for x in records}
    assert nodes.timing.node_id not in {x["where"]["node"] for x in records}
