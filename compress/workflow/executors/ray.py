"""A Ray cluster computes stages: each is a task as soon as its inputs are done.

Ray places tasks by what they ask for. What measures asks for all of a node that has the resource
`compress_timing`, and what trains for a share of another, so that nothing else of a run is where
times are taken.
"""

import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from compress.methods.context import Context
from compress.recipe.schema import Recipe
from compress.results.schema import Machine
from compress.utils.errors import StorageFailed, UserError
from compress.utils.progress import Sent
from compress.workflow.cache import Stage, Store
from compress.workflow.executors import node
from compress.workflow.executors.cluster import (
    TIMING,
    Node,
    alive_now,
    ask,
    check,
    check_sees,
    connect,
    nodes_of_cluster,
)
from compress.workflow.executors.executor import NETWORKS, measures, named
from compress.workflow.executors.local import tell_reused, why_skipped
from compress.workflow.executors.node import Failed, Images, Job
from compress.workflow.plan import in_order
from compress.workflow.shared import Shared

COMPUTES = NETWORKS | {"teacher_outputs"}  # kinds of stages that more than one CPU pays for
LOOK_S, CLAIM_S = 0.2, 5.0  # between looks at what is finished, and at what others compute
SEEN_S = 90.0  # that a shared folder is given to show what a node has written
DEATHS = 5  # of nodes or workers, that a stage survives
PROCESS_BYTES = 512 * 2**20  # of a process that has loaded torch
KEPT_FLOATS = 10  # of each number of its input, that any network keeps while it trains


class OnRay:
    """A cluster; open it with `on_ray`.

    Attributes:
        machine, threads: of the nodes that measure.
    """

    def __init__(self, nodes: Sequence[Node], shared: Shared | None) -> None:
        self.shared = shared
        self._images: dict[Path, Images] = {}
        self._seen: set[Images] = set()  # that nodes were asked for
        self.timing = [x for x in nodes if x.times]
        self.training = [x for x in nodes if not x.times] or self.timing
        self.machine: Machine = self.timing[0].facts.machine
        self.threads = min(self.timing[0].facts.threads, self.timing[0].cpus)

    def device(self, wanted: str) -> torch.device:
        """Return what networks train on: CUDA where any node has it, unless cpu is asked for.

        Raises:
            UserError: cuda is asked for, and no node has any.
        """
        gpus = sum(x.gpus for x in self.training)
        if wanted == "cuda" and not gpus:
            raise UserError("device: cuda was asked for, but no node of the cluster has a GPU.")
        return torch.device("cuda" if gpus and wanted != "cpu" else "cpu")

    def decided(
        self,
        recipe: Recipe,
        allowed: tuple[str, ...] = (),
        note: Callable[[str], None] = lambda _: None,
    ) -> Recipe:
        """Return the recipe with `precision: auto` decided on a node that trains.

        Where they differ, it is decided on the first by name: all train in what that one is fast
        in.
        """
        import ray

        device = self.device(recipe.device)
        first = min(self.training, key=lambda x: (x.gpus == 0, x.name, x.id))
        options = {"num_cpus": first.cpus, "num_gpus": int(device.type == "cuda")}
        task = ray.remote(node.decide).options(**options, label_selector=_only(first))
        found, notes = ray.get(task.remote(recipe, self.shared, device.type, allowed))
        for said in notes:
            note(said)
        return found

    def run(
        self,
        stages: Sequence[Stage],
        store: Store,
        context: Context,
        needed: Container[str] = (),
        done: Callable[[Stage], None] = lambda _: None,
    ) -> dict[str, str]:
        """Compute stages, side by side where they do not build on each other."""
        self._travel(store, context)
        return _Run(self, stages, store, context, needed, done).finish()

    def _travel(self, store: Store, context: Context) -> None:
        """See to it that every node has the images and the weights.

        Raises:
            UserError: they cannot have them.
        """
        if self.shared is None:
            return
        for key, path in context.files.items():
            if not self.shared.has(f"{node.FILES}/{key}"):
                self.shared.send(path, f"{node.FILES}/{key}")
        images = self.images(context)
        if images is not None and images not in self._seen and not self._see(images):
            store.root.mkdir(parents=True, exist_ok=True)
            images.pack(self.shared, store.root)

    def _see(self, images: Images) -> bool:
        """Return whether all nodes see the images; one that died meanwhile does not."""
        self._seen.add(images)
        try:
            return all(ask([x["NodeID"] for x in alive_now()], Images.are_here, images))
        except UserError:
            return False

    def images(self, context: Context) -> Images | None:
        """Return where the images lie, and what they are known by."""
        if context.data_path is None:
            return None
        path = context.data_path.resolve()
        if path not in self._images:
            self._images[path] = Images.at(path)
        return self._images[path]

    def options(self, stage: Stage, sharing: int, cuda: bool) -> dict[str, Any]:
        """Return what a stage asks for.

        Args:
            sharing: how many trainings there are just now.

        Raises:
            UserError: no node has so much memory.
        """
        asked = {"memory": memory_of(stage), "max_retries": DEATHS}
        places = self.timing if measures(stage) else self.training
        largest = max(places, key=lambda x: x.memory_bytes)
        if asked["memory"] > largest.memory_bytes:
            raise UserError(
                f"{stage.title} needs at least {asked['memory'] / 1e9:.1f} GB of memory, and no "
                f"node of the cluster has more than {largest.memory_bytes / 1e9:.1f} GB for it: "
                "lower batch_size, or add a node."
            )
        if measures(stage):
            cpus = min(x.cpus for x in self.timing)
            return asked | {"num_cpus": cpus, "resources": {TIMING: 1}}
        elsewhere = {} if self.training is self.timing else {"label_selector": _not(self.timing)}
        if stage.kind not in COMPUTES:
            return asked | elsewhere | {"num_cpus": 1}
        cpus = min(x.cpus for x in self.training) // math.ceil(sharing / len(self.training))
        return asked | elsewhere | {"num_cpus": max(cpus, 1), "num_gpus": int(cuda)}


class _Run:
    """Stages on their way through a cluster."""

    def __init__(
        self,
        cluster: OnRay,
        stages: Sequence[Stage],
        store: Store,
        context: Context,
        needed: Container[str],
        done: Callable[[Stage], None],
    ) -> None:
        from ray.util.queue import Queue

        self.cluster, self.store, self.context, self.needed = cluster, store, context, needed
        self.done = done
        self.waiting = list(stages)
        self.running: dict[Any, Stage] = {}
        self.broken: dict[str, str] = {}
        self.claimed: dict[str, str] = {}  # names of folders, by stage
        self.missed: set[str] = set()  # what no node is left for
        self.miss_next = 0.0  # when to look again
        self.others: dict[str, float] = {}  # stages that other runs compute: when to look again
        self.said = Queue(actor_options={"num_cpus": 0, "label_selector": _here()})

    def finish(self) -> dict[str, str]:
        """Compute all; return why some could not be done."""
        import ray

        try:
            while self.waiting or self.running:
                self._start_what_can()
                done, _ = ray.wait(list(self.running), timeout=LOOK_S) if self.running else ([], [])
                if not self.running:
                    time.sleep(LOOK_S * bool(self.waiting))
                self._listen()
                self._miss_nodes()
                for task in done:
                    self._settle(task)
        finally:
            for task in self.running:
                ray.cancel(task, force=True)
            for name in self.claimed.values():
                self.store.claims.release(name)
            self.said.shutdown()
        return self.broken

    def _start_what_can(self) -> None:
        """Start what builds on nothing that is left."""
        ready = list(self._ready())
        trains = [x for x in (*ready, *self.running.values()) if _computes(x)]
        for stage in ready:
            if time.monotonic() < self.others.get(stage.key, 0.0):
                continue
            if self.store.is_done(stage):
                self.waiting.remove(stage)
                tell_reused(stage, self.store, self.context)
                self.done(stage)
            elif self._claim(stage):
                self.waiting.remove(stage)
                try:
                    self._start(stage, len(trains))
                except UserError as error:
                    self._fail(stage, str(error), error)

    def _ready(self) -> Iterator[Stage]:
        left = {stage.key for stage in (*self.waiting, *self.running.values())}
        for stage in list(self.waiting):
            if reason := why_skipped(stage, self.broken):
                self.waiting.remove(stage)
                self.broken[stage.key] = reason
                self.context.progress.stage(stage.key, "skipped")
            elif not any(x.key in left for x in stage.inputs.values()):
                yield stage

    def _claim(self, stage: Stage) -> bool:
        """Return whether a stage is this run's to compute."""
        if self.cluster.shared is None:
            return True
        name = self.store.name(stage)
        if self.store.claims.take(name):
            if self.store.is_done(stage):  # just now
                self.store.claims.release(name)
                return False
            self.claimed[stage.key] = name
            return True
        if stage.key not in self.others:
            self.context.progress.note(f"{stage.title}: another run computes it")
        self.others[stage.key] = time.monotonic() + CLAIM_S
        return False

    def _start(self, stage: Stage, sharing: int) -> None:
        import ray

        options = self.cluster.options(stage, sharing, self.context.device.type == "cuda")
        send = partial(_send, self.said.actor, stage.key)
        for input_ in stage.inputs.values():
            self.store.share(input_)
        before = {x.key for x in in_order([stage])}
        job = Job(
            stage=stage,
            root=self.store.root.resolve(),
            shared=self.cluster.shared,
            run=self.store.run_name if self.cluster.shared else "",
            names={key: name for key, name in self.store.names().items() if key in before},
            context=replace(self.context, progress=Sent(send)),
            cpus=int(options["num_cpus"]),
            images=self.cluster.images(self.context) if _reads_images(stage) else None,
            measures=measures(stage),
        )
        self.running[ray.remote(_compute).options(**options).remote(job, send)] = stage

    def _listen(self) -> None:
        """Show what nodes say; that a stage begins may come when it is known to have ended."""
        runs = {stage.key for stage in self.running.values()}
        if count := self.said.qsize():
            for key, what, given in self.said.get_nowait_batch(count):
                if what != "stage" or key in runs:
                    self.context.progress.received(key, what, given)

    def _miss_nodes(self) -> None:
        """Say what nodes stages wait for, if none is left: Ray waits until there is one."""
        if time.monotonic() < self.miss_next:
            return
        self.miss_next = time.monotonic() + CLAIM_S
        alive = alive_now()
        times = any(x["Resources"].get(TIMING, 0) >= 1 for x in alive)
        others = any(x["Resources"].get(TIMING, 0) < 1 for x in alive)
        trains = others or self.cluster.training is self.cluster.timing
        for what, is_there in ((f"measures (resource {TIMING})", times), ("trains", trains)):
            if not is_there and what not in self.missed:
                self.context.progress.note(f"No node is left that {what}: stages wait for one.")
            (self.missed.discard if is_there else self.missed.add)(what)

    def _settle(self, task: Any) -> None:
        """Take note of what became of a task."""
        import ray

        stage = self.running.pop(task)
        try:
            found = ray.get(task)
        except ray.exceptions.OutOfMemoryError as error:
            found = Failed(
                f"{stage.title} ran out of memory on its node: lower batch_size, or add a node "
                "with more.",
                str(error),
            )
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
            found = Failed(f"{stage.title}: {DEATHS + 1} nodes that computed it died.", str(error))
        if name := self.claimed.pop(stage.key, None):
            self.store.claims.release(name)
        if isinstance(found, Failed):
            self._fail(stage, found.reason, found.kind(found.reason), found.trace)
        else:
            self._see(stage)
            self.context.progress.stage(stage.key, "done", f"in {found:.0f} s")
            self.done(stage)

    def _see(self, stage: Stage) -> None:
        """Wait until what a node has written is seen here: shared folders take a while.

        Raises:
            UserError: it is not.
        """
        until = time.monotonic() + SEEN_S
        while not self.store.is_done(stage):
            if time.monotonic() > until:
                raise UserError(
                    f"A node has finished {stage.title}, and {self.store.root} does not show it "
                    "here: give a --store that all reach."
                )
            time.sleep(LOOK_S)

    def _fail(self, stage: Stage, reason: str, error: UserError, trace: str = "") -> None:
        if trace:
            error.add_note(trace)
        if stage.key in self.needed or isinstance(error, StorageFailed):
            raise error
        self.broken[stage.key] = reason
        self.context.progress.stage(stage.key, "failed", reason)
        self.context.progress.failed(error)


def _compute(job: Job, send: node.Send) -> float | Failed:
    """Compute a stage in a task."""
    import ray

    return node.compute(job, send, ray.get_runtime_context().get_node_id())


def _send(actor: Any, key: str, what: str, given: Any) -> None:
    """Put what a node says into the driver's queue; nobody waits for that."""
    actor.put_nowait.remote((key, what, given))


def _reads_images(stage: Stage) -> bool:
    """Return whether a stage opens images: a node that does not see them takes them all."""
    kinds = {stage.kind, *(x.kind for x in stage.inputs.values())}
    return "data" in kinds or "fingerprint" in stage.settings


def _computes(stage: Stage) -> bool:
    return stage.kind in COMPUTES and not measures(stage)


def memory_of(stage: Stage) -> int:
    """Return the bytes that a stage needs at the very least."""
    batches, sizes = (list(named(stage.settings, x)) for x in ("batch_size", "image_size"))
    if stage.kind not in COMPUTES or not batches or not sizes:
        return PROCESS_BYTES
    sides = [size if isinstance(size, list) else [size, size] for size in sizes]
    numbers = max(batches) * 3 * min(height * width for height, width in sides)
    return PROCESS_BYTES + numbers * KEPT_FLOATS * 4


def _only(place: Node) -> dict[str, str]:
    return {"ray.io/node-id": place.id}


def _not(places: Sequence[Node]) -> dict[str, str]:
    return {"ray.io/node-id": f"!in({','.join(x.id for x in places)})"}


def _here() -> dict[str, str]:
    import ray

    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


@contextmanager
def on_ray(
    address: str, shared: Shared | None, out: Path, allowed: Sequence[str] = ()
) -> Iterator[OnRay]:
    """Connect to a cluster, or start one on this machine, until the block ends.

    Args:
        address: "local", or what `ray.init` takes.
        out: the folder of the run; without a shared store, all nodes have to see it.
        allowed: packages whose builders a recipe may name: they travel.

    Raises:
        UserError: it cannot be reached, or its nodes are not as they have to be.
    """
    if find_spec("ray") is None:
        raise UserError("--cluster needs Ray: pip install 'compress[ray]'.")
    import ray

    connect(address, allowed)
    try:
        nodes = list(nodes_of_cluster())
        check(nodes, node.facts())
        if shared is None:
            check_sees(nodes, out)
        yield OnRay(nodes, shared)
    finally:
        ray.shutdown()
