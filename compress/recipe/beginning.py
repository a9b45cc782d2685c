"""A candidate may begin where another ends: `- from: NAME` stands for that one's steps.

Works on a recipe's plain data, before lists of values become candidates: one that begins at a grid
becomes one for each of its points. Stages know nothing of it, so that what two candidates share is
computed once, as if it had been written out in both.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from compress.methods import discover
from compress.recipe.yaml_file import KeyPath

FROM = "from"
MAX_LINKS = 100  # candidates that one after the other begin where the next one ends


@dataclass
class Spliced:
    """A recipe's data with whole chains, and where each of their items was written."""

    data: dict[str, Any]
    origins: dict[Any, list[tuple[Any, int]]] = field(default_factory=dict)  # by candidate
    faults: list[tuple[KeyPath, str]] = field(default_factory=list)
    headless: set[KeyPath] = field(default_factory=set)  # candidates with a beginning that is none

    def written(self, at: KeyPath) -> KeyPath:
        """Return the author's key path for one in `data`."""
        if at[:1] != ("candidates",) or len(at) < 3 or at[1] not in self.origins:
            return at
        name, i = self.origins[at[1]][int(at[2])]
        return ("candidates", name, i, *at[3:])

    def begun(self, name: Any) -> int:
        """Return how many of a candidate's steps are another's."""
        return sum(owner != name for owner, _ in self.origins.get(name, ()))


def splice(data: dict[str, Any]) -> Spliced:
    """Write out the chains of candidates that begin where another ends.

    What is not understood stays as it is, to be refused where it is validated.
    """
    candidates = data.get("candidates")
    if not isinstance(candidates, dict):
        return Spliced(data)
    whole: dict[Any, Any] = {}
    found = Spliced(data | {"candidates": whole})
    for name, chain in candidates.items():
        if not _begins(chain):
            whole[name] = chain
            continue
        line, known, reason = _line(name, candidates)
        items = [item for owner in reversed(line) for item in _own(owner, candidates[owner])]
        whole[name] = [candidates[owner][i] for owner, i in items]
        found.origins[name] = items
        if known:
            reason = _pointless(name, line[1], whole[name], found.begun(name))
        if reason:
            found.faults.append((("candidates", name, 0, FROM), reason))
        if reason or not known:
            found.headless.add(("candidates", name))
    return found


def _line(name: Any, candidates: dict[Any, Any]) -> tuple[list[Any], bool, str]:
    """Return the candidates that one is made of, itself first, whether the beginning is known, and
    what is wrong with what it begins from.

    What is wrong further along the line is told of the candidate that wrote it.
    """
    line = [name]
    while _begins(candidates[line[-1]]):
        base = candidates[line[-1]][0][FROM]
        if not isinstance(base, str):
            what = f"give the name of one candidate, not {base!r}"
            return [name], False, what * (len(line) == 1)
        if base not in candidates:
            near = get_close_matches(base, [x for x in candidates if isinstance(x, str)], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return [name], False, f"there is no candidate {base!r}{hint}" * (len(line) == 1)
        if base in line:
            circle = " from ".join([*line, base])
            return [name], False, f"{circle}: write one of them out" * (base == name)
        if len(line) > MAX_LINKS:
            what = f"more than {MAX_LINKS} candidates begin one from the other: write one out"
            return [name], False, what
        line.append(base)
    return line, bool(_own(line[-1], candidates[line[-1]])), ""


def _pointless(name: Any, base: str, chain: list[Any], begun: int) -> str:
    """Return why nothing comes of beginning where `base` ends, if so."""
    if len(chain) == begun:
        return f"{name} adds no step to {base}: add one, or remove the candidate"
    last = chain[begun - 1]
    for kind in last if isinstance(last, dict) else ():
        if (method := discover().get(kind)) and method.nothing_follows:
            return f"{base} ends with {kind}, after which nothing follows: {method.nothing_follows}"
    return ""


def _begins(chain: Any) -> bool:
    """Return whether a chain begins from a candidate."""
    first = chain[0] if isinstance(chain, list) and chain else None
    return isinstance(first, dict) and list(first) == [FROM]


def _own(name: Any, chain: Any) -> list[tuple[Any, int]]:
    """Return where the steps stand that a candidate adds."""
    items = range(len(chain)) if isinstance(chain, list) else range(0)
    return [(name, i) for i in items[_begins(chain) :]]
