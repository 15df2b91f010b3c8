"""A study on the screen: how far it is, and what came out of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engine.watch import Listener
from ..study.runs import Job
from ._progress import Screen

_STYLES = {"holds": "bold green", "fails": "bold red", "undecided": "yellow"}
SHOWN = 5
"""Metrics that the table of values shows at most."""


class StudyScreen:
    """Says which run is under way, how many are left, and how long these will take."""

    def __init__(self, console: Console) -> None:
        self.console, self.screen = console, Screen(console)
        self.total, self.over, self._done = 0, 0, 0
        self._started = time.monotonic()

    def planned(self, total: int, finished: int) -> None:
        """How many jobs there are."""
        self.total, self.over, self._started = total, finished, time.monotonic()
        self.console.print(f"{total} runs, {finished} of them finished already" if finished else f"{total} runs", highlight=False)

    def began(self, job: Job) -> None:
        """A job is begun."""
        self.console.print(Text(f"{job.title}", style="bold"))

    def ended(self, job: Job, error: str | None) -> None:
        """A job is over; the time that is left is told from those that were done."""
        self.screen.close()
        self.over, self._done = self.over + 1, self._done + 1
        left = (time.monotonic() - self._started) / self._done * (self.total - self.over)
        rest = f", about {_duration(left)} left" if self.over < self.total else ""
        if error:
            self.console.print(Text(f"{job.title} failed: {error}", style="red"), soft_wrap=True)
        self.console.print(f"{self.over} of {self.total} done{rest}", highlight=False)

    def message(self, text: str) -> None:
        """A note."""
        self.screen.message(text)

    def listener(self) -> Listener:
        """Who shows the run of this process."""
        return self.screen

    def close(self) -> None:
        """Ends the live bar."""
        self.screen.close()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def values_table(results: Mapping[str, Any]) -> Table:
    """Mean and standard deviation over the seeds of every arm's student; with one arm, of all its models."""
    found = Table(title=Text(str(results["about"]["title"] or results["slug"])), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    arms = results["arms"]
    rows = {arm: own["values"].get("student", {}) for arm, own in arms.items()}
    if len(arms) == 1:
        (name, only), *_ = arms.items()
        rows = {name if model == "student" else model: values for model, values in only["values"].items()}
    metrics = _metrics(rows.values(), results["primary"])
    found.add_column("")
    for metric in metrics:
        found.add_column(metric, justify="right")
    for title, values in rows.items():
        found.add_row(Text(title), *(spread(values.get(metric, [])) for metric in metrics))
    return found


def _metrics(rows: Iterable[Mapping[str, Any]], primary: str) -> list[str]:
    known = dict.fromkeys(metric for row in rows for metric in row)
    usual = [metric for metric in (primary, "nll", "ece", "mae", "seconds", "parameters") if metric in known]
    return list(dict.fromkeys([primary, *usual]))[:SHOWN]


def spread(values: Sequence[float | None]) -> str:
    """`0.95 +- 0.01` over the seeds that have a value."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    mean = statistics.fmean(there)
    wide = f" ± {statistics.stdev(there):.2g}" if len(there) > 1 and len(set(there)) > 1 else ""
    return f"{mean:,.4g}{wide}" if abs(mean) < 1e4 else f"{mean:,.0f}{wide}"


def claims_table(claims: Sequence[Mapping[str, Any]]) -> Table:
    """Each claim with its verdict, the difference of its sides and the interval."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("claim", "verdict", "left - right", "interval", ""):
        found.add_column(title)
    for claim in claims:
        interval = "-" if claim["low"] is None else f"{claim['low']:+.4g} to {claim['high']:+.4g} ({claim['confidence']:.3g})"
        estimate = "-" if claim["estimate"] is None else f"{claim['estimate']:+.4g}"
        verdict = Text(claim["verdict"], style=_STYLES[claim["verdict"]])
        found.add_row(Text(claim["text"]), verdict, estimate, interval, Text(claim["reason"]))
    return found
