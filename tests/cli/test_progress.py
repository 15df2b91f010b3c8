"""What is seen while a run goes on."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from limbeck.cli._progress import Screen


def screen(*, terminal: bool, width: int = 200) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(Console(file=out, force_terminal=terminal, width=width, color_system=None)), out


def short_stage(shown: Screen) -> None:
    shown.stage("distil", "student", 0, 1, 4, 0)
    for update in range(1, 5):
        shown.update(update)
        shown.record({"kind": "train", "step": update, "values": {"total": 1.5 / update, "labels": 1.0, "lr": 0.1}})
    shown.record({"kind": "valid", "step": 4, "values": {"accuracy": 0.5, "nll": 0.7, "ece": 0.1}})


def test_lines_without_a_terminal():
    shown, out = screen(terminal=False)
    short_stage(shown)
    shown.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "distil: training student, 4 updates"
    # The last update is told once, with the evaluation that ends the stage.
    assert lines[-1] == "distil: 4/4  total 0.375  labels 1  | valid accuracy 0.5  nll 0.7"
    assert sum(line.startswith("distil: 4/4") for line in lines) == 1


def test_a_stage_that_goes_on_says_so():
    shown, out = screen(terminal=False)
    shown.stage("distil", "student", 1, 3, 40, 12)
    shown.close()
    assert out.getvalue() == "distil 2/3: training student, 40 updates, 12 done\n"


def test_where_nobody_learns_batches_are_counted(monkeypatch: pytest.MonkeyPatch):
    """A teacher that is asked for hours says how far it is, without values."""
    now = [0.0]
    monkeypatch.setattr("limbeck.cli._progress.time.monotonic", lambda: now[0])
    shown, out = screen(terminal=False)
    shown.stage("label", "", 0, 1, 4, 1)
    for update, moment in ((2, 1.0), (3, 2.5), (4, 2.6)):
        now[0] = moment
        shown.update(update)
    shown.stage("distil", "student", 0, 1, 2, 0)
    now[0] = 9.0
    shown.update(1)
    assert out.getvalue().splitlines() == ["label: 4 batches, 1 done", "label: 3/4", "label: 4/4", "distil: training student, 2 updates"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_cuts_the_values_and_not_the_bar(width: int):
    shown, out = screen(terminal=True, width=width)
    short_stage(shown)
    shown.close()
    last = [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", out.getvalue()) if line.strip()][-1]
    assert last.startswith("distil ━━━━")
    assert "4/4" in last
    assert "total" in last
    assert len(last) <= width
    assert ("nll 0.7" in last) == (width == 200)


def test_a_name_with_brackets_is_text_and_not_markup():
    shown, out = screen(terminal=False)
    shown.message("data [1] of [red]x[/red]")
    assert out.getvalue() == "note: data [1] of [red]x[/red]\n"
