"""The numbers that pages tell stand in committed reports and benchmarks.

A section names its sources by linking to them. A row of its tables must be a row there: all of its
numbers, but those of its first cell, stand with one candidate, or in one line. Of running text,
numbers with a decimal point and large ones must stand anywhere in the sources.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from compress.analysis.budget import Budget
from compress.analysis.summary import Summary, summarise
from compress.cascade.recipe import load_any
from compress.metrics.accuracy import paired_drop
from compress.metrics.significance import mcnemar
from compress.report.charts import svg
from compress.report.front_chart import pareto_chart
from compress.report.write import budget_of
from compress.results.merge import join

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^##? ", re.MULTILINE)
SOURCE = re.compile(r"\]\(((?:\.\./)*(?:reports|benchmarks)/[^)#]+\.md)")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,\u00a0\u202f]*(?:\.\d+)?(?:e-?\d+)?(?![\w]|\.\d)")
CODE = re.compile(r"^```.*?^```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL)
YEARS = range(1900, 2100)
VERSIONS = {"3.11", "2.0"}  # of Python, of the licence
COMPARED = (  # two rows of a report, whose paired difference pages tell
    ("prune_vgg", "vgg16_pruned", "vgg16_uniform"),
    ("binary_resnet18", "resnet18_float", "resnet18_binary_from_float"),
    ("binary_resnet18", "resnet18_float", "resnet18_binary"),
)
MB = 1e6


def numbers(text: str) -> set[str]:
    """Return the numbers of a text, written alike; of a count of bytes also its MB."""
    plain = re.sub(r"(?<=\d) (?=\d{3}\b)", "", text.replace("−", "-").replace("×", " "))
    found = {re.sub(r"[,+\u00a0\u202f]", "", x) for x in NUMBER.findall(plain)}
    return found | {f"{int(x) / MB:.3g}" for x in found if x.isdigit() and int(x) > MB}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").replace("**", "").split("|")]


def tables(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables with numbers, without their headings."""
    lines = text.splitlines()
    for before, line in pairwise(lines):
        is_row = line.startswith("|") and before.startswith("|")
        if is_row and not set(line) <= set("|-: "):
            yield cells(line)


def rows_of(source: str) -> list[set[str]]:
    """Return the numbers of each row of a source; those of a candidate from all its tables."""
    found: dict[tuple[str, ...], set[str]] = {}
    for row in tables(source):
        named = [cell for cell in row if cell not in ("", "★")]
        found.setdefault(tuple(named[:2]), set()).update(*map(numbers, named[2:]), ())
        found.setdefault(tuple(named), set()).update(*map(numbers, named))
    return list(found.values())


def sections(page: str) -> list[tuple[str, list[str]]]:
    """Return the parts of a page, each with the texts that it links to as sources."""
    path = ROOT / page
    parts = SECTION.split(path.read_text("utf-8"))
    return [(x, [(path.parent / y).read_text("utf-8") for y in SOURCE.findall(x)]) for x in parts]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_rows_of_tables_stand_in_the_reports_that_are_linked_to(page: str) -> None:
    invented, told = [], 0
    for text, sources in sections(page):
        known = [row for source in sources for row in rows_of(source)]
        for row in tables(text):
            said = set().union(*map(numbers, row[1:]))
            told += bool(said)
            if said and not any(said <= row_there for row_there in known):
                invented.append(row)
    assert told >= 6
    assert not invented


@cache
def differences() -> set[str]:
    """Return points and intervals of COMPARED, and McNemar's p where it is small."""
    found = set()
    for report, better, worse in COMPARED:
        rows = join([ROOT / "reports" / "right_whales" / report])
        one, other = (
            next(row.accuracy.correct for row in rows if row.candidate == name)
            for name in (better, worse)
        )
        drop = paired_drop(one, other)
        found |= {f"{100 * x:.1f}" for x in (drop.value, drop.low, drop.high)}
        found.add(f"{mcnemar(one, other):.3f}")
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_numbers_in_running_text_stand_in_the_sources(page: str) -> None:
    invented = set()
    for text, sources in sections(page):
        prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
        telling = {
            x
            for x in numbers(CODE.sub(" ", prose))
            if "." in x or (abs(int(x)) >= 100 and int(x) not in YEARS)
        }
        invented |= telling - set().union(*map(numbers, sources))
    assert not invented - differences() - VERSIONS


def test_what_is_in_no_report_is_found() -> None:
    known = rows_of("| | a |\n| --- | --- |\n| ★ | net | ort | 49.7 ± 4.9 | 1,234,567 |")
    assert {"49.7", "4.9", "1.23"} <= known[0]
    assert numbers("about 3 693 images, 12.6 (-1.0 to +2.5), 13.1×, a1, 3.11.7") == {
        *("3693", "12.6", "-1.0", "2.5", "13.1")
    }


def last_lines(recipe: str, report: Summary) -> str:
    """Return what `compress run` says after its table."""
    choice = report.choice
    assert choice and choice.picked
    folder = f"reports/{recipe}"
    return f"Chosen: {choice.picked.artifact.path} {choice.why} Report: {folder}/report.html"


def test_the_last_lines_of_a_run_are_those_of_the_committed_results() -> None:
    asked = load_any(ROOT / "recipes" / "everything.yaml").asked
    report = summarise(join([ROOT / "reports" / "everything"]), budget_of(asked))
    shown = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert last_lines("everything", report) in shown


def test_the_picture_is_drawn_from_the_committed_reports() -> None:
    """`make front` draws it. What fonts change is not compared: labels say what each mark shows."""
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    (names,) = re.findall(r"^REAL_JOB := \$\(addprefix ([^)]*)\)", makefile, re.MULTILINE)
    folder, _, recipes = names.partition(",")
    asked = re.findall(r"^FRONT := --speedup (\S+) --max-accuracy-drop (\S+)", makefile, re.M)[0]
    budget = Budget(speedup=float(asked[0]), max_accuracy_drop=float(asked[1]))
    report = summarise(join(ROOT / folder / name for name in recipes.split()), budget)
    drawn, kept = svg(pareto_chart(report)), (ROOT / "docs/front.svg").read_text("utf-8")
    labels = re.compile('aria-label="([^"]*)"')
    assert labels.findall(drawn) == labels.findall(kept)
