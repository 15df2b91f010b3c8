"""Tables, plots and one self-contained HTML page about one run or several."""

from __future__ import annotations

from .page import write_report as write_report
from .table import Row as Row
from .table import summary_table as summary_table
from .terminal import summary as summary

__all__ = ["Row", "summary", "summary_table", "write_report"]
