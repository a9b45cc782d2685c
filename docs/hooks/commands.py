"""Writes the page of every command and option, from the commands themselves. Needs no mkdocs."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from compress.cli import app

HEAD = """# Command line

This page is made from the commands themselves; `compress COMMAND --help` says the same.

| exit code | means |
| --- | --- |
| 0 | done |
| 2 | something to put right, in a sentence |
| 3 | `choose`, `search`: nothing meets the budget |
| 4 | `compare`: something got worse |
| 5 | `run`: a candidate failed, the others are there |
| 130 | `run`, `search`: stopped by a key; the same command goes on |
"""


def page() -> str:
    """Return the page in Markdown."""
    lines = [HEAD]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += _command(name, command)
    return "\n".join(lines)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [x for x in command.params if x.param_type_name == "argument"]
    options = [x for x in command.params if x.param_type_name == "option"]
    usage = " ".join(["compress", name, "[OPTIONS]", *map(_usage, arguments)])
    yield f"\n## compress {name}\n"
    yield f"{command.help}\n"
    yield f"```text\n{usage}\n```\n"
    yield "| | |\n| --- | --- |"
    for argument in arguments:
        yield f"| `{argument.name.upper()}` | {_help(argument)} |"
    for option in options:
        names = ", ".join(f"`{x}`" for x in (*option.opts, *option.secondary_opts))
        yield f"| {names} | {_help(option)} |"


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _help(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.default
    plain = isinstance(default, int | float | str) and not isinstance(default, bool)
    return f"{text} Default: `{default}`." if plain and default != "" else text
