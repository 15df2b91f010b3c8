"""Write the report of a run, or compare several runs on one page.

The report is one HTML file that loads nothing from elsewhere. With several run directories it shows them side by side: the numbers
of their students, the differences, the curves over one another, and the recipe keys in which they differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory, as `limbeck run` makes them")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: RUN/report.html; comparison.html for several)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..report import write_report

    runs: list[Path] = args.runs
    out = args.out or (runs[0] / "report.html" if len(runs) == 1 else Path("comparison.html"))
    print(write_report(runs, out))
    return 0
