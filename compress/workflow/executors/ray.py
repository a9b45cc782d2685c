"""A Ray cluster computes stages: each is a task as soon as its inputs are done.

Ray places tasks by what they ask for. What measures asks for all of a node that has the resource
`compress_timing`, and what trains for a share of another, so that nothing else of a run is where
times are taken.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
    nodes_of,
)
from compress.workflow.executors.executor import measures
from compress.workflow.executors.local import tell_reused, why_skipped
from compress.workflow.executors.needs import COMPUTES, computes, memory_of, reads_images
from compress.workflow.executors.node import Failed, Images, Job
from compress.workflow.plan import in_order
from compress.workflow.shared import Shared

LOOK_S, CLAIM_S = 0.2, 5.0  # between looks at what is finished, and at what others compute
SEEN_S = 90.0  # that a shared folder is given to show what a node has written
DEATHS = 5  # of nodes or workers, that a stage survives
QUEUED = 2  # stages on their way for each that can be computed at once; the rest is for other runs


class OnRay:
    """A cluster; open it with `on_ray`.

    Attributes:
        machine, threads: of the nodes that measure.
    """

    def __init__(
        self, nodes: Sequence[Node], shared: Shared | None, out: Path | None = None
    ) -> None:
        self.shared, self.out = shared, out
        self._images: dict[Path, Images] = {}
        self._seen: set[Images] = set()  # that nodes were asked for
        self.nodes = list(nodes)  # that have been checked
        self._unused: set[str] = set()  # ids of nodes that are not as they have to be
        self._like = self.timing[0]  # what all that measure have to be like
        self.machine: Machine = self._like.facts.machine
        self.threads = min(self._like.facts.threads, self._like.cpus)

    @property
    def timing(self) -> list[Node]:
        """The nodes that measure."""
        return [x for x in self.nodes if x.times]

    @property
    def training(self) -> list[Node]:
        """Those that compute all else: others, if there are any."""
        return [x for x in self.nodes if not x.times] or self.timing

    def follow(self, alive: Sequence[Mapping[str, Any]], store: Store, context: Context) -> None:
        """Take in nodes that have joined, once they are checked, and forget those that are gone.

        Of each kind some are kept: stages wait for them.

        Args:
            alive: what Ray tells of the nodes that are.
        """
        ids = {x["NodeID"] for x in alive}
        known = {x.id for x in self.nodes} | self._unused
        for told in alive:
            if told["NodeID"] in known:
                continue
            try:
                self.nodes.append(self._checked(told, store, context))
            except UserError as error:
                self._unused.add(told["NodeID"])
                name = told["NodeManagerHostname"]
                context.progress.note(f"{name} has joined the cluster and is not used: {error}")
        left = {(x.times, x.gpus > 0) for x in self.nodes if x.id in ids}
        self.nodes = [x for x in self.nodes if x.id in ids or (x.times, x.gpus > 0) not in left]

    def _checked(self, told: Mapping[str, Any], store: Store, context: Context) -> Node:
        """Return a node that has joined.

        Raises:
            UserError: it is not as it has to be.
        """
        (found,) = nodes_of([told])
        check([self._like, found], node.facts())
        if self.shared is None and self.out is not None:
            check_sees([found], self.out)
        images = None if self.shared is None else self.images(context)
        if self.shared and images and not all(ask([found.id], Images.are_here, images)):
            images.pack(self.shared, store.root)
        return found

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
            alive = {x["NodeID"] for x in alive_now()}
            ids = [x.id for x in self.nodes if x.id in alive]
            return all(ask(ids, Images.are_here, images))
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

    def places(self, stage: Stage, cuda: bool) -> list[Node]:
        """Return the nodes that may compute a stage."""
        if measures(stage):
            return self.timing
        on_gpu = [x for x in self.training if x.gpus] if cuda and stage.kind in COMPUTES else []
        return on_gpu or self.training

    def queue(self, stage: Stage, cuda: bool) -> tuple[str, int]:
        """Return with which others a stage waits, and how many of those can run at once."""
        if measures(stage):
            return "measures", len(self.timing)
        if cuda and stage.kind in COMPUTES:
            return "gpu", sum(x.gpus for x in self.training)
        return "cpu", sum(x.cpus for x in self.training)

    def check_memory(self, stage: Stage, cuda: bool, files: Mapping[str, Path]) -> int:
        """Return the bytes that a stage asks for.

        Args:
            files: of weights, by what stages know them by.

        Raises:
            UserError: no node has so many.
        """
        asked = memory_of(stage, files)
        most = max(x.memory_bytes for x in self.places(stage, cuda))
        if asked > most:
            gpu = " with a GPU" * (cuda and stage.kind in COMPUTES and not measures(stage))
            raise UserError(
                f"{stage.title} needs at least {asked / 1e9:.1f} GB of memory, and no node of the "
                f"cluster{gpu} has more than {most / 1e9:.1f} GB for it: lower batch_size, or add "
                "a node."
            )
        return asked

    def options(
        self, stage: Stage, sharing: int, cuda: bool, files: Mapping[str, Path] | None = None
    ) -> dict[str, Any]:
        """Return what a stage asks for: nodes that were checked, and what it needs of one.

        Args:
            sharing: how many trainings there are just now.
            files: as in `check_memory`.

        Raises:
            UserError: no node has so much memory.
        """
        asked = {
            "memory": self.check_memory(stage, cuda, files or {}),
            "max_retries": DEATHS,
            "label_selector": _among(self.places(stage, cuda)),
        }
        if measures(stage):
            cpus = min(x.cpus for x in self.timing)
            return asked | {"num_cpus": cpus, "resources": {TIMING: 1}}
        if stage.kind not in COMPUTES:
            return asked | {"num_cpus": 1}
        cpus = min(x.cpus for x in self.training) // math.ceil(sharing / len(self.training))
        return asked | {"num_cpus": max(cpus, 1), "num_gpus": int(cuda)}


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
        self.cuda = context.device.type == "cuda"
        self.waiting = list(stages)
        self.running: dict[Any, Stage] = {}
        self.places: dict[Any, set[str]] = {}  # ids of nodes that may compute a task
        self.alive: set[str] = set()  # ids of nodes
        self.looked: set[str] = set()  # at these stages, whether they are done
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
            self._refuse_too_large()
            while self.waiting or self.running:
                self._follow_nodes()
                self._start_what_can()
                done, _ = ray.wait(list(self.running), timeout=LOOK_S) if self.running else ([], [])
                if not self.running:
                    time.sleep(LOOK_S * bool(self.waiting))
                self._listen()
                for task in done:
                    self._settle(task)
        finally:
            for task in self.running:
                ray.cancel(task, force=True)
            for name in self.claimed.values():
                self.store.claims.release(name)
            self.said.shutdown()
        return self.broken

    def _refuse_too_large(self) -> None:
        """Fail now what fits on no node, not when hours were spent on what it builds on."""
        for stage in list(self.waiting):
            try:
                self.cluster.check_memory(stage, self.cuda, self.context.files)
            except UserError as error:
                if not self.store.is_done(stage):
                    self.waiting.remove(stage)
                    self._fail(stage, str(error), error)

    def _start_what_can(self) -> None:
        """Start what builds on nothing that is left, as long as it need not wait for long."""
        ready = list(self._ready())
        sharing = sum(computes(x) for x in (*ready, *self.running.values()))
        queued = Counter(self.cluster.queue(x, self.cuda)[0] for x in self.running.values())
        for stage in ready:
            queue, at_once = self.cluster.queue(stage, self.cuda)
            is_full = queued[queue] >= QUEUED * at_once
            if time.monotonic() < self.others.get(stage.key, 0.0):
                continue
            if is_full and stage.key in self.looked:
                continue
            self.looked.add(stage.key)
            if self.store.is_done(stage):
                self.waiting.remove(stage)
                tell_reused(stage, self.store, self.context)
                self.done(stage)
            elif not is_full and self._has_place(stage) and self._claim(stage):
                self.waiting.remove(stage)
                queued[queue] += 1
                try:
                    self._start(stage, sharing)
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

        options = self.cluster.options(stage, sharing, self.cuda, self.context.files)
        for input_ in stage.inputs.values():
            self.store.share(input_)
        before = {x.key for x in in_order([stage])}
        job = Job(
            stage=stage,
            root=self.store.root.resolve(),
            shared=self.cluster.shared,
            run=self.store.run_name if self.cluster.shared else "",
            names={key: name for key, name in self.store.names().items() if key in before},
            context=replace(self.context, progress=Sent(_nowhere)),
            cpus=int(options["num_cpus"]),
            images=self.cluster.images(self.context) if reads_images(stage) else None,
            measures=measures(stage),
        )
        task = ray.remote(_compute).options(**options).remote(job, self.said.actor)
        self.running[task] = stage
        self.places[task] = {x.id for x in self.cluster.places(stage, self.cuda)}

    def _listen(self) -> None:
        """Show what nodes say; that a stage begins may come when it is known to have ended."""
        runs = {stage.key for stage in self.running.values()}
        if count := self.said.qsize():
            for key, what, given in self.said.get_nowait_batch(count):
                if what != "stage" or key in runs:
                    self.context.progress.received(key, what, given)

    def _follow_nodes(self) -> None:
        """Use nodes that have joined; say what nodes stages wait for, if none is left."""
        if time.monotonic() < self.miss_next:
            return
        alive = alive_now()
        self.cluster.follow(alive, self.store, self.context)
        self.miss_next = time.monotonic() + CLAIM_S
        self.alive = {x["NodeID"] for x in alive}
        self._start_again()
        training = self.cluster.training
        wanted = {f"measures (resource {TIMING})": self.cluster.timing, "trains": training}
        if self.cuda:
            wanted["trains on a GPU"] = [x for x in training if x.gpus]
        for what, places in wanted.items():
            is_there = any(x.id in self.alive for x in places)
            if not is_there and what not in self.missed:
                self.context.progress.note(f"No node is left that {what}: stages wait for one.")
            (self.missed.discard if is_there else self.missed.add)(what)

    def _start_again(self) -> None:
        """Take back what waits for nodes that are gone, where others have come in their place."""
        import ray

        for task, stage in list(self.running.items()):
            if self.places[task].isdisjoint(self.alive) and self._has_place(stage):
                ray.cancel(task, force=True)
                del self.running[task], self.places[task]
                self.waiting.append(stage)

    def _has_place(self, stage: Stage) -> bool:
        """Return whether a node is alive that may compute a stage."""
        return any(x.id in self.alive for x in self.cluster.places(stage, self.cuda))

    def _settle(self, task: Any) -> None:
        """Take note of what became of a task."""
        import ray

        stage = self.running.pop(task)
        places = self.places.pop(task)
        try:
            found = ray.get(task)
        except ray.exceptions.TaskUnschedulableError:
            if places <= {x["NodeID"] for x in alive_now()}:
                raise
            self.waiting.append(stage)  # its nodes are gone, and others may come
            self.miss_next = 0.0
            return
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


def _compute(job: Job, said: Any) -> float | Failed:
    """Compute a stage in a task; it ends when the driver's queue has all that was said."""
    import ray

    sent: list[Any] = []

    def send(what: str, given: Any) -> None:
        sent.append(said.put_nowait.remote((job.stage.key, what, given)))

    job = replace(job, context=replace(job.context, progress=Sent(send)))
    found = node.compute(job, send, ray.get_runtime_context().get_node_id())
    ray.get(sent)
    return found


def _nowhere(what: str, given: Any) -> None:
    """Stand for the queue on the way to a node."""


def _only(place: Node) -> dict[str, str]:
    return {"ray.io/node-id": place.id}


def _among(places: Sequence[Node]) -> dict[str, str]:
    return {"ray.io/node-id": f"in({','.join(x.id for x in places)})"}


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
        nodes = list(nodes_of(alive_now()))
        check(nodes, node.facts())
        if shared is None:
            check_sees(nodes, out)
        yield OnRay(nodes, shared, out)
    finally:
        ray.shutdown()
