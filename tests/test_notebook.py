"""docs/notebook.ipynb runs from its first cell to its last, and is committed without outputs."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# Everything is done as the reader does it, only less of it.
LESS = """
teacher_epochs = student_epochs = views = 1
settings = [
    "measure.threads=1", "measure.processes=1", "measure.rounds=5", "measure.throughput_batch=2",
    "measure.throughput_rounds=1", "candidates.int8.0.quantize.images=16",
    "candidates.int8.0.quantize.judged=16", "candidates.int8.0.quantize.max_drop_vs_float=1",
]
from compress.methods.quantize import layer_search
layer_search.PROCESSES, layer_search.ROUNDS = 1, 5
"""


def test_it_holds_no_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.slow
def test_it_runs_and_shows_results_front_and_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(ROOT / "docs" / "tutorial", tmp_path / "tutorial")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [x for x in notebook.cells if "parameters" in x.metadata.get("tags", ())]
    parameters.source = LESS
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1200, resources=resources).execute()
    given = {
        cell.source.splitlines()[-1]: cell.outputs[-1].data
        for cell in notebook.cells
        if cell.get("outputs") and "data" in cell.outputs[-1]
    }
    assert "shufflenet_v2_x1_0" in given["results"]["text/html"]
    assert given["front(results)"]["image/svg+xml"].startswith("<svg")
    assert given["choice"]["text/html"].startswith("<table>")
    assert (tmp_path / "signs" / "reports" / "notebook" / "report.html").is_file()
