import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from compress.analysis.budget import Budget
from compress.analysis.controls import beside_name, legend, role
from compress.analysis.summary import summarise
from compress.cli.choose import choose
from compress.cli.report import report as command
from compress.report.content import content
from compress.report.markdown import markdown
from compress.report.notes import remarks
from compress.report.steps import step_details
from compress.report.terminal import show
from compress.report.write import write_report
from compress.results.file import append, read
from compress.results.merge import join, load, merge
from compress.results.schema import (
    Decision,
    Epoch,
    Failure,
    SingleImageClasses,
    StepReport,
    Target,
    Training,
)
from compress.utils import units
from compress.utils.errors import UserError
from compress.utils.files import OWN
from compress.utils.interval import Interval
from compress.utils.text import markdown_escape as escape
from tests.result_factory import judged, machine, result

EVIL = "<script>alert(1)</script>|x` [a](http://e.example) \x1b[31m"
X = units.TIMES
TRAINED = Training(
    description="distilled",
    labelled_images=4000,
    unlabelled_images=6925,
    seconds=5400,
    epochs=[Epoch(epoch=i, loss=1 / i, seconds=9, images_per_s=9) for i in (1, 2)],
)
PRUNED = StepReport(
    step="prune",
    target=Target(quantity="speedup", asked=4, predicted=4.012, measured=3.97),
    decisions=[
        Decision(
            layer="conv_1",
            change="64 → 16 channels",
            before_s=0.00234,
            after_s=0.00051,
            kept=True,
        ),
        Decision(layer=EVIL, change=EVIL, kept=False, reason=EVIL),
    ],
    notes=[EVIL],
)
REASON = f"The int8 file is 0.95 times as fast as the float file it was made of {EVIL}."
ROWS = [
    result("teacher", role="teacher", runtime="torch", latency_s=0.2, top1=0.9),
    result("teacher", role="teacher", latency_s=0.15, top1=0.9, macs=15_500_000_000),
    result("small", latency_s=0.00412, top1=0.889, drop=0.011, training=TRAINED, lineage=["step"]),
    result(
        "small (no teacher)",
        role="control",
        latency_s=0.005,
        top1=0.7,
        drop=0.2,
        macs=None,
        control_of="small",
        control="no teacher",
    ),
    result("int8", latency_s=0.002, top1=0.9, drop=0.0, speedup=40, dropped=REASON),
    result(
        EVIL,
        top1=0.6,
        drop=0.3,
        latency_s=0.05,
        notes=[EVIL],
        lineage=[EVIL],
        steps=[PRUNED, StepReport(step=EVIL, notes=["nothing was done"])],
        single=SingleImageClasses(images=24, in_training=24, top1=0.5),
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    write_report(
        summarise(ROWS, Budget(5, 0.02)), path, f"Whales {EVIL}", damaged=["results.jsonl:3: cut"]
    )
    return path


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and the text of the cells."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.scripts, self.cells, self.text = [], [], [], []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "wbr":  # only a place where a name may break
            return
        self._tag = tag
        named = dict(attrs)
        named_targets = [
            named[x] for x in ("src", "href", "srcset", "data", "action") if x in named
        ]
        self.targets += [target for target in named_targets if not target.startswith("#")]
        assert not [x for x in named if x.startswith("on")]
        if tag == "link" or (tag == "meta" and named.get("http-equiv") == "refresh"):
            self.targets.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self._tag == "script":
            self.scripts[-1] += data
        elif self._tag == "td":
            self.cells[-1] += data.strip()
        if self._tag not in ("script", "style"):
            self.text.append(data)

    def handle_endtag(self, tag):
        self._tag = ""


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text())


def test_all_files_are_there_and_nothing_else(folder):
    names = {"report.md", "report.html", "pareto.csv", "pareto.svg", "pareto.png", "results.jsonl"}
    assert {path.name for path in folder.iterdir()} == names | {OWN}
    assert read(folder).rows == ROWS
    Image.open(folder / "pareto.png").load()


def test_page_fetches_nothing(folder, page):
    assert page.targets == []
    style = re.search(r"<style>(.*?)</style>", (folder / "report.html").read_text(), re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    assert "default-src 'none'" in (folder / "report.html").read_text()
    ours = [text for text in page.scripts if len(text) < 100_000]
    assert not [text for text in ours if re.search(r"fetch\(|XMLHttpRequest|import\(", text)]


def test_names_are_text_in_the_page(folder, page):
    charts, data, library, ours = page.scripts  # a name that broke out would add or split one
    assert {"front", "training-loss"} <= set(json.loads(charts))
    assert EVIL.replace("\x1b", " ") in {
        x["name"].split(" in ")[0] for x in json.loads(data)["rows"]
    }
    assert "vegaEmbed" in library and "vegaEmbed" in ours
    assert "<script>alert" not in (folder / "report.html").read_text()
    assert "<script>" not in (folder / "pareto.svg").read_text()
    assert any("<script>alert(1)</script>|x` [a]" in cell for cell in page.cells)


def cells(line: str) -> list[str]:
    return [x.strip() for x in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_names_are_text_in_markdown(folder):
    text = (folder / "report.md").read_text()
    assert "<script" not in text and "\x1b" not in text and "[a](" not in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    evil = [line for line in tables if "alert" in line]
    assert evil and {len(cells(x)) for x in evil} <= {len(cells(x)) for x in tables}
    assert escape("shufflenet_v2_x1_0") == "shufflenet_v2_x1_0"
    assert escape("_a_ __b__ #1") == r"\_a\_ \_\_b\_\_ \#1"


def test_tables_hold_the_formatted_numbers(folder, page):
    text = (folder / "report.md").read_text()
    row = cells(next(x for x in text.splitlines() if x.startswith("| ★ | small")))
    assert row[2:8] == ["onnxruntime", "88.9 ± 4.0", "1.1 (0.1 to 2.1)", "4.12", "343", f"10.0{X}"]
    assert row[8:] == [f"20.0{X}", "5.00", "146 M"]
    alone = cells(next(x for x in text.splitlines() if "| small (no teacher) |" in x))
    assert alone[0] == "" and alone[-1] == units.NONE
    for cell in row[3:]:
        assert cell in page.cells


def test_report_says_what_a_reader_must_know(folder, page):
    markdown = (folder / "report.md").read_text()
    for text in (markdown, "".join(page.text)):
        assert "Chosen: small in onnxruntime" in text
        assert "10.0 times faster than the teacher" in text
        assert "that is transductive" in text
        assert "24 of these were trained on" in text
        assert "results.jsonl:3: cut" in text
        assert "compress run recipes/whales.yaml" in text
        assert "avx512_vnni" in text and "numpy 2.0.0" in text
        assert "torch eager" in text and "same runtime with the same threads" in text
    assert "![" in markdown and "(pareto.svg)" in markdown


def test_the_choice_is_headed_by_its_table(folder, page):
    text = (folder / "report.md").read_text()
    heading = text.index("|  | model | speedup | drop, points (95 %) | ms | MB |")
    assert text.index("## Chosen: small") < heading < text.index("10.0 times faster than")
    row = cells(next(x for x in text.splitlines() if x.startswith("| pick |")))
    assert row == ["pick", "small in onnxruntime", f"10.0{X}", "1.1 (0.1 to 2.1)", "4.12", "5.00"]
    assert "".join(row) in "".join(page.cells)


def test_chart_holds_every_number_of_a_row(page):
    spec = json.loads(page.scripts[0])["front"]
    (points,) = spec["datasets"].values()
    assert [x["row"] for x in points] == list(range(len(ROWS)))
    small = next(x for x in points if x["label"] == "small")
    (fitting,) = [x["value"] for x in spec["params"] if x["name"] == "fitting"]
    assert fitting == [small["row"]] and small["places"]["latency top1"] == 0
    assert "146 M" in small.values() and f"10.0{X} (9.60 to 10.5)" in small.values()
    int8 = next(x for x in points if x["label"] == "int8")
    assert int8["role"] == "dropped" and int8["places"] == {}
    eager = next(x for x in points if x["label"] == "torch")
    assert eager["places"] == {} and eager["latency"] == pytest.approx(200)


def test_csv_parses_back_to_the_same_numbers(folder):
    lines = list(csv.DictReader((folder / "pareto.csv").open(newline="")))
    assert [line["candidate"] for line in lines] == [row.candidate for row in ROWS]
    for line, row in zip(lines, ROWS, strict=True):
        assert float(line["latency_s"]) == row.latency_s
        assert float(line["top1"]) == row.accuracy.top1.value
        assert int(line["size_bytes"]) == row.artifact.size_bytes
        assert line["macs"] == ("" if row.artifact.macs is None else str(row.artifact.macs))
        speedup = row.speedup and row.speedup.ratio.value
        assert line["speedup"] == ("" if speedup is None else repr(speedup))
    assert [line["candidate"] for line in lines if line["front"] == "1"] == ["teacher", "small"]


def test_report_without_budget_training_or_fit(tmp_path):
    write_report(summarise(ROWS[:2]), tmp_path / "a", "Plain")
    assert "No budget was given" in (tmp_path / "a/report.md").read_text()
    write_report(summarise(ROWS[:3], Budget(50, 0.001)), tmp_path / "b", "None")
    text = (tmp_path / "b/report.md").read_text()
    assert "## Nothing fits" in text and "| nearest miss | small in onnxruntime |" in text
    assert "0.90 points" not in text
    assert "--speedup or --max-accuracy-drop alone lets nothing in: no candidate meets" in text


def test_terminal_table_fits_100_columns():
    out = io.StringIO()
    show(summarise(ROWS, Budget(5, 0.02)), Console(file=out, width=100, color_system=None))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100 and "\x1b" not in out.getvalue()
    small = next(line for line in lines if "★ small" in line)
    numbers = ["88.9", "1.1", "4.12", "343", f"10.0{X}", f"20.0{X}", "5.00", "146", "M"]
    assert small.split()[2:] == numbers
    names = [x for x in ("small", "int8", "teacher") if any(x in line for line in lines)]
    assert names == ["small", "int8", "teacher"]
    assert any("no teacher: the control" in line for line in lines)
    assert not any("from scratch" in line for line in lines)
    assert any("onnxruntime, dropped" in line for line in lines)
    assert any(line.startswith("dropped: measured, but") for line in lines)
    assert any(line.startswith("int8: dropped. The int8 file is 0.95 times") for line in lines)
    assert any(line.startswith("Budget: at least 5 times faster") for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((204.4, "204"), (44.61, "44.6"), (1.7549, "1.75"), (0.01234, "0.0123"), (0, "0.00")),
        *((9.999, "10.0"), (99.96, "100"), (123456, "123456"), (-3.14159, "-3.14")),
        (None, units.NONE),
        *((float("inf"), "inf"), (float("nan"), "nan")),
    ],
)
def test_three_significant_digits(value, text):
    assert units.significant(value) == text


def test_units():
    assert units.count(15_500_000_000) == "15.5 G" and units.count(999) == "999"
    assert units.points(-0.0001) == "0.0" and units.points(0.004) == "0.4"
    assert [units.at_least(x) for x in (7, 999, 1000, 1001, 1450, 1451, 9991, 123_456)] == [
        *("7", "999", "1,000", "1,010", "1,450", "1,460", "10,000", "124,000")
    ]
    assert units.points_typed(0.01) == "1 point" and units.points_typed(0.0025) == "0.25 points"
    assert units.times_interval(Interval(value=2, low=1.5, high=2.5)) == f"2.00{X} (1.50 to 2.50)"
    assert [units.duration(x) for x in (42, 720, 12240)] == ["42 s", "12 min", "3.4 h"]


def test_join_refuses_what_cannot_be_compared():
    here = result("a")
    for other, said in (
        (result("b", recipe="r2", on=machine(cpu="Other CPU")), "Other CPU"),
        (result("b", recipe="r2", on=machine(onnxruntime="1.9")), "onnxruntime 1.9"),
        (result("b", recipe="r2", threads=2), "2 at batch 1"),
        (result("b", recipe="r2", images=100), "100 images"),
    ):
        with pytest.raises(UserError, match=r"not comparable.*r2.*separately") as refused:
            merge([here, other])
        assert said in str(refused.value)


def test_join_refuses_points_that_are_right_by_other_rules():
    rows = [
        judged(result(name, recipe=name), tolerance)
        for name, tolerance in (("a", 0.1), ("b", 0.05))
    ]
    with pytest.raises(UserError, match=r"different rules are not comparable.*at most 0\.1 off"):
        merge(rows)


def test_join_tells_the_newest_word_on_a_candidate(tmp_path):
    def failure(candidate: str, run: str, recipe: str = "whales") -> Failure:
        return Failure(recipe=recipe, run=run, candidate=candidate, role="candidate", reason="no")

    def rows(run: str, day: int, *names: str):
        time = f"2026-01-0{day}T00:00:00Z"
        teacher = result("vgg", role="teacher", run=run, measured_at=time)
        return [teacher, *(result(x, run=run, measured_at=time) for x in names)]

    # Joined when big had failed; then it is made: in the same run, or in another.
    for run in ("r1", "r2"):
        folder = tmp_path / run
        append(folder / "joined/results.jsonl", rows("r1", 1, "small"), [failure("big", "r1")])
        append(folder / "new/results.jsonl", rows(run, 2, "small", "big"))
        found, failed, _ = load([folder])
        assert {row.candidate for row in found} == {"vgg", "small", "big"} and failed == []
    # The other way round, and told of twice.
    append(tmp_path / "x/old/results.jsonl", rows("r1", 1, "small", "big"))
    for name in ("new", "joined"):
        append(
            tmp_path / "x" / name / "results.jsonl", rows("r2", 2, "small"), [failure("big", "r2")]
        )
    found, failed, _ = load([tmp_path / "x"])
    assert {row.candidate for row in found} == {"vgg", "small"} and len(failed) == 1


def test_a_run_of_failures_alone_has_no_results(tmp_path):
    failed = Failure(recipe="whales", run="r2", candidate="big", role="candidate", reason="no")
    append(tmp_path / "results.jsonl", [result("small", run="r1")])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(failed.model_dump_json() + "\n")
    with pytest.raises(UserError, match="no results of its newest run: run the recipe again"):
        load([tmp_path])


def test_join_shows_a_shared_teacher_once_and_prefixes_clashes(tmp_path):
    def recipe(name: str, day: int):
        time = f"2026-01-0{day}T00:00:00Z"
        return [
            result("vgg", role="teacher", sha256="5" * 64, recipe=name, measured_at=time),
            result("student", recipe=name, measured_at=time, against="vgg"),
            result(f"only-{name}", recipe=name, measured_at=time, control_of="student"),
        ]

    for day, name in enumerate("ab", 1):
        append(tmp_path / name / "results.jsonl", recipe(name, day))
    rows = join([tmp_path / "a", tmp_path / "b"])
    names = {row.candidate for row in rows}
    assert names == {"vgg", "a/student", "b/student", "only-a", "only-b"} and len(rows) == 5
    assert next(row for row in rows if row.role == "teacher").recipe == "b"
    assert {row.control_of for row in rows} == {None, "a/student", "b/student"}
    assert {row.speedup.against for row in rows if row.candidate == "a/student"} == {"vgg"}
    append(tmp_path / "joined/results.jsonl", rows)
    again = join([tmp_path / "a", tmp_path / "b", tmp_path / "joined"])
    assert {row.candidate for row in again} == names and len(again) == 5


def test_command_writes_a_joined_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    append(tmp_path / "runs/a/results.jsonl", ROWS[:3])
    out = CliRunner().invoke(app, ["runs/a"])
    assert out.exit_code == 0 and (tmp_path / "reports/joined/report.html").is_file()
    assert "No budget was given" in (tmp_path / "reports/joined/report.md").read_text()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("--speedup 5", "at least 5 times faster than the teacher in the same runtime"),
        ("--latency 100ms --runtime onnxruntime", "at most 100 ms an image, in onnxruntime"),
        (
            "--speedup 5x --max-accuracy-drop 2% --latency 0.1s --min-accuracy 50% --max-bytes "
            "50MB --max-memory 1GB --runtime onnxruntime --confidence 60%",
            "a file of at most 50 MB, at most 1000 MB of memory, in onnxruntime, with 60 % prob",
        ),
    ],
)
def test_command_takes_the_bounds_of_choose(options, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    app.command()(choose)
    append(tmp_path / "runs/a/results.jsonl", ROWS[:3])
    reported = CliRunner().invoke(app, ["report", "runs/a", *options.split()])
    assert reported.exit_code == 0
    chosen = CliRunner().invoke(app, ["choose", "runs/a", *options.split(), "--json"])
    text = (tmp_path / "reports/joined/report.md").read_text()
    assert f"## Chosen: {json.loads(chosen.output)['picked']['candidate']} in onnx" in text
    assert asked in text


def test_command_refuses_a_budget_that_asks_for_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(command)
    append(tmp_path / "runs/a/results.jsonl", ROWS[:3])
    sure = CliRunner().invoke(app, ["runs/a", "--confidence", "0.9"])
    assert isinstance(sure.exception, UserError) and "No budget was given" in str(sure.exception)


GAIN = Interval(value=0.03, low=0.01, high=0.05)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no teacher", "learning from the teacher gained 3.0 points of top-1 over the control"),
        (
            "from scratch",
            "the weights kept from the network it was made of are worth 3.0 points of top-1 over "
            "the same shape trained from scratch",
        ),
        ("halved", "3.0 points of top-1 over its control"),
    ],
)
@pytest.mark.parametrize("low", [0.01, -0.02])
def test_what_a_control_shows_is_said(kind, said, low):
    row = result("small", gain=GAIN.model_copy(update={"low": low}), notes=["first"])
    control = result(f"small ({kind})", role="control", control_of="small", control=kind, top1=0.77)
    first, worth = remarks(row, [control, row])
    assert first == "first"
    assert said in worth and f"(95 % interval {100 * low:.1f} to 5.0" in worth
    assert ("it may be nothing" in worth) == (low < 0)
    assert said in markdown(content(summarise([row, control]), "t"))


def test_of_two_controls_the_one_that_was_compared_is_meant():
    row = result("small", top1=0.8, gain=GAIN)
    controls = [
        result(f"{of} ({kind})", role="control", control_of=of, control=kind, top1=top1)
        for of, kind, top1 in (
            ("small", "from scratch", 0.77),
            ("small", "no teacher", 0.5),
            ("other", "no teacher", 0.77),
        )
    ]
    for rows in ([row, *controls], [row, *controls[::-1]]):
        assert "the weights kept" in remarks(row, rows)[0]


def test_a_control_is_called_by_its_kind_and_not_by_its_name():
    kinds = {"no teacher": "no teacher", "from scratch": "from scratch"}
    kinds |= {None: "control", "halved": "control"}
    rows = [result("a (no teacher)", role="control", control=kind) for kind in kinds]
    assert list(map(role, rows)) == list(kinds.values())
    assert role(result("a (no teacher)")) == "" and role(result("t", role="teacher")) == "teacher"
    assert beside_name(rows[0]) == [] and beside_name(rows[1]) == ["from scratch"]
    assert beside_name(result("a", role="control", dropped="x")) == ["control", "dropped"]
    assert [word for word, _ in legend(rows)] == [
        *("no teacher", "from scratch", "control"),
    ]


def test_a_dropped_row_is_marked_and_the_reason_is_said(folder, page):
    text = (folder / "report.md").read_text()
    row = cells(next(x for x in text.splitlines() if "| int8, dropped |" in x))
    assert row[0] == "" and row[3] == "90.0 ± 4.0"
    assert "int8, dropped" in page.cells
    assert "### int8 (dropped)" in text
    for said in (text, "".join(page.text)):
        assert "int8 in onnxruntime: dropped. The int8 file is 0.95 times" in said
        assert "measured, but not to be deployed" in said
    lines = list(csv.DictReader((folder / "pareto.csv").open(newline="")))
    assert [x["dropped"] for x in lines if x["candidate"] == "int8"] == ["1"]
    assert {x["dropped"] for x in lines if x["candidate"] != "int8"} == {"0"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            Target(quantity="speedup", asked=4, predicted=4.012, measured=3.97),
            "asked for 4 times the teacher's speed, the layers' times predicted 4.01, the exported "
            "network measured 3.97.",
        ),
        (Target(quantity="speedup", asked=2.5), "asked for 2.5 times the teacher's speed."),
        (
            Target(quantity="macs", asked=0.25, predicted=0.2484),
            "asked to keep 25 % of the multiply-accumulates, the widths found keep 24.8 %.",
        ),
        (
            Target(quantity="ratio", asked=0.5, predicted=0.5, measured=0.499),
            "asked to remove 50 % of the channels, the widths found remove 50.0 %, the exported "
            "network measured 49.9 %.",
        ),
    ],
)
def test_a_target_is_a_sentence(target, said):
    (step,) = step_details([StepReport(step="prune", target=target, notes=["a note"])])
    assert step.said == [f"prune: {said}", "a note"] and step.decisions == []


def test_a_decision_says_what_was_tried_and_what_came_of_it():
    tried = [
        Decision(layer="a", change="int8", before_s=0.002, after_s=0.0005, kept=True),
        Decision(layer="b", change="int8", before_s=0.002, kept=False, reason="slower"),
        Decision(layer="c", change="rank 8", kept=False),
        Decision(layer="d", change="rank 8", kept=True, reason="asked for"),
    ]
    (step,) = step_details([StepReport(step="x", decisions=tried)])
    assert step.decisions == [
        ["a", "int8", "2.00", "0.500", "kept"],
        ["b", "int8", "2.00", units.NONE, "slower"],
        ["c", "rank 8", units.NONE, units.NONE, "not kept"],
        ["d", "rank 8", units.NONE, units.NONE, "kept: asked for"],
    ]


def test_details_say_what_each_step_did(folder, page):
    text = (folder / "report.md").read_text()
    assert "- prune: asked for 4 times the teacher's speed" in text
    assert "<details><summary>prune: 2 layers</summary>\n\n| layer | change |" in text
    row = cells(next(x for x in text.splitlines() if x.startswith("| conv_1 |")))
    assert row == ["conv_1", "64 → 16 channels", "2.34", "0.510", "kept"]
    assert [x for x in row if x not in page.cells] == []
    assert "- nothing was done" in text and text.count("<details>") == text.count("</details>") == 1
    assert text.count("<summary>") == 1
    for said in ("prune: asked for 4 times", "prune: 2 layers", "nothing was done"):
        assert said in "".join(page.text)


def test_a_step_named_like_a_tag_is_text_in_markdown():
    name = "</summary>\n\n<img src=x>"
    steps = [StepReport(step=name, decisions=[Decision(layer="a", change="b", kept=True)])]
    text = markdown(content(summarise([result(steps=steps)]), "t"))
    assert "<img" not in text and text.count("</summary>") == 1


def test_machine_says_how_many_processes_were_timed(folder, page):
    assert "| processes | 5 |" in (folder / "report.md").read_text()
    mixed = markdown(content(summarise([result("a"), result("b", processes=1)]), "t"))
    assert "| processes | 5; 1 |" in mixed or "| processes | 1; 5 |" in mixed
    assert "over the processes' logarithms" in mixed.replace("&#39;", "'")


BINARY = Decision(
    layer="conv_2",
    change="binary",
    before_s=0.00194,
    int8_s=0.000431,
    after_s=0.0000538,
    limit_share=0.8234,
    kept=True,
)


def test_int8_and_limit_are_columns_of_a_step_that_has_them(tmp_path):
    unmeasured = Decision(layer="conv_3", change="binary", kept=False)
    steps = [PRUNED, StepReport(step="binarize", decisions=[BINARY, unmeasured])]
    rows = [result("small", steps=steps)]
    pruned, binary = step_details(steps)
    assert [c.heading for c in pruned.columns] == [
        "layer", "change", "ms before", "ms after", "kept",
    ]  # fmt: skip
    assert [c.heading for c in binary.columns] == [
        "layer", "change", "ms before", "ms in int8", "ms after", "% of limit", "kept",
    ]  # fmt: skip
    measured = ["conv_2", "binary", "1.94", "0.431", "0.0538", "82.3", "kept"]
    nothing = ["conv_3", "binary", *[units.NONE] * 4, "not kept"]
    assert binary.decisions == [measured, nothing]
    (limit,) = binary.said
    assert limit.startswith("binarize: limit: the highest rate")
    assert not any("limit:" in said for said in pruned.said)

    write_report(summarise(rows), tmp_path, "t")
    lines = (tmp_path / "report.md").read_text().splitlines()
    heading = lines.index(
        "| layer | change | ms before | ms in int8 | ms after | % of limit | kept |"
    )
    assert lines[heading + 1] == "| :-- | :-- | --: | --: | --: | --: | :-- |"
    assert [cells(line) for line in lines[heading + 2 : heading + 4]] == [measured, nothing]
    assert "| layer | change | ms before | ms after | kept |" in lines
    html = (tmp_path / "report.html").read_text()
    assert html.count('<button type="button">ms in int8</button>') == 1
    assert html.count('<button type="button">% of limit</button>') == 1
    assert '<td class="number">0.431</td>' in html and '<td class="number">82.3</td>' in html


@pytest.mark.parametrize("missing", ["int8_s", "limit_share"])
def test_a_column_that_no_decision_of_the_step_fills_is_left_out(missing):
    (step,) = step_details(
        [StepReport(step="x", decisions=[BINARY.model_copy(update={missing: None})])]
    )
    headings = {"int8_s": "ms in int8", "limit_share": "% of limit"}
    assert {c.heading for c in step.columns} & set(headings.values()) == {
        heading for name, heading in headings.items() if name != missing
    }
    assert len(step.decisions[0]) == len(step.columns) == 6
    assert (step.said == []) == (missing == "limit_share")


def test_decisions_of_older_results_have_neither_int8_nor_limit():
    old = Decision.model_validate_json('{"layer":"a","change":"int8","before_s":0.1,"kept":true}')
    assert old.int8_s is None and old.limit_share is None
