import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.results.file import RESULTS_FILE, append, read
from compress.results.schema import Decision, Failure, Result, RowKey, StepReport, Target
from compress.utils.errors import UserError
from tests.result_factory import result

# str.splitlines ends a line at these too, though JSON leaves them as they are.
SEPARATORS = "\x85\u2028\u2029"
COMMITTED = sorted((Path(__file__).parents[2] / "reports").rglob(RESULTS_FILE))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_rows_come_back_as_they_were(tmp_path):
    rows = [result("teacher", role="teacher"), result("student", macs=None, notes=["a\nb"])]
    append(tmp_path / "results.jsonl", rows)
    assert read(tmp_path).rows == rows
    assert read(tmp_path / "results.jsonl").rows == rows


@given(TEXT, st.floats(1e-9, 1e3), st.floats(-1, 1))
def test_any_name_and_number_survives(tmp_path_factory, name, latency_s, drop):
    row = result(name, notes=[name], latency_s=latency_s, drop=drop)
    path = tmp_path_factory.mktemp("rows")
    append(path / "results.jsonl", [row])
    assert read(path).rows == [row]


def test_what_the_steps_say_comes_back(tmp_path):
    report = StepReport(
        step="prune",
        target=Target(quantity="speedup", asked=4, predicted=4.01, measured=3.97),
        decisions=[Decision(layer="a", change="64 → 16 channels", before_s=0.002, kept=True)],
        notes=["one"],
    )
    rows = [result("pruned", steps=[report]), result("int8", dropped="It is slower.")]
    append(tmp_path / "results.jsonl", rows)
    assert read(tmp_path).rows == rows


def test_rows_of_schema_1_were_timed_in_one_process():
    line = json.loads(result().model_dump_json())
    line["schema_version"] = 1
    for latency in line["latency"]:
        latency["samples_s"] = latency["samples_s"][0]
    del line["steps"], line["dropped"]
    row = Result.model_validate_json(json.dumps(line))
    assert [len(latency.samples_s) for latency in row.latency] == [1, 1]
    assert row.steps == [] and row.dropped is None


def test_rows_of_schema_2_lack_what_was_not_measured_then():
    line = json.loads(result().model_dump_json())
    line["schema_version"] = 2
    for field in ("answers", "calibration_error", "slices", "agreement", "drop_p_value"):
        del line["accuracy"][field]
    for latency in line["latency"]:
        for field in ("percentiles", "steal_cores", "frequency_mhz", "warnings"):
            del latency[field]
    del line["cold_start_s"], line["energy_j"]
    row = Result.model_validate_json(json.dumps(line))
    assert row.schema_version == 5 and row == result()
    assert row.accuracy.answers == row.latency[0].percentiles == [] and row.energy_j is None


@pytest.mark.parametrize(
    ("name", "role", "kind"),
    [
        ("a (no teacher)", "control", "no teacher"),
        ("r/a (v2) (from scratch)", "control", "from scratch"),
        ("a (halved)", "control", "halved"),
        ("a", "control", None),
        ("a (no teacher)", "candidate", None),
    ],
)
def test_before_schema_5_the_kind_of_a_control_stood_in_its_name(tmp_path, name, role, kind):
    failed = Failure(recipe="whales", run="r1", candidate=f"b {name}", role=role, reason="no")
    lines = [json.loads(x.model_dump_json()) for x in (result(name, role=role), failed)]
    for line in lines:
        line["schema_version"] = 4
        del line["control"]
    (tmp_path / RESULTS_FILE).write_text("\n".join(map(json.dumps, lines)))
    found = read(tmp_path)
    assert [x.control for x in (*found.rows, *found.failed)] == [kind, kind]
    assert result(name, role=role).control is None  # a new one says it


def test_a_row_is_addressed_by_candidate_and_runtime():
    rows = [result("b"), result("a", runtime="openvino"), result("a")]
    assert [str(key) for key in sorted(row.key for row in rows)] == [
        *("a in onnxruntime", "a in openvino", "b in onnxruntime"),
    ]
    assert result("a", recipe="other").key in {row.key for row in rows}
    assert RowKey("a in onnxruntime", "openvino") != RowKey("a", "onnxruntime in openvino")


@pytest.mark.parametrize("version", [0, 6, "2", None])
def test_other_schemas_are_refused(version):
    line = json.loads(result().model_dump_json()) | {"schema_version": version}
    with pytest.raises(ValidationError, match="schema_version"):
        Result.model_validate_json(json.dumps(line))


def test_there_are_committed_results():
    assert COMMITTED


@pytest.mark.parametrize("file", COMMITTED, ids=lambda x: x.parent.name)
def test_committed_results_load(file):
    found = read(file)
    assert found.rows and found.damaged == []
    assert len(found.rows) == len(file.read_text("utf-8").splitlines())


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_line_separator_in_a_note_does_not_split_the_row(tmp_path, separator):
    append(tmp_path / "results.jsonl", [result(notes=[f"a{separator}b"])])
    assert len(read(tmp_path).rows) == 1


def test_a_damaged_line_is_named_and_the_rest_is_used(tmp_path):
    file = tmp_path / "results.jsonl"
    append(file, [result("a")])
    with file.open("a") as lines:
        lines.write('{"recipe": 3}\n{"cut o\n\n')
    append(file, [result("b")])
    found = read(tmp_path)
    assert [row.candidate for row in found.rows] == ["a", "b"]
    assert [line.split(": ")[0] for line in found.damaged] == [f"{file}:2", f"{file}:3"]


def test_what_is_added_to_a_damaged_file_is_read_and_the_damage_stays(tmp_path):
    file = tmp_path / "results.jsonl"
    append(file, [result("a")])
    with file.open("ab") as lines:
        lines.write(b'{"cut o\xff')
    append(file, [result("b")])
    found = read(tmp_path)
    assert [row.candidate for row in found.rows] == ["a", "b"]
    assert len(found.damaged) == 1 and b"\xff\n" in file.read_bytes()


def test_the_newest_line_of_the_newest_run_counts(tmp_path):
    old, again = result("a", run="old"), result("a", run="new", latency_s=0.005)
    other = result("z", recipe="other", run="old")
    file = tmp_path / "results.jsonl"
    append(file, [old, result("gone", run="old"), other])
    append(file, [result("a", run="new"), again])
    assert read(tmp_path).rows == [other, again] or read(tmp_path).rows == [again, other]


def test_two_runtimes_are_two_rows(tmp_path):
    append(tmp_path / "results.jsonl", [result("a"), result("a", runtime="openvino")])
    assert len(read(tmp_path).rows) == 2


@pytest.mark.parametrize("content", [None, "", "\n", "{}\n"])
def test_no_results_is_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "results.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"holds no results"):
        read(tmp_path)
