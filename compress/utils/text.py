"""Names and notes are somebody's text: they must render as themselves and do nothing else."""

import re

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# C0, C1, line and paragraph separators, direction overrides, what XML forbids.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+"
)


def plain(text: str) -> str:
    """One line without control characters: it cannot move the cursor or break an SVG."""
    return _CONTROL.sub(" ", text)


def html_escape(text: str) -> str:
    """One line that is no tag, for the few lines of HTML in Markdown."""
    return re.sub("[&<>]", lambda match: _ENTITIES[match[0]], plain(text))


def markdown_escape(text: str) -> str:
    """One line that renders as itself: no tag, link, emphasis or new table cell."""
    text = re.sub(r"[\\`*\[\]|~$#]", r"\\\g<0>", html_escape(text))
    # An underscore between letters is literal anyway, and names are full of them.
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def markdown_code(text: str) -> str:
    """A code block whose fence the text cannot close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
