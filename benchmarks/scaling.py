"""What a Ray cluster gains, and what it costs: writes benchmarks/scaling.json and scaling.md.

    python benchmarks/scaling.py sleep        # 16 stages that sleep, on four nodes and on one
    python benchmarks/scaling.py costs        # of a stage on a cluster, and of what a store keeps
    python benchmarks/scaling.py demo         # the demo in the plain loop and with --cluster local
    python benchmarks/scaling.py trainings    # eight on two nodes of one CPU, and in one loop

Each adds its part; `trainings` also shows where trainings ran while others were timed. Nodes are
processes of this machine. Nothing else may run beside `costs`, `demo` and `trainings`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from compress.measure.machine import machine
from compress.methods.context import Context
from compress.recipe.load import load_recipe
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.cluster import TIMING
from compress.workflow.executors.executor import Executor, measures, trains
from compress.workflow.executors.local import Local
from compress.workflow.executors.ray import on_ray
from compress.workflow.run import RUNS, STAGES, run_recipe
from compress.workflow.shared import Shared

HERE = Path(__file__).parent
SLEEPING, SLEEP_S = 16, 10.0
STAGES_EACH = 8  # stages of a candidate: step, export, accuracy and layers, and their controls'
CANDIDATES, STORE_GB, CANDIDATE_S = 10_000, 100.0, 600.0  # on paper
FEW, MANY = 10, 500  # candidates of empty stages, from which costs with any number are reckoned
STORED_BYTES = 10 * 2**20
IDLE_LOAD = 0.5  # processes that wait for a CPU at most, before anything is timed
QUIET = {"object_store_memory": 80 * 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("part", choices=["sleep", "costs", "demo", "trainings"])
    part = parser.parse_args().part
    if part != "sleep" and (load := os.getloadavg()[0]) > IDLE_LOAD:
        parser.error(f"a load of {load:.1f}: wait until nothing else runs")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "sleep": slept, "costs": costs, "demo": demo, "trainings": trainings,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        found = parts[part](Path(out))
    record = HERE / "scaling.json"
    known = json.loads(record.read_text()) if record.is_file() else {}
    known[part] = found | {"cpu": machine().cpu, "on": time.strftime("%Y-%m-%d")}
    record.write_text(json.dumps(known, indent=1) + "\n")
    (HERE / "scaling.md").write_text(told(known))
    print(json.dumps(found, indent=1))


def sleeping(stage: Stage, inputs: Mapping[str, Path], folder: Path, context: Context) -> None:
    time.sleep(stage.settings["seconds"])
    if size := stage.settings.get("bytes"):
        (folder / "made").write_bytes(os.urandom(size))


def stages_of(count: int, seconds: float, **settings: Any) -> list[Stage]:
    return [
        Stage("export", f"{i}", 1, {"seconds": seconds, "number": i, **settings}, {}, sleeping)
        for i in range(count)
    ]


def candidates_of(count: int, **settings: Any) -> list[Stage]:
    """Return empty stages, of which STAGES_EACH always build on one another."""
    stages: list[Stage] = []
    for stage in stages_of(count * STAGES_EACH, 0, **settings):
        inputs = {"before": stages[-1]} if len(stages) % STAGES_EACH else {}
        stages.append(replace(stage, inputs=inputs))
    return stages


class Counting(Shared):
    """A store that counts what this process asks of it."""

    asked = 0

    @contextmanager
    def _telling(self, *expected: type[Exception]) -> Iterator[None]:
        self.asked += 1
        with super()._telling(*expected):
            yield


@contextmanager
def cluster_of(nodes: int) -> Iterator[str]:
    """Start a head, a node that measures and some of one CPU each; give their address."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, **QUIET}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, resources={TIMING: 1}, **QUIET)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, **QUIET)
    cluster.wait_for_nodes()
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def seconds_of(executor: Executor, stages: list[Stage], out: Path) -> float:
    progress = Progress(Console(quiet=True))
    context = Context(
        seed=0, device=torch.device("cpu"), threads=1, allowed=(), progress=progress,
        data_path=None, files={}, tables=out, machine=machine(),
    )  # fmt: skip
    with progress.tree({stage.key: stage.title for stage in stages}):
        started = time.perf_counter()
        failed = executor.run(stages, Store(out / RUNS / STAGES, shared=executor.shared), context)
    assert not failed, failed
    return time.perf_counter() - started


def slept(out: Path) -> dict[str, Any]:
    """Sixteen stages that sleep, on one node and on four, whose processes have been started."""
    found = {}
    for nodes in (1, 4):
        with cluster_of(nodes) as address, on_ray(address, None, out) as cluster:
            warm = stages_of(nodes, 5.0, warm=nodes)
            seconds_of(cluster, warm, out / f"warm{nodes}")
            stages = stages_of(SLEEPING, SLEEP_S)
            found[f"nodes_{nodes}_s"] = seconds_of(cluster, stages, out / f"{nodes}")
    return found | {"times": found["nodes_1_s"] / found["nodes_4_s"]}


def costs(out: Path) -> dict[str, Any]:
    """What a stage costs on a cluster: empty or not, without a store and with a shared folder."""
    few = candidates_of(FEW)
    found: dict[str, Any] = {"plain_s": seconds_of(Local(), few, out / "plain") / len(few)}
    with cluster_of(1) as address:
        for name, shared in (("ray", None), ("store", Counting(str(out / "shared")))):
            with on_ray(address, shared, out) as cluster:
                seconds_of(cluster, stages_of(1, 0, warm=name), out / f"warm_{name}")
                for count in (FEW, MANY):
                    stages = candidates_of(count, of=name, among=count)
                    asked, driver_s = shared.asked if shared else 0, time.process_time()
                    took_s = seconds_of(cluster, stages, out / f"{name}_{count}")
                    found[f"{name}_{count}"] = {
                        "stage_s": took_s / len(stages),
                        "driver_cpu_s": (time.process_time() - driver_s) / len(stages),
                        "asked": (shared.asked - asked) / len(stages) if shared else 0,
                    }
                stages = candidates_of(FEW, of=name, bytes=STORED_BYTES)
                took_s = seconds_of(cluster, stages, out / f"{name}_bytes")
                found[f"{name}_bytes_s"] = took_s / len(stages)
    return found


def demo(out: Path) -> dict[str, Any]:
    """The demo from nothing: the plain loop, and a cluster of this machine, its start included."""
    recipe, found = Path("recipes/distill_shufflenet.yaml"), {"plain_s": [], "local_s": []}
    for i, name in enumerate(("plain_s", "local_s", "local_s", "plain_s")):
        started = time.perf_counter()
        if name == "plain_s":
            run(recipe, out / f"{i}", Local())
        else:
            with on_ray("local", None, out / f"{i}") as cluster:
                run(recipe, out / f"{i}", cluster)
        found[name].append(time.perf_counter() - started)
    return found | {"more": sum(found["local_s"]) / sum(found["plain_s"]) - 1}


def run(recipe: Path, out: Path, executor: Executor) -> None:
    """Runs a recipe to its end.

    Raises:
        SystemExit: a candidate failed, so that its time would say nothing.
    """
    progress = Progress(Console(quiet=True), out / "run.log")
    _, failed = run_recipe(load_recipe(recipe), out, progress, "compress run", executor=executor)
    if failed:
        raise SystemExit(f"{recipe}: {failed[0]}")


def trainings(out: Path) -> dict[str, Any]:
    """Eight small trainings on two nodes of one CPU each, and in one loop with two threads."""
    recipe = yaml.safe_load(Path("recipes/distill_shufflenet.yaml").read_text())
    ((_, (step,)),) = recipe.pop("candidates").items()
    settings = step["distill"] | {"control": False}
    # What auto chooses depends on the number of threads, of which the two have different ones.
    recipe["teacher"]["train"]["precision"] = "float32"
    settings["train"] = settings["train"] | {"epochs": 4, "precision": "float32"}
    rates = [1e-3 * (1 + i / 8) for i in range(8)]
    recipe["candidates"] = {
        f"student_{i}": [{"distill": settings | {"train": settings["train"] | {"lr": lr}}}]
        for i, lr in enumerate(rates)
    }
    path = out / "eight.yaml"
    path.write_text(yaml.safe_dump(recipe))
    torch.set_num_threads(2)
    started = time.perf_counter()
    run(path, out / "loop", Local())
    found: dict[str, Any] = {"loop_s": time.perf_counter() - started}
    with cluster_of(2) as address, on_ray(address, None, out / "cluster") as cluster:
        started = time.perf_counter()
        run(path, out / "cluster", cluster)
        found["cluster_s"] = time.perf_counter() - started
    for name in ("loop", "cluster"):
        files = (out / name / RUNS / STAGES).glob("*/stage.json")
        kinds = {file: file.parent.name.rpartition("-")[0] for file in files}
        records = [json.loads(file.read_text()) | {"kind": kind} for file, kind in kinds.items()]
        trained = [x for x in records if x["kind"] == "step"]
        if len(trained) != len(rates):
            raise SystemExit(f"{len(trained)} trainings of {len(rates)} in {name}")
        if name == "loop":  # it judges each before the next is trained: only trainings count
            found["loop_trainings_s"] = sum(x["seconds"] for x in trained)
    judged = [x["seconds"] for x in records if x["kind"] in ("accuracy", "layers")]
    found["cluster_judging_s"] = sum(judged) / (len(rates) + 1)  # the teacher is judged, too
    began, ended = min(x["began"] for x in trained), max(map(end_of, trained))
    return found | {"cluster_trainings_s": ended - began, "nodes": nodes_told(records)}


def end_of(record: Mapping[str, Any]) -> float:
    return float(record["began"] + record["seconds"])


def nodes_told(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many trainings ran on the node that measured, and on others while it did."""
    as_stage = {i: Stage(x["kind"], x["title"], 1, x["settings"]) for i, x in enumerate(records)}
    measured = [x for i, x in enumerate(records) if measures(as_stage[i])]
    trained = [x for i, x in enumerate(records) if trains(as_stage[i])]
    timing = {x["where"]["node"] for x in measured}
    beside = [
        x for x in trained
        if x["where"]["node"] not in timing
        and any(x["began"] < end_of(m) and m["began"] < end_of(x) for m in measured)
    ]  # fmt: skip
    return {
        "that_measured": len(timing),
        "that_trained": len({x["where"]["node"] for x in trained}),
        "trainings": len(trained),
        "trainings_on_a_node_that_measured": sum(x["where"]["node"] in timing for x in trained),
        "trainings_elsewhere_while_it_measured": len(beside),
    }


def told(known: Mapping[str, Any]) -> str:
    """Return the page."""
    lines = ["# What a cluster gains, and what it costs", ""]
    lines += ["`python benchmarks/scaling.py PART` wrote this; nodes are processes of one machine."]
    if part := known.get("sleep"):
        lines += [
            "",
            "## Stages that sleep",
            "",
            f"{SLEEPING} stages that sleep {SLEEP_S:g} s: {part['nodes_1_s']:.1f} s on one node of "
            f"one CPU, {part['nodes_4_s']:.1f} s on four: **{part['times']:.2f} times** as fast "
            f"(asked: 3.6). {part['cpu']}, {part['on']}.",
        ]
    if part := known.get("demo"):
        lines += [
            "",
            "## The demo",
            "",
            f"`recipes/distill_shufflenet.yaml` from nothing, in turns: {_each(part['plain_s'])} s "
            f"in the plain loop, {_each(part['local_s'])} s with `--cluster local`, its start "
            f"included: **{part['more']:+.1%}** of their sums (asked: under +5 %). {part['cpu']}, "
            f"{part['on']}.",
        ]
    if part := known.get("trainings"):
        nodes = part["nodes"]
        lines += [
            "",
            "## Eight small trainings",
            "",
            f"On two nodes of one CPU each {part['cluster_trainings_s']:.0f} s from the first's "
            f"beginning to the last's end, in one loop with two threads "
            f"{part['loop_trainings_s']:.0f} s of training (whole runs, with the teacher's "
            f"training: {part['cluster_s']:.0f} s and {part['loop_s']:.0f} s). The node that "
            "measures shares these two CPUs, and while it times anything, trainings of the "
            "machine wait: on machines of their own they would not. All in float32. "
            f"{part['cpu']}, {part['on']}.",
            "",
            f"From the stages' records: of {nodes['trainings']} trainings "
            f"{nodes['trainings_on_a_node_that_measured']} ran on the node that measured, and "
            f"{nodes['trainings_elsewhere_while_it_measured']} ran on others while it did.",
        ]
    if (part := known.get("costs")) and (trained := known.get("trainings")):
        lines += ["", *paper(part, trained["cluster_judging_s"])]
    return "\n".join(lines) + "\n"


def _each(seconds: list[float]) -> str:
    return " and ".join(f"{x:.0f}" for x in seconds)


def paper(part: Mapping[str, Any], judging_s: float) -> list[str]:
    """Return where it saturates, from measured costs.

    Args:
        judging_s: accuracy and layers of a candidate.
    """
    few, many = part[f"store_{FEW}"], part[f"store_{MANY}"]
    stages = CANDIDATES * STAGES_EACH
    # The driver looks through all that waits whenever a stage ends: of n stages half on average.
    growth_s = (many["driver_cpu_s"] - few["driver_cpu_s"]) / (MANY - FEW) / STAGES_EACH
    driver_s = few["driver_cpu_s"] + max(growth_s, 0.0) * stages
    bytes_s = STORED_BYTES / max(part["store_bytes_s"] - few["stage_s"], 1e-9)
    slots = CANDIDATE_S / STAGES_EACH / driver_s
    slow_s = 0.05 * many["asked"]
    return [
        f"## On paper: {CANDIDATES:,} candidates, {STORE_GB:.0f} GB",
        "",
        f"| measured, {STAGES_EACH} stages a candidate | {FEW} candidates | {MANY} candidates |",
        "| --- | --: | --: |",
        f"| an empty stage in the plain loop | {1e3 * part['plain_s']:.0f} ms | |",
        *(
            f"| {what} | {_ms(part[f'{name}_{FEW}'][key])} | {_ms(part[f'{name}_{MANY}'][key])} |"
            for what, name, key in (
                ("the same as a task of a cluster", "ray", "stage_s"),
                ("of which the driver computes", "ray", "driver_cpu_s"),
                ("the same with a shared folder as store", "store", "stage_s"),
                ("of which the driver computes", "store", "driver_cpu_s"),
            )
        ),
        f"| what the driver asks of the store, times a stage | {few['asked']:.1f} | "
        f"{many['asked']:.1f} |",
        f"| a stage that writes {STORED_BYTES / 2**20:.0f} MiB, with the store | "
        f"{_ms(part['store_bytes_s'])} | |",
        "",
        f"({part['cpu']}, {part['on']}; one node of one CPU, so that these add up.)",
        "",
        f"{CANDIDATES:,} candidates are {stages:,} stages. With so many the driver is reckoned to "
        f"compute {1e3 * driver_s:.1f} ms a stage, {stages * driver_s / 3600:.1f} hours in all. "
        f"{STORE_GB:.0f} GB through this store take {STORE_GB * 1e9 / bytes_s / 60:.0f} minutes "
        f"({bytes_s / 1e6:.0f} MB/s), shared by as many nodes as it serves at once.",
        "",
        f"* **What measures saturates first.** A stage that measures has a node to itself; at "
        f"{judging_s:.1f} s for a candidate's accuracy and layers (measured with the trainings "
        f"above), one timing node takes {CANDIDATES * judging_s / 3600:.1f} hours. Trainings of "
        f"{CANDIDATE_S / 60:.0f} minutes on n nodes take "
        f"{CANDIDATES * CANDIDATE_S / 3600:,.0f} / n hours: beyond {CANDIDATE_S / judging_s:.0f} "
        "nodes the timing node is what all wait for. More nodes of its very kind help with all but "
        "the latency stage; accuracy alone could go to any node of the same instructions.",
        "* **The latency stage is one stage.** It times all rows in turns, in a few processes that "
        "hold every file: with 10,000 files neither memory nor patience suffices. Rows would have "
        "to be timed in groups that share the teacher, or only those that the front needs.",
        f"* **The driver**, at {CANDIDATE_S / STAGES_EACH:.0f} s a stage, feeds about {slots:,.0f} "
        f"slots before they wait for it. Where each answer of the store takes 50 ms, as a distant "
        f"bucket's may, its {many['asked']:.1f} questions a stage take {slow_s:.2f} s, one after "
        f"another, and it feeds {CANDIDATE_S / STAGES_EACH / (slow_s + driver_s):,.0f}. Beyond, it "
        "would keep a count of what each stage waits for instead of looking through all, list the "
        "store once instead of asking for each stage, and send a graph's names instead of its "
        "ancestors.",
        "* **Decoded images** are made on each node (they do not travel), so a store of 100 GB of "
        "images costs every node its download once; a file system that all mount is better there.",
        "* `reuse_other_machine` reads the record of each finished stage of a kind: at 10,000 that "
        "is minutes. An index by likeness would answer at once.",
    ]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"


if __name__ == "__main__":
    main()
