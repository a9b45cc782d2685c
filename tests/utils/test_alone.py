"""Taking turns with other processes on the machine, which are real ones here."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from compress.utils import alone
from compress.utils.alone import TIMING, Turns, alone_on_machine, folder
from tests.other_run import ALONE, LONG_S, go_on, said, started

# Trains until it is killed; says when it waits, and when it goes on.
TRAINS = """
import itertools, time
from compress.utils import alone
alone.PATIENCE_S = 0.05
told = []
def waits(text):
    told.append(text)
    print("waits:", text, flush=True)
with alone.Turns(waits) as turns:
    print("begins", flush=True)
    for step in turns.between(itertools.count()):
        time.sleep(0.05)
        if told:
            print("goes on", flush=True)
            told.clear()
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has locks of its own, and says anew that there are none."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(alone, "PATIENCE_S", 0.05)
    monkeypatch.setattr(alone, "_unavailable", [])


def test_a_second_one_waits_and_says_so_once() -> None:
    with started(ALONE, "search") as first:
        assert said(first) == "held"
        with started(ALONE, "search") as second:
            assert said(second) == "told: Waits until another search on this machine has ended."
            go_on(first)
            assert said(first) == "left"
            assert said(second) == "held"


def test_nobody_waits_for_another_kind_of_work() -> None:
    with started(ALONE, "search") as search, started(ALONE, TIMING) as timing:
        assert said(search) == said(timing) == "held"


def test_who_dies_holds_nothing() -> None:
    told: list[str] = []
    with started(ALONE, "search") as first:
        assert said(first) == "held"

        def ends_it(text: str) -> None:
            told.append(text)
            first.kill()

        with alone_on_machine("search", ends_it):
            assert len(told) == 1


def test_what_a_process_holds_it_may_hold_again() -> None:
    with alone_on_machine(TIMING, pytest.fail):
        with alone_on_machine(TIMING, pytest.fail):
            pass
        with started(ALONE, TIMING) as other:  # the inner one gave nothing back
            assert said(other).startswith("told: Waits until another run on this machine has timed")
            other.kill()


def test_an_error_gives_back() -> None:
    with pytest.raises(ZeroDivisionError), alone_on_machine("search", pytest.fail):
        raise ZeroDivisionError
    with started(ALONE, "search") as other:
        assert said(other) == "held"


def test_timing_waits_for_the_end_of_a_step() -> None:
    with ExitStack() as others:
        with Turns(pytest.fail):
            timing = others.enter_context(started(ALONE, TIMING))
            assert said(timing).startswith("told: ")
        assert said(timing) == "held"


def test_trainings_let_timing_in_and_go_on_after_it() -> None:
    with started(TRAINS) as training, started(TRAINS) as beside:
        assert said(training) == said(beside) == "begins"
        with alone_on_machine(TIMING, lambda text: None):
            for process in (training, beside):
                assert said(process) == (
                    "waits: The training waits while another run on this machine times something."
                )
        assert said(training) == said(beside) == "goes on"
        with alone_on_machine(TIMING, lambda text: None):
            pass


def test_trainings_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LEAST_S", 0.0)
    with started(TRAINS) as other:
        assert said(other) == "begins"
        with Turns(pytest.fail) as turns:
            assert list(turns.between(range(3))) == [0, 1, 2]


def test_what_was_waited_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "PATIENCE_S", 0.2)
    with started(ALONE, TIMING) as timing:
        assert said(timing) == "held"
        with Turns(lambda text: timing.kill()) as turns:
            assert 0.1 < turns.waited_s < LONG_S


def test_a_training_may_time_something_itself() -> None:
    with Turns(pytest.fail) as turns:
        for _ in turns.between(range(2)):
            with alone_on_machine(TIMING, pytest.fail):
                pass
        with started(ALONE, TIMING) as other:  # it holds its step again
            assert said(other).startswith("told: ")
    with alone_on_machine(TIMING, pytest.fail), Turns(pytest.fail) as turns:
        assert list(turns.between(range(2))) == [0, 1]


def test_without_a_folder_it_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    told: list[str] = []
    for name in ("search", TIMING):
        with alone_on_machine(name, told.append), alone_on_machine(name, told.append):
            pass
    with Turns(told.append) as turns:
        assert list(turns.between(range(2))) == [0, 1]
    assert len(told) == 1 and "no lock can be made" in told[0] and "TMPDIR" in told[0]


def test_the_folder_is_the_users_own() -> None:
    assert folder() == folder() and folder().name.endswith(str(os.getuid()))
    assert folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("made_by", ["a link", "a file", "all may write"])
def test_a_folder_that_others_may_have_prepared_is_not_used(made_by: str, tmp_path: Path) -> None:
    place = tmp_path / f"compress-{os.getuid()}"
    if made_by == "a link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif made_by == "a file":
        place.write_text("")
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(OSError):
        folder()
    told: list[str] = []
    with alone_on_machine(TIMING, told.append):
        assert str(place) in told[0]
    assert not list((tmp_path / "elsewhere").glob("*"))
