"""What a reader must know before all else: a teacher not worth it, images that wear out."""

from pathlib import Path

import pytest

from compress.analysis.explain import teacher_beaten
from compress.analysis.summary import summarise
from compress.report.content import content
from compress.report.markdown import markdown
from compress.report.notes import notes
from compress.results.file import append, files_judged
from compress.results.schema import NO_TEACHER, PseudoLabels, Result, Training
from tests.result_factory import result

TEACHER = result("teacher", role="teacher", top1=0.5)


def control(drop: float, half: float = 0.01, top1: float = 0.55) -> Result:
    return result(
        "small (no teacher)", role="control", control_of="small", control=NO_TEACHER,
        top1=top1, drop=drop, drop_half=half,
    )  # fmt: skip


def test_a_report_says_first_that_the_teacher_is_beaten_without_it() -> None:
    rows = [TEACHER, result("small", top1=0.6, drop=-0.1), control(-0.05)]
    lines = markdown(content(summarise(rows), "Whales")).splitlines()
    assert lines[0] == "# Whales"
    assert lines[2].startswith(
        "**Without the teacher small (no teacher) in onnxruntime reaches 55.0"
    )
    assert (
        "55.0 % top-1, 5.0 points more than the teacher itself" in lines[2]
        and "4.0 to 6.0" in lines[2]
    )
    assert "may be chance" not in lines[2]
    assert "may be chance" in (teacher_beaten([TEACHER, control(-0.05, 0.06)]) or "")


def test_so_is_it_by_a_student_that_labels_alone_taught() -> None:
    """It need not be a control of another row."""
    labels = result("small", top1=0.55, drop=-0.05)
    alone = ["vgg16_bn", "no teacher → torchvision.models:mobilenet_v2"]
    labels = labels.model_copy(update={"lineage": alone})
    assert "Without the teacher small in" in (teacher_beaten([TEACHER, labels]) or "")
    taught = labels.model_copy(update={"lineage": [*alone, "distil kd"]})
    assert teacher_beaten([TEACHER, taught]) is None


@pytest.mark.parametrize("rows", [[TEACHER, control(0.01)], [result("small", drop=-0.2)]])
def test_otherwise_nothing_is_said(rows: list[Result]) -> None:
    assert teacher_beaten(rows) is None
    assert "wrong question" not in markdown(content(summarise(rows), "Whales"))


def test_how_often_validation_images_judged_is_said(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert files_judged(path, "d1") == set()
    append(path, [result("small", run="r0"), result("other", run="r0", data="d2")])
    append(path, [result("small", run="r0"), result("small", run="r1", sha256="f" * 64)])
    path.write_text(path.read_text() + "no result\n")
    assert len(files_judged(path, "d1")) == 2 and len(files_judged(path, "d2")) == 1

    rows = [TEACHER, result("small")]
    looked = [row.model_copy(update={"files_judged": 9}) for row in rows]
    said = [note for _, note in notes(summarise(looked))]
    assert any("have judged 9 files" in note and "2 are here" in note for note in said)
    for row_count in (None, 2):
        seen = [row.model_copy(update={"files_judged": row_count}) for row in rows]
        assert not any("have judged" in note for _, note in notes(summarise(seen)))


def test_what_unlabelled_images_were_taken_for_is_said() -> None:
    facts = PseudoLabels(
        kept=5640, of=6923, min_confidence=0.15, temperature=0.6,
        validation_kept=300, validation_of=390, validation_right=0.7,
    )  # fmt: skip
    trained = Training(
        description="distil", labelled_images=3693, unlabelled_images=5640, seconds=9,
        pseudo_labels=facts,
    )  # fmt: skip
    text = markdown(content(summarise([TEACHER, result("small", training=trained)]), "Whales"))
    assert "5640 of 6923 unlabelled images are kept" in text and "right in 70.0 %" in text
