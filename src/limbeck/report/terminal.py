"""The summary table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .table import summary_table

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"teacher": "cyan", "peer": "magenta", "before": "bright_black", "alone": "yellow", "distilled": "bold green", "fused": "blue"}


def summary(results: Mapping[str, Any]) -> Table:
    """Teacher, alone and distilled side by side; the caller prints it with a rich console."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    content = summary_table(results)
    title = (results.get("about") or {}).get("title") or results.get("task") or ""
    table = Table(title=Text(str(title)) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for heading, role in zip(content.titles, content.roles, strict=True):
        table.add_column(Text(heading), justify="right", header_style=_STYLES[role])
    for row in content.rows:
        marks = row.best or (False,) * len(row.values)
        table.add_row(Text(row.title), *(Text(v, style="bold" if best else "") for v, best in zip(row.values, marks, strict=True)))
    return table
