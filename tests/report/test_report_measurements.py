"""What reports say of agreement, slices, percentiles, doubts and what cannot be told apart."""

import csv
import io

import pytest
from rich.console import Console

from compress.analysis.summary import summarise
from compress.export.model_card import card
from compress.measure.latency import summarise as timed
from compress.metrics.accuracy import wilson
from compress.report.content import content
from compress.report.markdown import markdown
from compress.report.notes import ALIKE
from compress.report.tables import csv_text, more_columns
from compress.report.terminal import show
from compress.results.schema import Metric, Result, RowKey, Slice
from compress.utils import units
from compress.utils.interval import Interval
from compress.utils.text import markdown_escape as escape
from tests.result_factory import result

DISTURBED = "Other programs used up to 0.4 cores: stop them."
SLICES = [
    Slice(name="rare", fewest=2, most=4, classes=7, images=20, top1=wilson(9, 20)),
    Slice(name="frequent", fewest=5, most=None, classes=1200, images=80, top1=wilson(60, 80)),
]


def full() -> list[Result]:
    """A teacher, and a student of which all was measured; both were disturbed."""
    teacher = result("teacher", role="teacher", latency_s=0.15, top1=0.9)
    student = result("small", latency_s=0.004, top1=0.8)
    accuracy = {"agreement": 0.756, "calibration_error": 0.123, "drop_p_value": 0.04}
    latency = [
        timed([[0.004 * b] * 20] * 40, b, 1).model_copy(update={"warnings": [DISTURBED]})
        for b in (1, 4, 32)
    ]
    student = student.model_copy(
        update={
            "accuracy": student.accuracy.model_copy(update={**accuracy, "slices": SLICES}),
            "latency": latency,
            "cold_start_s": 0.0312,
            "energy_j": 0.0456,
        }
    )
    disturbed = [x.model_copy(update={"warnings": [DISTURBED]}) for x in teacher.latency]
    return [teacher.model_copy(update={"latency": disturbed}), student]


def cells(rows: list[Result], candidate: str) -> dict[str, str]:
    """The second table's cells of one row by their headings."""
    more = content(summarise(rows), "t").more
    headings = [column.heading for column in more.columns]
    (row,) = (line for _, line in more.rows if line[0] == candidate)
    return dict(zip(headings, row, strict=True))


def test_new_numbers_are_columns_and_dashes_where_not_measured() -> None:
    expected = {
        "on the front %": "100.0",
        "agreement %": "75.6",
        "calibration error %": "12.3",
        "p90 ms, batch 1": "4.00",
        "p99 ms, batch 1": "4.00",
        "cold start ms": "31.2",
        "energy mJ": "45.6",
    }
    found = cells(full(), "small")
    assert {heading: found[heading] for heading in expected} == expected
    older = cells([result("teacher", role="teacher"), result("small", top1=0.7)], "small")
    assert {older[heading] for heading in list(expected)[1:]} == {units.NONE}
    torch = result("teacher (torch)", role="teacher", runtime="torch")
    assert cells([*full(), torch], "teacher (torch)")["on the front %"] == units.NONE


def test_csv_holds_them_unrounded() -> None:
    rows = full()
    teacher, student = csv.DictReader(io.StringIO(csv_text(summarise(rows))))
    assert {
        name: float(student[name])
        for name in ("agreement", "calibration_error", "top1_drop_p_value", "cold_start_s")
    } == {
        "agreement": 0.756,
        "calibration_error": 0.123,
        "top1_drop_p_value": 0.04,
        "cold_start_s": 0.0312,
    }
    assert float(student["latency_p99_bound_s"]) == 0.004
    assert float(student["energy_j"]) == 0.0456
    chances = summarise(rows).front_probability
    assert float(student["front_probability"]) == chances[RowKey("small", "onnxruntime")]
    assert teacher["agreement"] == teacher["energy_j"] == ""


def test_what_only_some_rows_have_is_a_column_of_csv() -> None:
    teacher, student = full()
    found = Metric(name="times an even map", value=1.5, meaning="share of attention in the box")
    accuracy = student.accuracy.model_copy(update={"further": [found]})
    rows = [teacher, student.model_copy(update={"accuracy": accuracy})]
    first, second = csv.DictReader(io.StringIO(csv_text(summarise(rows))))
    assert (first[found.name], second[found.name]) == ("", "1.5")
    shown = markdown(content(summarise(rows), "t"))
    assert found.name in shown and "top-5 %" in shown and "calibration error %" in shown


def told(row: Result, share: float, half: float) -> Result:
    """A row with a number of its task's own and its interval."""
    found = Interval(value=share, low=share - half, high=share + half)
    metric = Metric.share("zero-shot %", found, "of 40 images")
    update = {"task": "embedding", "further": [metric]}
    return row.model_copy(update={"accuracy": row.accuracy.model_copy(update=update)})


def test_each_rows_number_has_its_own_interval() -> None:
    rows = [told(row, *x) for row, x in zip(full(), [(0.5, 0.04), (0.25, 0.0312)], strict=True)]
    (column,) = [x for x in more_columns(summarise(rows)) if x.heading == "zero-shot %"]
    assert [column.cell(row) for row in rows] == ["50.0 \u00b1 4.0", "25.0 \u00b1 3.1"]
    assert column.meaning == "of 40 images; higher: better"
    assert "| 25.0 \u00b1 3.1 |" in markdown(content(summarise(rows), "t"))
    _, line = csv.DictReader(io.StringIO(csv_text(summarise(rows))))
    ends = [float(line[f"zero-shot %{end}"]) for end in ("", "_low", "_high")]
    assert ends == pytest.approx([25, 25 - 3.12, 25 + 3.12])
    said = {x: y for x, y in card(rows[1], "", [], "").get("facts", ())}
    assert said["zero-shot %"] == "25.0 \u00b1 3.1"


def test_numbers_that_were_stored_without_an_interval_are_still_read() -> None:
    old = Metric.model_validate({"name": "mAP %", "value": 61.8, "meaning": "over all"})
    assert old.interval is None and units.with_half(old.value, old.interval) == "61.8"


def test_headings_are_text_in_markdown() -> None:
    teacher, student = full()
    found = Metric(name="F1 | <img src=x>", value=1.5, meaning="")
    accuracy = student.accuracy.model_copy(update={"further": [found]})
    shown = markdown(
        content(summarise([teacher, student.model_copy(update={"accuracy": accuracy})]), "t")
    )
    assert escape(found.name) in shown and found.name not in shown


def test_slices_and_batches_are_facts_of_a_candidate() -> None:
    facts = " ".join(
        next(x for x in content(summarise(full()), "t").details if x.name == "small").facts
    )
    assert "rare (2 to 4) 45.0 % (25.8 to 65.8) of 20 images of 7 classes" in facts
    assert "frequent (5 or more) 75.0 %" in facts and "of 1\u202f200 classes" in facts
    assert "images per s 250 at batch 1, 250 at batch 4 and 250 at batch 32" in facts


def test_a_doubt_about_all_rows_is_said_once() -> None:
    assert content(summarise(full()), "t").notes == [f"all rows: {DISTURBED}"]


def test_rows_that_cannot_be_told_apart_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    twin = full()[1].model_copy(update={"candidate": "twin"})
    dropped = twin.model_copy(update={"candidate": "dropped", "dropped": "It is slower."})
    rows = [*full(), twin, dropped]
    alike = [note for note in content(summarise(rows), "t").notes if note.endswith(ALIKE)]
    assert alike == [f"small in onnxruntime; twin in onnxruntime: {ALIKE}"]
    console = Console(width=100, record=True)
    show(summarise(rows), console)
    printed = console.export_text()
    assert "small, twin: cannot be told apart" in printed
    assert max(map(len, printed.splitlines())) <= 100
