"""A Ray cluster: reached or started, its nodes asked what they are and checked."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compress.measure.machine import usable_threads
from compress.utils.errors import UserError
from compress.workflow.executors import node
from compress.workflow.executors.node import Facts

TIMING = "compress_timing"  # the resource of nodes that measure
CONNECT_S, ANSWER_S = 10.0, 120.0  # that an address and a node are given to answer
# Ray speaks gRPC, so HTTP/2: each side begins with a frame of settings (RFC 9113).
SETTINGS = b"\x04"
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00" + SETTINGS + bytes(5)


@dataclass(frozen=True)
class Node:
    """One of the cluster that has been asked what it is."""

    id: str
    name: str
    cpus: int
    gpus: int
    memory_bytes: int
    times: bool  # whether it is there to measure
    facts: Facts


def connect(address: str, allowed: Sequence[str]) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody that it runs
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        try:
            ray.init(
                "local",
                num_cpus=usable_threads(),
                resources={TIMING: 1},
                include_dashboard=False,
                **quiet,
            )
        except OSError as error:
            raise UserError(
                f"Ray cannot start on this machine: {error}. Set RAY_TMPDIR to a folder with a "
                "short path that may be written to."
            ) from error
        return
    _knock(address)
    modules = [str(path) for name in allowed if (path := _lies(name)) is not None]
    environment = {"py_modules": modules} if modules else None
    try:
        ray.init(address, runtime_env=environment, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"--cluster {address}: {error} (Python and Ray have to be of the same version "
            "everywhere, and this machine one of the cluster's nodes, unless the address begins "
            "with ray://)."
        ) from error


def _lies(module: str) -> Path | None:
    """Return the folder of a package, or the file of a module; None where it is not found."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _knock(address: str) -> None:
    """See whether anybody answers at an address that names a port.

    Raises:
        UserError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as there:
            there.settimeout(CONNECT_S)
            there.sendall(GREETING)
            hidden = os.environ.get("RAY_USE_TLS") == "1"
            is_ray = hidden or there.recv(9)[3:4] == SETTINGS
            said = "" if is_ray else "what answers is no Ray"
    except OSError as error:
        said = str(error)
    if said:
        raise UserError(
            f"--cluster {address}: nothing answers there ({said}). Start a cluster with "
            f"`ray start --head --resources '{{\"{TIMING}\": 1}}'`, or give --cluster local."
        )


def ask(ids: Sequence[str], question: Callable[..., Any], *given: Any) -> list[Any]:
    """Return what each node answers.

    Raises:
        UserError: one does not, or has no such package.
    """
    import ray

    tasks = [
        ray.remote(question)
        .options(num_cpus=0, label_selector={"ray.io/node-id": which})
        .remote(*given)
        for which in ids
    ]
    try:
        return list(ray.get(tasks, timeout=ANSWER_S))
    except ray.exceptions.GetTimeoutError as error:
        raise UserError(f"A node of the cluster did not answer in {ANSWER_S:.0f} s.") from error
    except (ray.exceptions.RayError, RuntimeError, ImportError) as error:
        raise UserError(
            f"A node of the cluster cannot be asked: {str(error).strip().splitlines()[-1]} "
            "(compress has to be installed on all, in the same version)."
        ) from error


def alive_now() -> list[dict[str, Any]]:
    """Return what Ray tells of the nodes that are alive and compute."""
    import ray

    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [x for x in known if x["Alive"] and x["Resources"].get("CPU", 0) >= 1]


def nodes_of(alive: Sequence[Mapping[str, Any]]) -> Iterator[Node]:
    """Yield nodes, as Ray tells of them, with what they say of themselves."""
    for told, said in zip(alive, ask([x["NodeID"] for x in alive], node.facts), strict=True):
        has = told["Resources"]
        yield Node(
            id=told["NodeID"],
            name=told["NodeManagerHostname"],
            cpus=int(has["CPU"]),
            gpus=int(has.get("GPU", 0)),
            memory_bytes=int(has.get("memory", 0)),
            times=has.get(TIMING, 0) >= 1,
            facts=said,
        )


def check(nodes: Sequence[Node], here: Facts) -> None:
    """Refuse a cluster whose nodes are not as they have to be.

    Raises:
        UserError: says which, and what to do.
    """
    for each in nodes:
        there = each.facts
        for what, theirs, ours in (
            ("Python", there.python, here.python),
            ("compress", there.version, here.version),
            ("the text of compress", there.source, here.source),
        ):
            if theirs != ours:
                raise UserError(
                    f"{each.name} has {what} {theirs}, and here it is {ours}: what stages make "
                    "would differ. Install the same version on all."
                )
    timing = [x for x in nodes if x.times]
    if not timing:
        raise UserError(
            f"No node of the cluster is there to measure: start one, on a machine like that which "
            f"will serve, with `ray start --resources '{{\"{TIMING}\": 1}}'`."
        )
    kinds = {
        x.facts.machine.model_copy(update={"memory_bytes": 0}).model_dump_json() for x in timing
    }
    if len(kinds) > 1 or len({x.cpus for x in timing}) > 1:
        names = ", ".join(x.name for x in timing)
        raise UserError(
            f"The nodes with the resource {TIMING} ({names}) are not of one kind, so their times "
            "cannot be compared: give it to those of one kind alone."
        )


def check_sees(nodes: Sequence[Node], out: Path) -> None:
    """Refuse nodes that do not see the folder of a run."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".cluster-", dir=out.resolve()) as file:
        seen = ask([x.id for x in nodes], node.is_there, Path(file.name))
    blind = [x.name for x, sees in zip(nodes, seen, strict=True) if not sees]
    if blind:
        raise UserError(
            f"{', '.join(blind)} do not see {out.resolve()}: mount it there under the same path, "
            "or give a --store that all reach."
        )
