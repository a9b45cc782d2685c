"""What the pages say is true as far as can be told without running it: commands, recipes, links."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer import BadParameter
from typer.main import get_command
from typer.testing import CliRunner

from compress.cascade.recipe import load_any
from compress.cli import app

ROOT = Path(__file__).parents[1]
UsageError = BadParameter.__mro__[1]  # click's, or that of the click inside of newer typers
sys.path.append(str(ROOT / "docs" / "hooks"))
import commands  # noqa: E402
import recipe_keys  # noqa: E402

WRITTEN = {"recipe-keys.md": recipe_keys.page(), "commands.md": commands.page()}
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if "signs" not in path.parts  # of the tutorial, where somebody followed it
} | {f"docs/{name}": text for name, text in WRITTEN.items()}
READ = [name for name in PAGES if name != "CHANGELOG.md"]  # which tells of options that are gone
BLOCK = re.compile(r"^```(\w+)( \w+)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (compress .*)$", re.MULTILINE)
INLINE = re.compile(r"`(compress [^`]+)`")
AROUND = """
name: around
data: {{path: images}}
teacher: {{builder: torchvision.models:resnet50, weights: resnet50.safetensors}}
measure: {{runtimes: [onnxruntime, openvino]}}
candidates:
  one:
    {steps}
"""
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands_of(text: str) -> list[str]:
    """Return the command lines of `compress` that a page shows, each on one line."""
    shown = [code for language, _, code in BLOCK.findall(text) if language in ("sh", "bash")]
    lines = [line for code in shown for line in code.replace("\\\n", " ").splitlines()]
    outside = BLOCK.sub("", text)
    inline = [" ".join(x.split()) for x in INLINE.findall(outside)]
    found = [*lines, *INDENTED.findall(outside), *inline]
    return [line for line in found if line.startswith("compress ")]


def shell_blocks(page: str) -> list[tuple[str, str, str]]:
    """Return the mark and code of each block of commands, and what the block after it shows."""
    blocks = [(language, mark.strip(), code) for language, mark, code in BLOCK.findall(PAGES[page])]
    following = [*blocks[1:], ("", "", "")]
    return [
        (mark, code, shown if kind == "text" else "")
        for (language, mark, code), (kind, _, shown) in zip(blocks, following, strict=False)
        if language in ("sh", "bash")
    ]


def whole_recipes(text: str) -> list[str]:
    """Return the recipes that a page shows: those marked as whole, and steps put into one."""
    blocks = [(mark.strip(), code) for _, mark, code in BLOCK.findall(text)]
    steps = [code.replace("\n", "\n    ") for mark, code in blocks if mark == "steps"]
    return [code for mark, code in blocks if mark == "whole"] + [
        AROUND.format(steps=code) for code in steps
    ]


def fault(line: str) -> str:
    """Return what is wrong with a command line; empty where nothing is."""
    _, name, *arguments = shlex.split(line, comments=True)
    group = get_command(app)
    if name.startswith("-"):
        known = {option for parameter in group.params for option in parameter.opts}
        return "" if name in known else f"no option {name}"
    command = group.commands.get(name)  # type: ignore[attr-defined]
    if command is None:
        return "" if name == "COMMAND" else f"no command {name}"
    try:
        # What a page leaves out of a command in running text is not a fault: only what it says is.
        command.make_context(name, arguments, resilient_parsing=not arguments)
    except UsageError as error:
        return error.format_message()  # type: ignore[attr-defined]
    return ""


@pytest.mark.parametrize("page", READ)
def test_commands_are_ones_that_there_are(page: str) -> None:
    faults = [(line, said) for line in commands_of(PAGES[page]) if (said := fault(line))]
    assert not faults


def test_a_command_that_is_none_is_found() -> None:
    assert len(commands_of(PAGES["docs/tutorial.md"])) >= 6
    assert fault("compress walk recipe.yaml") == "no command walk"
    assert "No such option" in fault("compress run recipe.yaml --fast")


@pytest.mark.parametrize("page", [name for name in READ if name != "docs/tutorial.md"])
def test_blocks_of_commands_are_run_or_marked_as_shown(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for mark, code, shown in shell_blocks(page):
        assert mark in ("run", "shown"), code
        if mark == "run":
            arguments = shlex.split(code.removeprefix("compress "))
            assert CliRunner().invoke(app, arguments).output == shown


def test_the_python_that_is_marked_to_run_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = (x for _, mark, x in BLOCK.findall(PAGES["docs/api.md"]) if mark == " run")
    exec(code, {})
    *rows, picked = capsys.readouterr().out.splitlines()
    assert "vgg16_int8: 0.869 (0.826 to 0.903), 3.6 times" in rows
    assert picked == "vgg16_pruned-speedup-8"


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if whole_recipes(text)])
def test_whole_recipes_are_right(page: str, tmp_path: Path) -> None:
    for text in whole_recipes(PAGES[page]):
        (tmp_path / "images").mkdir(exist_ok=True)
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(text, "utf-8")
        assert load_any(recipe).of_networks


@pytest.mark.parametrize("page", READ)
def test_links_lead_to_files_and_headings(page: str) -> None:
    missing = []
    for link in LINK.findall(BLOCK.sub("", PAGES[page])):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        name = target.resolve().relative_to(ROOT).as_posix()
        there = target.exists() or name in PAGES
        if not there or (heading and heading not in anchors(PAGES[name])):
            missing.append(link)
    assert not missing


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title.lower()).strip().replace(" ", "-") for title in headings}


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    pages = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")}
    assert listed == pages | {"contributing.md"}


def test_every_key_and_every_option_is_on_its_page() -> None:
    keys, options = WRITTEN["recipe-keys.md"], WRITTEN["commands.md"]
    assert "| `max_drop_vs_float` | number from 0 to 1 | `0.01` |" in keys
    assert "`hard_weight` | number from 0 to 1 | `0.0` | share of the labels' own loss |" in keys
    assert "kept from training, to choose settings by" in keys  # a comment of two lines
    assert "it is shown; the points' median counts" in keys  # a comment above its key
    assert "reduce_range" not in keys  # an old name
    assert "| {} |" not in keys and " with {}" not in keys  # links have taken their places
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"## compress {name}" in options
        assert all(
            f"`{x}`" in options for option in command.params for x in option.opts if "-" in x
        )
