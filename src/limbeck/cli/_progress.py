"""Progress on the screen: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ..run import interruptible

EVERY = 2.0
"""Seconds between plain lines."""


class Screen:
    """A listener that draws."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None
        self._bar: Any = None
        self._losses, self._metrics = "", ""
        self._last = 0.0
        self._name, self._total, self._line = "", 0, ""
        self._silent = False

    def stage(self, name: str, learner: str, round: int, rounds: int, updates: int, done: int) -> None:  # noqa: A002
        """A stage begins."""
        self.close()
        self._losses, self._metrics, self._total = "", "", updates
        self._name = name + (f" {round + 1}/{rounds}" if rounds > 1 else "")
        if not self.console.is_terminal:
            work = f"training {learner}, {updates} updates" if learner else f"{updates} batches"
            self.console.print(f"{self._name}: {work}" + (f", {done} done" if done else ""), highlight=False)
            self._silent, self._last = not learner, time.monotonic()
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            # Takes what is left of the line and no more, so that a narrow terminal cuts the values and not the bar.
            TextColumn("{task.fields[values]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        )
        self.progress = Progress(*columns, console=self.console, expand=True)
        self.progress.start()
        self._bar = self.progress.add_task(self._name, total=updates, completed=done, values="")

    def update(self, update: int) -> None:
        """An update is over."""
        if self.progress is not None:
            self.progress.update(self._bar, completed=update)
        elif self._silent and (update == self._total or time.monotonic() - self._last > EVERY):
            self._line = f"{self._name}: {update}/{self._total}"
            self._print_line()

    def record(self, record: Mapping[str, Any]) -> None:
        """Shows the latest values."""
        values = record["values"]
        if record["kind"] == "train":
            self._losses = "  ".join(f"{k} {v:.3g}" for k, v in values.items() if v is not None and k != "lr")
        else:
            self._metrics = "  ".join(f"{k} {v:.4g}" for k, v in list(values.items())[:2] if v is not None)
        text = "  ".join(part for part in (self._losses, self._metrics and f"| valid {self._metrics}") if part)
        if self.progress is not None:
            self.progress.update(self._bar, values=text)
            return
        self._line = f"{self._name}: {record['step']}/{self._total}  {text}"
        # The last line of a stage waits for the evaluation that ends it.
        if record["step"] != self._total and time.monotonic() - self._last > EVERY:
            self._print_line()

    def message(self, text: str) -> None:
        """A note."""
        self.console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)

    def _print_line(self) -> None:
        self._last = time.monotonic()
        self.console.print(self._line, highlight=False, soft_wrap=True)
        self._line = ""

    def close(self) -> None:
        """Ends the live bar, or prints the line that is still to come."""
        if self._line:
            self._print_line()
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


@contextmanager
def watched(console: Console) -> Iterator[tuple[Screen, Callable[[], bool]]]:
    """The screen of a command and whether it was asked to stop; the screen is closed at the end."""
    screen = Screen(console)
    try:
        with interruptible() as interrupted:
            yield screen, interrupted
    finally:
        screen.close()
