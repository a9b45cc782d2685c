"""What a report says of a search: the proof, what was tried when and why it ended, the front."""

from dataclasses import dataclass

import altair as alt

from compress.analysis.search_front import front_after
from compress.report.charts import BLUE, GREY, ORANGE, Spec, spec
from compress.results.search import Proof, Search, Trial
from compress.utils import units
from compress.utils.text import plain
from compress.utils.text_table import TextTable

GREEN = "#009E73"  # Okabe and Ito's, as those of the other charts
COLOURS = {
    "timed untrained": GREY,
    "trained to the end": BLUE,
    "trained, then stopped": ORANGE,
    "trained, the time was up": GREEN,
}
STATES = {
    "complete": "to the end",
    "stopped": "stopped",
    "slow": "too slow",
    "failed": "failed",
    "begun": "the time was up",
}


@dataclass(frozen=True)
class SearchPart:
    """Sentences and tables; nothing in them is escaped."""

    said: list[str]
    tables: list[TextTable]


def search_part(search: Search) -> SearchPart:
    """Arrange what a search did."""
    tried = len(search.trials)
    said = [
        f"{search.ended}",
        f"{tried} candidates were tried in {units.duration(search.spent_s)} of "
        f"{units.duration(search.within_s)}; {units.duration(search.overhead_s)} of it went into "
        "deciding what to try.",
        *search.said,
    ]
    return SearchPart(said, [_proofs(search.proofs), _trials(search.trials), _picks(search)])


def _proofs(proofs: list[Proof]) -> TextTable:
    return TextTable(
        title="Proof",
        meaning="The best of many on the same images looks better than it is. These are the last "
        "picks on images that no decision was made by, beside those that they were chosen by.",
        headings=["candidate", "runtime", "judged on", "images", "accuracy %", "points lost",
                  "accuracy % when chosen", "points lost then", "flattered by, points"],
        rows=[
            [
                proof.candidate,
                proof.runtime,
                proof.on,
                units.whole(proof.images),
                f"{units.percent(proof.accuracy.value)} ({units.percent_range(proof.accuracy)})",
                units.points_interval(proof.drop),
                units.percent(proof.searched_accuracy.value),
                units.points_interval(proof.searched_drop),
                units.points(proof.flattery),
            ]
            for proof in proofs
        ],
        words=3,
    )  # fmt: skip


def _trials(trials: list[Trial]) -> TextTable:
    return TextTable(
        title="What was tried",
        meaning="In the order of time, which stands still while nothing runs. Accuracies are of "
        "the images that decisions were made by.",
        headings=["candidate", "ended", "why", "begun after", "took", "epochs", "accuracy %",
                  "times faster"],
        rows=[_row(trial) for trial in trials],
        words=3,
    )  # fmt: skip


def _row(trial: Trial) -> list[str]:
    trained = [piece for piece in trial.pieces if piece.accuracy is not None]
    last = trained[-1] if trained else None
    speedups = [piece.speedup for piece in trial.pieces if piece.speedup is not None]
    return [
        trial.candidate,
        STATES[trial.state],
        plain(trial.why),
        units.duration(trial.pieces[0].begun_s) if trial.pieces else units.NONE,
        units.duration(trial.seconds),
        units.whole(last.epochs) if last and last.epochs else units.NONE,
        units.percent(last.accuracy) if last else units.NONE,
        units.significant(speedups[-1]) if speedups else units.NONE,
    ]


def _picks(search: Search) -> TextTable:
    return TextTable(
        title="The best so far",
        meaning="What would have been chosen had the search ended then.",
        headings=["candidate", "from", "epochs", "accuracy %", "times faster"],
        rows=[
            [
                pick.candidate,
                units.duration(pick.at_s),
                units.whole(pick.epochs) if pick.epochs else units.NONE,
                units.percent(pick.accuracy),
                units.significant(pick.speedup),
            ]
            for pick in search.picks
        ],
        words=1,
    )


def timeline(search: Search) -> Spec | None:
    """Draw each trial as a bar over time; None where nothing was done."""
    data = [
        {
            "candidate": plain(trial.candidate),
            "from": piece.begun_s / 60,
            "to": (piece.begun_s + piece.seconds) / 60,
            "what": _what(trial, piece.what),
            "accuracy": None if piece.accuracy is None else 100 * piece.accuracy,
            "epochs": piece.epochs,
            "why": plain(trial.why),
        }
        for trial in search.trials
        for piece in trial.pieces
    ]
    if not data:
        return None
    chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_bar(height=10)
        .encode(
            x=alt.X("from:Q", title="minutes of the search"),
            x2="to:Q",
            y=alt.Y("candidate:N", title=None, sort=None).axis(labelLimit=220),
            color=alt.Color("what:N", title=None).scale(
                domain=list(COLOURS), range=list(COLOURS.values())
            ),
            tooltip=[
                "candidate:N",
                "what:N",
                "epochs:Q",
                alt.Tooltip("accuracy:Q", title="accuracy %", format=".1f"),
                alt.Tooltip("from:Q", title="from minute", format=".1f"),
                alt.Tooltip("to:Q", title="to minute", format=".1f"),
                "why:N",
            ],
        )
    )
    return spec(chart, height=16 * len(search.trials) + 20)


def growth(search: Search) -> Spec | None:
    """Draw the front as it was after each quarter of the time; None where nothing was judged."""
    data = [
        {
            "order": quarter,
            "after": f"after {units.duration(search.spent_s * quarter / 4)}",
            "candidate": plain(candidate),
            "accuracy": 100 * accuracy,
            "speedup": speedup,
        }
        for quarter in range(1, 5)
        for candidate, speedup, accuracy in front_after(search, search.spent_s * quarter / 4)
    ]
    if not data:
        return None
    chart = (
        alt.Chart(alt.InlineData(values=data))
        # At each speedup: the best accuracy of what is at least as fast.
        .mark_line(interpolate="step-before", point=True)
        .encode(
            x=alt.X("speedup:Q", title="times faster than the teacher in the same runtime").scale(
                type="log", nice=False
            ),
            y=alt.Y("accuracy:Q", title="accuracy % on the searched images").scale(zero=False),
            color=alt.Color("after:N", title=None, sort=alt.SortField("order")).scale(
                scheme="blues"
            ),
            tooltip=[
                "candidate:N",
                "after:N",
                alt.Tooltip("accuracy:Q", title="accuracy %", format=".1f"),
                alt.Tooltip("speedup:Q", title="times faster", format=".3~g"),
            ],
        )
    )
    return spec(chart, height=260)


def _what(trial: Trial, what: str) -> str:
    timed, complete, stopped, begun = COLOURS
    if what == "timed":
        return timed
    return {"complete": complete, "begun": begun}.get(trial.state, stopped)
