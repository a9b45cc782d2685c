"""How a recipe names layers: by patterns."""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from compress.utils.errors import UserError


def matching(patterns: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    """The names that any of the patterns matches.

    Raises:
        UserError: a pattern that matches none; the nearest names are offered.
    """
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            near = get_close_matches(pattern, names, 3, 0.3) or list(names)[:3]
            raise UserError(f"{pattern!r} matches no layer. Did you mean {', '.join(near)}?")
        yield from found
