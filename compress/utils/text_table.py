"""A table as text: terminal, Markdown and HTML print the same one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Nothing in it is escaped."""

    title: str
    meaning: str
    headings: list[str]
    rows: list[list[str]]
    words: int  # the first columns, which hold words; the others hold numbers
    folded: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [number >= self.words for number in range(len(self.headings))]
