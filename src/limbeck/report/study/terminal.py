"""The tables of a study for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lenient import mean
from ..spread import quantity, spread
from .claims import claims, confidence
from .entries import entries
from .pareto import COSTS
from .ranking import ranking
from .reading import Study

if TYPE_CHECKING:
    from rich.table import Table

_TONES = {"holds": "green", "fails": "red"}


def study_tables(study: Study) -> list[Table]:
    """The ranking with differences and costs, then the claims with their verdicts; the caller prints them with a rich console."""
    tables = [_models(study)]
    if study.claims:
        tables.append(_claims(study))
    return tables


def _models(study: Study) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found, main = entries(study), study.primary
    ranked = ranking(study, found, confidence(study))
    rows = {id(row.entry): row for row in ranked.rows} if ranked else {}
    order = [row.entry for row in ranked.rows] if ranked else [entry for entry in found if entry.model == "student"]
    order += [entry for entry in found if entry.model != "student" and entry.arm == study.baseline]
    keys = [key for key in COSTS if any(mean(entry.of(key)) is not None for entry in found)][:3]
    table = Table(title=Text(study.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column(Text(main.title if main else "value"), justify="right")
    if ranked:
        table.add_column(Text(f"vs {ranked.baseline}"), justify="right")
        table.add_column("interval", justify="right", no_wrap=True)
        table.add_column("rank", justify="right", no_wrap=True)
    for key in keys:
        table.add_column(Text(quantity(key).title), justify="right", no_wrap=True)
    for entry in order:
        row = rows.get(id(entry))
        cells = [spread(entry.of(main.key), main) if main else ""]
        if ranked:
            cells += [row.difference, row.interval, row.mean_rank] if row else ["", "", ""]
        cells += [quantity(key).text(mean(entry.of(key))) for key in keys]
        style = "bold" if row is not None and row.best else ""
        table.add_row(Text(entry.label, style=style), *(Text(cell, style=style) for cell in cells))
    return table


def _claims(study: Study) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text("Claims"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "verdict", "estimate", "interval", "p", "note"):
        right = name in ("estimate", "interval", "p")
        table.add_column(name, justify="right" if right else "left", no_wrap=right or name == "verdict", overflow="fold")
    for row in claims(study).rows:
        texts = (row.estimate, row.interval, row.p, row.note)
        table.add_row(Text(row.text), Text(row.verdict, style=_TONES.get(row.verdict, "yellow")), *map(Text, texts))
    return table
