"""The commands of docs/tutorial.md, run one after the other as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)( measured)?\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)

# Everything is done as the reader does it, only less of it.
STUDENT = "candidates.shufflenet_v2_x1_0.0.distill"
LESS = {
    "train_teacher.py": ["1"],
    "run": [
        f"--set={setting}"
        for setting in (
            f"{STUDENT}.train.epochs=1", f"{STUDENT}.views=1", "measure.processes=1",
            "measure.rounds=5", "measure.throughput_batch=2", "measure.throughput_rounds=1",
            "candidates.int8.0.quantize.images=16", "candidates.int8.0.quantize.judged=16",
            "candidates.int8.0.quantize.max_drop_vs_float=1",
        )
    ],
    "choose": ["--speedup=0.1", "--max-accuracy-drop=1"],  # of networks that learned so little
}  # fmt: skip
SHIM = """#!{python}
import runpy, sys
less = {less!r}
for word in list(sys.argv[1:]):
    sys.argv += less.get(word.rpartition("/")[2], [])
if {name!r} == "compress":
    if sys.argv[1] == "run":
        from compress.methods.quantize import layer_search
        layer_search.PROCESSES, layer_search.ROUNDS = 1, 5
    from compress.cli import main
    main()
elif sys.argv[1] == "-c":
    exec(sys.argv[2])
else:
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after all commands of the document, and what they printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "docs").symlink_to(ROOT / "docs")
    programs = folder / "programs"
    programs.mkdir()
    for name in ("compress", "python"):
        (programs / name).write_text(SHIM.format(python=sys.executable, less=LESS, name=name))
        (programs / name).chmod(0o755)
    commands = "\n".join(text for language, _, text in BLOCKS if language == "sh")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_what_is_shown_is_what_is_printed(run: tuple[Path, str]) -> None:
    """All but what was measured, which is the reader's machine's."""
    shown = [text for language, measured, text in BLOCKS if language == "text" and not measured]
    assert len(shown) >= 3
    for text in shown:
        assert text in run[1]


def test_the_recipe_shown_is_the_recipe_written(run: tuple[Path, str]) -> None:
    written = (run[0] / "signs" / "signs.yaml").read_text("utf-8")
    shown = [text for language, _, text in BLOCKS if language == "yaml"]
    assert shown and all(text in written for text in shown)


def test_what_was_measured_has_the_shape_that_is_shown(run: tuple[Path, str]) -> None:
    """Sentences around the numbers stay what they are."""
    measured = [line for _, kind, text in BLOCKS if kind for line in text.splitlines()]
    for start in ("Chosen: ", "Why: ", "top-1 "):
        assert any(line.startswith(start) for line in measured)
        assert re.search(f"^{start}", run[1], re.MULTILINE)
    assert (run[0] / "signs" / "reports" / "signs" / "report.html").is_file()


def test_the_document_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TUTORIAL)
    assert links and all((ROOT / "docs" / link).exists() for link in links if "//" not in link)
