"""Answers from options; what they leave out is asked on a terminal."""

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import typer

from compress.utils.errors import UserError

T = TypeVar("T")


class Questions:
    """Asks only where somebody sits before it."""

    def __init__(self) -> None:
        self.on_terminal = sys.stdin.isatty()

    def require(self, options: Mapping[str, object | None]) -> None:
        """Refuse to go on without a terminal where something is missing that cannot be guessed.

        Raises:
            UserError: names every option that is missing.
        """
        missing = [flag for flag, given in options.items() if given is None]
        if missing and not self.on_terminal:
            raise UserError(
                f"There is no terminal to ask on: give {', '.join(missing)} "
                "(compress init --help explains them)."
            )

    def answer(
        self,
        given: str | None,
        question: str,
        parse: Callable[[str], T],
        default: str | None = None,
    ) -> T:
        """Return the option, or what is typed (asked until it parses), or else the default.

        Raises:
            UserError: an option that does not parse.
        """
        if given is not None:
            return parse(given)
        if not self.on_terminal:
            assert default is not None, "options without a default are required first"
            return parse(default)
        while True:
            typed = typer.prompt(question, default=default, type=str)
            try:
                return parse(typed.strip())
            except UserError as error:
                typer.echo(f"{error}")

    def confirm(self, flag: str, given: bool | None, question: str) -> bool:
        """Return the option, or else ask for yes or no.

        Raises:
            UserError: neither; names the option.
        """
        if given is not None:
            return given
        if not self.on_terminal:
            raise UserError(f"{question} There is no terminal to ask on: give {flag}.")
        return typer.confirm(question)
