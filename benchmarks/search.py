"""Does a search keep what it promises, and is it better than trying at random?

    python benchmarks/search.py search --seed 0 --out SOMEWHERE     # twenty minutes each
    python benchmarks/search.py random --seed 0 --out SOMEWHERE
    python benchmarks/search.py report                              # benchmarks/search.md, .svg

The task is that of recipes/search.yaml, synthetic whales; a seed draws the weights, the split and
the trials. The pick of a search is judged on 3,000 more images of the same individuals, which no
part of it has seen. "At random" means Optuna's random sampler over the same candidates, each
trained with its whole schedule, no order, no halving, nothing timed before it is trained.

Both are measured alike: after each trial, the area under the front of speedup (in doublings, from
1x) and accuracy (from 0), by all validation images. Nothing else may run meanwhile: each waits for
the other. Both go on where they were stopped, and their time with them. Each seed is one record,
the last one that was made; one that failed counts as not held.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import log2
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import optuna
from rich.console import Console

from compress.analysis.budget import Budget
from compress.measure.evaluate import evaluate_file
from compress.recipe.load import load_recipe
from compress.report import charts
from compress.results.file import read
from compress.results.schema import Result
from compress.search.lab import StageLab, TimeUp
from compress.search.run import Found, search_recipe
from compress.search.schedule import rungs
from compress.tasks.differences import lost
from compress.utils.alone import alone_on_machine
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.progress import Progress
from compress.workflow.run import alone
from teachers.synthetic_whales import _name, _owners, heads

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "search.yaml"
RECORDS = HERE / "search.jsonl"
WITHIN_S, FRESH = 1200.0, 3000
BUDGET = Budget(speedup=8, max_accuracy_drop=0.02)
Point = tuple[float, float]  # speedup, accuracy
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("search", "random", "report"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="gets the runs; a disk with 5 GB left")
    asked = parser.parse_args()
    if asked.what != "report" and asked.out is None:
        parser.error("give --out, a folder for the runs")
    if asked.what == "report" and not RECORDS.is_file():
        parser.error(f"{RECORDS} is not there: search first, with several seeds")
    if asked.what == "report":
        (HERE / "search.md").write_text("\n".join(_report(_records())) + "\n", "utf-8")
        return
    out = asked.out / f"{asked.what}-{asked.seed}"
    try:
        record = (_searched if asked.what == "search" else _at_random)(asked.seed, out)
    except UserError as error:
        record = {"failed": str(error), "front": []}
        print(f"It failed: {error}")
    _keep({"what": asked.what, "seed": asked.seed, **record})


def _keep(record: Record) -> None:
    """Write a record in the place of the one of the same seed, if there is one."""
    known = {(x["what"], x["seed"]): x for x in (_records() if RECORDS.is_file() else [])}
    known[record["what"], record["seed"]] = record
    write_text(RECORDS, "".join(f"{json.dumps(each)}\n" for each in known.values()))


def _searched(seed: int, out: Path) -> Record:
    recipe = load_recipe(RECIPE, assignments=[f"seed={seed}"])
    found = search_recipe(
        recipe, BUDGET, WITHIN_S, out,
        lambda on_epoch: Progress(Console(width=120), out / "log", on_epoch),
        print, "compress search recipes/search.yaml",
    )  # fmt: skip
    search = found.search
    return {
        "spent_s": search.spent_s,
        "overhead_s": search.overhead_s,
        "tried": len(search.trials),
        "ended": search.ended,
        "front": [[at_s, _area(points)] for at_s, points in _growing(out, found)],
        "pick": _proven(found, out, recipe.data.settings) if found.choice.picked else None,
    }


def _growing(out: Path, found: Found) -> Iterator[tuple[float, list[Point]]]:
    """Yield when each rung was trained, and the points that there were by then."""
    points: list[Point] = []
    pieces = [
        (piece.begun_s + piece.seconds, trial.candidate, rung)
        for trial in found.search.trials
        for rung, piece in enumerate(p for p in trial.pieces if p.trained)
    ]
    for at_s, candidate, rung in sorted(pieces):
        rows = read(out / "runs" / "search" / "trials" / f"{candidate}-{rung}.jsonl").rows
        points += _points(rows)
        yield at_s, list(points)


def _points(rows: Sequence[Result]) -> list[Point]:
    return [
        (row.speedup.ratio.value, row.accuracy.top1.value)
        for row in rows
        if row.role == "candidate" and row.speedup and row.dropped is None
    ]


def _area(points: Sequence[Point]) -> float:
    """Return the area that the points dominate, in doublings of speed times share of accuracy."""
    area, reached = 0.0, 0.0
    for speedup, accuracy in sorted(points, key=lambda p: -p[0]):
        if accuracy > reached and speedup > 1:
            area += log2(speedup) * (accuracy - reached)
            reached = accuracy
    return area


def _proven(found: Found, out: Path, settings: dict[str, int]) -> Record:
    """Judge the pick and the teacher on fresh images of the same individuals."""
    picked = found.choice.picked
    assert picked is not None
    fresh = _fresh(out / "fresh", settings)
    row = next(x for x in found.rows if x.key == picked.key)
    teacher = next(x for x in found.rows if x.key == row.reference)
    theirs, own = (
        evaluate_file(
            out / x.artifact.path, fresh, split="all", runtime=x.artifact.runtime
        ).accuracy
        for x in (teacher, row)
    )
    drop, _ = lost(theirs, own)
    proof = next(x for x in found.search.proofs if x.candidate == row.candidate)
    assert row.speedup is not None
    return {
        "candidate": f"{row.candidate} in {row.artifact.runtime}",
        "speedup": row.speedup.ratio.model_dump(),
        "searched_drop": proof.searched_drop and proof.searched_drop.value,
        "kept_drop": proof.drop and proof.drop.value,
        "fresh_drop": drop.model_dump(),
        "teacher": theirs.top1.value,
    }


def _fresh(folder: Path, settings: dict[str, int]) -> Path:
    """Make images of the same individuals that come after all that the recipe has."""
    if (folder / "train.csv").is_file():
        return folder
    given = dict(settings)
    known = given["pictures"] + given["unlabelled"]
    more = given["unlabelled"] + FRESH
    heads(folder, **(given | {"unlabelled": more}))
    owners = _owners(given["individuals"], given["pictures"], more, given.get("seed", 0))
    for number in range(known):
        (folder / "imgs" / _name(number)).unlink()
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["Image", "whaleID"])
        writer.writerows((_name(n), f"whale_{owners[n]:05d}") for n in range(known, known + FRESH))
    return folder


@dataclass
class AtRandom:
    """How far trying at random is, in a file from which it goes on."""

    file: Path
    spent_s: float = 0.0
    tried: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    front: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def at(cls, file: Path) -> "AtRandom":
        """Return what the file has, or a beginning."""
        known = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        return cls(file, **known)

    def keep(self, spent_s: float) -> None:
        """Write down where it is."""
        self.spent_s = spent_s
        known = {name: value for name, value in asdict(self).items() if name != "file"}
        write_text(self.file, json.dumps(known))


def _at_random(seed: int, out: Path) -> Record:
    """Train whole candidates as Optuna's random sampler draws them, until the time is up."""
    recipe = load_recipe(RECIPE, assignments=[f"seed={seed}"])
    with alone_on_machine("search", print):
        done = AtRandom.at(out / "random.json")
        begun = time.monotonic() - done.spent_s

        def spent_s() -> float:
            return time.monotonic() - begun

        def is_up_after_epoch() -> bool:
            done.keep(spent_s())
            return done.spent_s > WITHIN_S

        lab = StageLab(
            recipe, out,
            lambda on_epoch: Progress(Console(width=120), out / "log", on_epoch),
            "benchmarks/search.py", (), is_up_after_epoch,
        )  # fmt: skip
        with alone(out, lab.progress):
            lab.teacher()
            for name in _drawn(list(recipe.candidates), seed):
                if spent_s() >= WITHIN_S:
                    break
                if name in done.tried:
                    continue
                try:
                    whole = rungs(recipe.candidates[name])[-1]
                    done.points += _points(lab.trained(name, whole, name))
                except TimeUp:
                    break
                except UserError as error:
                    print(f"{name} failed: {error}")
                done.tried.append(name)
                done.front.append((spent_s(), _area(done.points)))
                done.keep(spent_s())
        return {"spent_s": done.spent_s, "tried": len(done.tried), "front": done.front}


def _drawn(candidates: Sequence[str], seed: int) -> Iterator[str]:
    """Yield each candidate once, in the order in which Optuna's random sampler draws them first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    seen = set[str]()
    while len(seen) < len(candidates):
        name = str(study.ask().suggest_categorical("candidate", list(candidates)))
        if name not in seen:
            seen.add(name)
            yield name


def _records() -> list[Record]:
    return [json.loads(line) for line in RECORDS.read_text("utf-8").splitlines()]


def _report(records: Sequence[Record]) -> Iterator[str]:
    searches = [x for x in records if x["what"] == "search"]
    yield "# A search against its promise, and against trying at random"
    yield ""
    yield f"Made by `benchmarks/search.py`. Asked: {BUDGET}, within {WITHIN_S / 60:.0f} minutes."
    yield ""
    yield (
        "| seed | pick | times faster | lost, searched images | kept images | "
        "3,000 fresh ones (95 %) | holds | tried | minutes | deciding, s | of the time, % |"
    )
    yield "| --: | :-- | --: | --: | --: | --: | :-- | --: | --: | --: | --: |"
    held = sure = 0
    for each in searches:
        if "failed" in each:
            yield f"| {each['seed']} | failed: {each['failed']} | | | | | no | | | | |"
            continue
        pick = each["pick"]
        if pick is None:
            yield f"| {each['seed']} | nothing fitted | | | | | no | {_cost(each)} |"
            continue
        drop, speedup = pick["fresh_drop"], pick["speedup"]
        holds = drop["value"] <= 0.02 and speedup["value"] >= 8
        held += holds
        sure += drop["high"] <= 0.02 and speedup["low"] >= 8
        yield (
            f"| {each['seed']} | {pick['candidate']} | {speedup['value']:.1f} | "
            f"{100 * pick['searched_drop']:.1f} | {100 * pick['kept_drop']:.1f} | "
            f"{100 * drop['value']:.1f} ({100 * drop['low']:.1f} to {100 * drop['high']:.1f}) | "
            f"{'yes' if holds else 'no'} | {_cost(each)} |"
        )
    yield ""
    yield (
        f"By point estimate {held} of {len(searches)} picks hold on fresh images, with 95 % "
        f"confidence {sure}."
    )
    at_random = [x for x in records if x["what"] == "random" and "failed" not in x]
    if at_random:
        (HERE / "search.svg").write_text(charts.svg(_picture(records)), "utf-8")
        yield ""
        yield "![area under the front over time](search.svg)"
        yield ""
        ends = [[x["front"][-1][1] for x in part if x["front"]] for part in (searches, at_random)]
        yield (
            "Area under the front at the end (doublings of speed times accuracy, from 1x and "
            f"0 %), median: {median(ends[0]):.2f} by search, {median(ends[1]):.2f} at random."
        )


def _cost(record: Record) -> str:
    spent_s, overhead_s = record["spent_s"], record["overhead_s"]
    return (
        f"{record['tried']} | {spent_s / 60:.1f} | {overhead_s:.1f} | "
        f"{100 * overhead_s / spent_s:.1f}"
    )


def _picture(records: Sequence[Record]) -> charts.Spec:
    data = [
        {"what": x["what"], "run": f"{x['what']} {x['seed']}", "minutes": at_s / 60, "area": area}
        for x in records
        for at_s, area in x["front"]
    ]
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("minutes:Q", title="minutes"),
            y=alt.Y("area:Q", title="area under the front, doublings x accuracy"),
            color=alt.Color("what:N", title=None).scale(range=[charts.ORANGE, charts.BLUE]),
            detail="run:N",
        )
    )
    return charts.spec(chart, height=300)


if __name__ == "__main__":
    main()
