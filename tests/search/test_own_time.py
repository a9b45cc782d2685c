"""The search's own time stands still while nothing runs, and a kill loses an epoch of it."""

from pathlib import Path

import pytest

from compress.recipe.schema import GridPoint
from compress.search.journal import Journal
from compress.search.own_time import OwnTime


def test_it_is_kept_after_each_epoch_and_when_a_key_ends_it(tmp_path: Path) -> None:
    now_s = 100.0

    def own() -> OwnTime:
        journal = Journal(tmp_path / "journal", {"a": GridPoint("a", {})}, 0, "the same")
        return OwnTime(journal, lambda: now_s, now_s, limit_s=60)

    first = own()
    now_s += 40
    assert not first.is_up_after_epoch() and first.left_s == 20
    now_s += 1000  # killed, and begun again
    again = own()
    assert again.spent_s == 40
    with pytest.raises(KeyboardInterrupt), again.kept():
        now_s += 25
        raise KeyboardInterrupt
    last = own()
    assert last.spent_s == 65 and last.is_up_after_epoch()
