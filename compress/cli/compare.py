"""`compress compare`: did a model get better or worse?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.analysis.explain import name
from compress.report.failures import failure_line
from compress.results.merge import load
from compress.utils import units
from compress.utils.errors import GotWorse, UserError
from compress.utils.quantities import behind, parse_share
from compress.utils.text import plain

if TYPE_CHECKING:
    from compress.analysis.regressions import Change, Comparison, Pair


def compare(
    before: Annotated[Path, typer.Argument(help="A report or run folder.")],
    after: Annotated[Path, typer.Argument(help="Another one of the same candidates.")],
    accuracy_tolerance: Annotated[
        str, typer.Option(help="Top-1 that may be lost: 1%, or 0.01, is one point.")
    ] = "0",
    latency_tolerance: Annotated[
        str, typer.Option(help="How much slower it may get: 5%, or 0.05.")
    ] = "5%",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say what got better or worse between two reports, candidate by candidate.

    Exits with code 4 when the accuracy or the latency of a row got worse by more than is tolerated
    and that is significant, so that a CI job can guard a model. Latency is compared only where both
    reports were measured on the same kind of machine.
    """
    from compress.analysis.regressions import (
        compare as compare_rows,  # here: scipy takes a while to load
    )

    found = [load([path]) for path in (before, after)]
    for line in [line for _, _, damaged in found for line in damaged]:
        typer.echo(f"Left out: {plain(line)}", err=True)
    (old, _, _), (new, failed, _) = found
    for failure in failed:
        typer.echo(failure_line(failure), err=True)
    lost = behind("--accuracy-tolerance", parse_share, accuracy_tolerance)
    slower = behind("--latency-tolerance", parse_share, latency_tolerance)
    if lost > 1:
        raise UserError(
            f"--accuracy-tolerance {accuracy_tolerance} is more than all: 5% is 5 points."
        )
    comparison = compare_rows(old, new, lost, slower)
    if not comparison.pairs:
        raise UserError(
            f"Nothing to compare: no candidate of {before} is deployed in the same runtime in "
            f"{after}. Compare reports of one recipe."
        )
    if as_json:
        typer.echo(json.dumps(_as_json(comparison), indent=2))
    else:
        for line in _lines(comparison):
            typer.echo(plain(line))
    if comparison.is_worse:
        worse = [name(pair.after) for pair in comparison.pairs if _beyond(pair)]
        raise GotWorse(plain(f"Got worse by more than is tolerated: {', '.join(worse)}."))


def _beyond(pair: "Pair") -> bool:
    return pair.accuracy.beyond or bool(pair.latency and pair.latency.beyond)


def _lines(comparison: "Comparison") -> Iterator[str]:
    tests = len(comparison.changes)
    yield (
        f"{len(comparison.pairs)} rows, {tests} comparisons; p-values are corrected for that "
        "(Holm), intervals are not."
    )
    for pair in comparison.pairs:
        yield name(pair.after)
        yield f"  top-1: {_accuracy(pair.accuracy)}"
        yield f"  time: {_latency(pair.latency) if pair.latency else _unjudged(pair)}"
        yield f"  size: {_size(pair)}"
    yield from (f"Appeared: {row}" for row in comparison.appeared)
    yield from (f"Vanished: {row}" for row in _vanished(comparison))


def _vanished(comparison: "Comparison") -> list[str]:
    return [
        f"{row}: dropped. {reason}" if reason is not None else str(row)
        for row, reason in comparison.vanished.items()
    ]


def _accuracy(change: "Change") -> str:
    return (
        f"{units.percent(change.before)} to {units.percent(change.after)} %, "
        f"{units.points(change.change.value)} points (95 % interval "
        f"{units.points(change.change.low)} to {units.points(change.change.high)}, {change.how}), "
        f"{_verdict(change)}"
    )


def _latency(change: "Change") -> str:
    ratio = change.change
    return (
        f"{units.ms(change.before)} to {units.ms(change.after)} ms, "
        f"{units.significant(ratio.value)} times as long (95 % interval "
        f"{units.significant(ratio.low)} to {units.significant(ratio.high)}, {change.how}), "
        f"{_verdict(change)}"
    )


def _unjudged(pair: "Pair") -> str:
    times = f"{units.ms(pair.before.latency_s)} and {units.ms(pair.after.latency_s)} ms"
    return f"{times}, not compared: {pair.not_judged}"


def _size(pair: "Pair") -> str:
    old, new = pair.before.artifact, pair.after.artifact
    size = f"{units.megabytes(old.size_bytes)} to {units.megabytes(new.size_bytes)} MB"
    if old.sha256 == new.sha256:
        return f"{size}, the same file"
    larger, smaller = new.size_bytes > old.size_bytes, new.size_bytes < old.size_bytes
    return f"{size}, {'worse' if larger else 'better' if smaller else 'the same'}"


def _verdict(change: "Change") -> str:
    verdict = change.verdict.upper() if change.beyond else change.verdict
    p = "< 0.001" if change.p < 0.001 else f"= {units.significant(change.p, 2)}"
    return f"p {p}: {verdict}"


def _as_json(comparison: "Comparison") -> dict[str, object]:
    """Return the same in seconds, bytes and fractions; of latency the ratio after / before."""
    return {
        "is_worse": comparison.is_worse,
        "comparisons": len(comparison.changes),
        "rows": [
            {
                "candidate": pair.after.candidate,
                "runtime": pair.after.artifact.runtime,
                "accuracy": _change(pair.accuracy),
                "latency_s": _change(pair.latency),
                "latency_not_judged": pair.not_judged,
                "size_bytes": {
                    "before": pair.before.artifact.size_bytes,
                    "after": pair.after.artifact.size_bytes,
                },
            }
            for pair in comparison.pairs
        ],
        "appeared": list(map(str, comparison.appeared)),
        "vanished": _vanished(comparison),
    }


def _change(change: "Change | None") -> dict[str, object] | None:
    if change is None:
        return None
    return {
        "before": change.before,
        "after": change.after,
        "change": change.change.model_dump(),
        "how": change.how,
        "p": change.p,
        "verdict": change.verdict,
        "beyond_tolerance": change.beyond,
    }
