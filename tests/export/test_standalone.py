"""Text of functions that runs without the package that they are of."""

import math
import sys
from pathlib import Path

import pytest

from compress.export import standalone as module
from compress.export.standalone import standalone

LOW = """
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mine.heavy import Heavy

# Twice this
# is a diameter.
RADIUS = 2.0  # metres


def area(of: "Heavy") -> float:
    return math.pi * of * _square(of)


def _square(x: float) -> float:
    return x * (area(0.0) if x < 0 else 1)


def others() -> None: ...
"""
HIGH = """
from dataclasses import dataclass
from functools import cache

import numpy as np

from mine.heavy import Heavy
from mine.low import RADIUS, area, others

DOUBLE = 2 * RADIUS


@dataclass(frozen=True)
class Disc:
    radius: float = DOUBLE
    of: Heavy | None = None


@cache
def disc(given: Heavy, others: float = 0.0) -> np.ndarray:
    given = others
    return np.array([area(RADIUS), Disc().radius])


def from_within(x: float) -> float:
    from mine.low import area  # only where it is called
    return area(x)


"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "heavy.py").write_text("raise ImportError('it must not be imported')")
    (folder / "low.py").write_text(LOW)
    (folder / "high.py").write_text(HIGH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "mine")
    yield folder
    for name in [x for x in sys.modules if x.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_it_has_what_is_needed_and_no_more(mine: Path) -> None:
    text = standalone(["mine.high:disc"])
    found: dict[str, object] = {}
    exec(text, found)
    assert found["disc"](None).tolist() == [math.pi * 4, 4.0]
    assert "# Twice this\n# is a diameter.\nRADIUS = 2.0  # metres" in text
    assert "import math\n" in text and "import numpy as np" in text
    assert "mine" not in text and "def others" not in text and "TYPE_CHECKING" not in text
    assert text.index("import cache") < text.index("import math") < text.index("import numpy")


def test_what_a_function_imports_is_defined_before_it(mine: Path) -> None:
    text = standalone(["mine.high:from_within"])
    found: dict[str, object] = {}
    exec(text, found)
    assert found["from_within"](1.0) == math.pi
    assert "mine" not in text and "only where it is called" not in text


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("mine.high:nothing", "mine.high defines no nothing"),
        ("mine.nowhere:disc", "there is no module mine.nowhere"),
    ],
)
def test_what_cannot_be_followed_is_said(mine: Path, root: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        standalone([root])


def test_two_things_of_one_name_are_refused(mine: Path) -> None:
    (mine / "more.py").write_text("def area(): ...\n")
    with pytest.raises(ValueError, match=r"area of mine\.more is also something else"):
        standalone(["mine.high:disc", "mine.more:area"])


def test_names_that_are_changed_in_between_are_refused(mine: Path) -> None:
    (mine / "more.py").write_text("from mine.low import area as surface\nx = surface\n")
    with pytest.raises(ValueError, match="by its own name"):
        standalone(["mine.more:x"])
