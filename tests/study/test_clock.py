"""Times as they are written, and accounts that go on over sessions."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from limbeck.errors import RunError
from limbeck.study.clock import Clock, seconds_of, words


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2", 120), ("0.5h", 1800), ("1d", 86400)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-3m", "1h,2m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RunError, match="expected a time such as 30m, 90s or 1h30m, found"):
        seconds_of(text)


def test_no_time_at_all() -> None:
    with pytest.raises(RunError, match="expected a time above zero"):
        seconds_of("0m")


def test_words() -> None:
    assert [words(value) for value in (0.2, 59.6, 65, 5400, 3600)] == ["0 s", "1 min", "1 min 5 s", "1 h 30 min", "1 h"]


def test_a_second_session_goes_on_with_the_account(tmp_path: Path) -> None:
    first = Clock(100.0, tmp_path / "clock.json", time.monotonic() - 40)
    first.note(now=True)
    second = Clock(100.0, tmp_path / "clock.json", time.monotonic() - 10)
    assert second.spent == pytest.approx(50, abs=1)
    assert second.left == pytest.approx(50, abs=1)
    assert Clock(100.0, tmp_path / "other.json").spent < 1
