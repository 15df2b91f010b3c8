"""Wall-clock budgets: how they are written, and how much of one is spent, also over several sessions."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError
from ..files import read_json, write_json

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EVERY = 5.0
"""Seconds between two notes of the time that is spent; so much is lost of the account when a session is killed."""


def seconds_of(text: str) -> float:
    """Seconds of `90s`, `30m`, `1.5h`, `2h30m`; a plain number is minutes.

    Raises:
        RunError: where it is no time.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise RunError(f"expected a time such as 30m, 90s or 1h30m, found {text!r}.")
    total = sum(float(number) * _UNITS[unit or "m"] for number, unit in parts)
    if total <= 0:
        raise RunError(f"expected a time above zero, such as 30m, found {text!r}.")
    return total


def words(seconds: float) -> str:
    """`1 h 30 min`, `4 min 5 s`, `12 s`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    shown = [(hours, "h"), (minutes, "min"), (rest if not hours else 0, "s")]
    return " ".join(f"{value} {unit}" for value, unit in shown if value) or "0 s"


@dataclass
class Clock:
    """What is left of a budget.

    Args:
        budget: seconds, over all sessions.
        file: where the time that is spent is noted.
        began: when this session began, by `time.monotonic`; now where absent.
    """

    budget: float
    file: Path
    began: float | None = None

    def __post_init__(self) -> None:
        self._before = float(read_json(self.file)["spent"]) if self.file.exists() else 0.0
        self._noted = time.monotonic()
        self._start = self.began if self.began is not None else self._noted

    @property
    def spent(self) -> float:
        """Seconds since the beginning, those between two sessions aside."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; below zero where there were too few."""
        return self.budget - self.spent

    def note(self, *, now: bool = False) -> None:
        """Writes down what is spent, every few seconds or at once."""
        if now or time.monotonic() - self._noted > EVERY:
            self._noted = time.monotonic()
            write_json(self.file, {"spent": self.spent})
