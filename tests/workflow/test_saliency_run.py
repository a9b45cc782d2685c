"""The recipe's section `saliency`: from annotated frames to the table in the report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from rich.console import Console

from compress.analysis.summary import summarise
from compress.data.dataset import Dataset
from compress.measure.machine import machine
from compress.measure.saliency.settings import SaliencySettings
from compress.methods.context import BUILT, Context
from compress.recipe.load import load_recipe
from compress.report.content import content
from compress.report.markdown import markdown
from compress.report.saliency import DRAWN, saliency_part, verdict
from compress.report.write import reports_in, write_report
from compress.results.file import read
from compress.results.schema import Looks, Result, Saliency
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage
from compress.workflow.plan import make_plan
from compress.workflow.run import run_recipe
from compress.workflow.stages import saliency as stages_saliency
from tests.conftest import tiny_recipe
from tests.result_factory import around, result

FRAMES = {
    "builder": "teachers.whale_frames:frames",
    "settings": {"individuals": 3, "pictures": 24, "width": 96, "height": 64},
    "fit": "stretch",
}


def recipe(data: dict[str, Any], saliency: dict[str, Any]) -> dict[str, Any]:
    tiny = tiny_recipe(Path())
    distill = tiny["candidates"]["shufflenet_v2_x0_5"][0]["distill"]
    tiny["teacher"]["train"]["epochs"] = distill["train"]["epochs"] = 1
    distill["control"] = False
    tiny["measure"] |= {"processes": 1}
    return tiny | {"data": data, "saliency": saliency}


def run(tiny: dict[str, Any], out: Path) -> list[Result]:
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return run_recipe(
        load_recipe(path),
        out,
        Progress(Console(quiet=True)),
        "compress run",
        report=reports_in(out),
    )[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    out = tmp_path_factory.mktemp("out")
    methods = ["grad_cam", "occlusion", "deconvolution"]
    asked = {"images": 4, "methods": methods, "gallery": True}
    return out, run(recipe(FRAMES, asked), out)


def test_each_candidate_is_looked_into_once(finished: tuple[Path, list[Result]]) -> None:
    _, results = finished
    looked = [row for row in results if row.saliency]
    assert [(row.candidate, row.artifact.runtime) for row in looked] == [
        ("teacher", "onnxruntime"),
        ("shufflenet_v2_x0_5", "onnxruntime"),
    ]
    teacher, student = (row.saliency for row in looked)
    assert teacher and student
    assert "deconvolution" in teacher.looks and "occlusion" in student.looks
    assert [note for note in student.notes if "chain of convolutions" in note]
    assert teacher.images == student.images == 4
    assert teacher.area_share == student.area_share
    for found in (*teacher.looks.values(), *student.looks.values()):
        assert 0 <= found.share_inside.low <= found.share_inside.value <= found.share_inside.high
        if found.images == 4:
            assert found.times_even.value == pytest.approx(
                found.share_inside.value / teacher.area_share
            )
    assert teacher.gallery["picture"] == student.gallery["picture"]
    assert {len(layer) for layer in teacher.gallery.values()} == {4}


def test_the_report_shows_it(finished: tuple[Path, list[Result]]) -> None:
    out, results = finished
    folder = out / "reports" / "tiny"
    text, page = ((folder / name).read_text("utf-8") for name in ("report.md", "report.html"))
    student = next(row.saliency for row in results if row.saliency and row.role == "candidate")
    assert "## Where they look" in text and "shufflenet_v2_x0_5 in onnxruntime | occlusion" in text
    assert "base64" not in text
    assert page.count('src="data:image/jpeg;base64,') == sum(
        len(layer) for row in results if row.saliency for layer in row.saliency.gallery.values()
    )
    assert student and student.gallery["occlusion"][0] in page
    assert read(folder).rows == results


def test_without_boxes_it_says_that_it_cannot_be_told(
    finished: tuple[Path, list[Result]], tmp_path: Path
) -> None:
    """The same images without their annotations; the gallery needs none."""
    out, results = finished
    artifact = (out / results[0].artifact.path).parent
    made_of = json.loads((artifact / "stage.json").read_text())["inputs"]
    stages = artifact.parent
    images = stages / made_of["data"] / BUILT
    data = Dataset.load(images.parent, images)
    bare = tuple(replace(image, annotations={}) for image in data.images)
    replace(data, images=bare).save(tmp_path / "data")
    here = machine()
    context = Context(
        seed=0,
        device=torch.device("cpu"),
        threads=1,
        allowed=(),
        progress=Progress(Console(quiet=True)),
        data_path=images,
        files={},
        tables=tmp_path,
        machine=here,
    )
    folders = {"data": tmp_path / "data", "model": stages / made_of["model"], "artifact": artifact}

    def looked(gallery: bool) -> Saliency:
        settings = SaliencySettings(images=2, methods=["grad_cam"], gallery=gallery)
        inputs = {role: Stage("test", role, 1, {}) for role in folders}
        stage = stages_saliency.plan("teacher", settings, "onnxruntime", here, 0, **inputs)
        stages_saliency.run(stage, folders, tmp_path, context)
        return stages_saliency.load(tmp_path)

    nothing, shown = looked(gallery=False), looked(gallery=True)
    assert nothing == Saliency(images=0, notes=[stages_saliency.NO_BOXES])
    assert not shown.looks and shown.area_share is None and shown.notes == nothing.notes
    assert [len(layer) for layer in shown.gallery.values()] == [2, 2]
    row = results[0].model_copy(update={"saliency": nothing})
    text = markdown(content(summarise([row, *results[1:2]]), "title"))
    assert "teacher in onnxruntime: Where it looks cannot be told" in text


def test_faults_of_the_section_are_told_with_their_line(write_recipe: Any, shapes: Path) -> None:
    tiny = tiny_recipe(shapes) | {"saliency": {"methods": ["gradcam"], "image": 3}}
    with pytest.raises(UserError) as caught:
        load_recipe(write_recipe(tiny))
    assert "saliency.methods.0" in str(caught.value)
    assert "did you mean 'images'?" in str(caught.value)


def test_the_section_changes_no_other_stage(write_recipe: Any, shapes: Path) -> None:
    with_it = tiny_recipe(shapes) | {"saliency": {}}
    plain, looking = (
        make_plan(load_recipe(write_recipe(x)), machine(), 1)
        for x in (tiny_recipe(shapes), with_it)
    )
    added = {stage.kind for stage in looking.stages} - {stage.kind for stage in plain.stages}
    assert added == {"saliency"} and plain.key == looking.key
    keys = {stage.key for stage in looking.stages if stage.kind != "saliency"}
    assert keys == {stage.key for stage in plain.stages}
    # One each of teacher, student and its control, though the teacher has two rows.
    assert sum(stage.kind == "saliency" for stage in looking.stages) == 3


def saliency(times: float, half: float, **fields: Any) -> Saliency:
    looks = Looks(images=7, share_inside=around(0.4, 0.1), times_even=around(times, half))
    return Saliency(images=8, area_share=0.2, looks={"grad_cam": looks}, **fields)


def test_the_table_says_how_sure_it_is() -> None:
    row = result("student").model_copy(update={"saliency": saliency(2, 0.5)})
    part = saliency_part([result("teacher", role="teacher"), row])
    assert part is not None
    shown = ["40.0 (30.0 to 50.0)", "20.0", "2.00× (1.50 to 2.50)", "more", "7 of 8"]
    assert part.rows == [["student in onnxruntime", "Grad-CAM", *shown]]
    assert verdict(around(1.2, 0.5)) == "not told apart"
    assert verdict(around(0.4, 0.2)) == "less"


def test_names_and_images_are_text_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        saliency(2, 0.5, gallery={"picture": ['x" onerror="alert(1)']})
    bad = saliency(2, 0.5, notes=["<script>alert(1)</script>"], gallery={"picture": ["AAAA"]})
    row = result("a|<b>").model_copy(update={"saliency": bad})
    rows = [result("teacher", role="teacher"), row]
    write_report(summarise(rows), tmp_path, "title")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    text = markdown(content(summarise(rows), "title"))
    assert "<script>" not in text and "a\\|&lt;b&gt; in onnxruntime" in text


def test_drawn_answers_are_no_maps() -> None:
    shown = Saliency(images=0, gallery={"answer": ["AAAA"]})
    row = result("student").model_copy(update={"saliency": shown})
    part = saliency_part([row])
    assert part is not None and part.meaning == DRAWN and not part.rows
    assert [(x.heading, x.images) for x in part.galleries[0][1]] == [("answer", ["AAAA"])]


def test_reports_without_it_do_not_mention_it(tmp_path: Path) -> None:
    write_report(summarise([result("teacher", role="teacher"), result()]), tmp_path, "title")
    for name in ("report.md", "report.html"):
        assert "Where they look" not in (tmp_path / name).read_text("utf-8")
