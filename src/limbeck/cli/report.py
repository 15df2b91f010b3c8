"""Write the report of a run or of a study, or compare several runs on one page.

The report is one HTML file that loads nothing from elsewhere. With several run directories it shows them side by side: the numbers
of their students, the differences, the curves over one another, and the recipe keys in which they differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directory, as `limbeck run` makes them, or the folder of a study"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: RUN/report.html; comparison.html for several)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..errors import RunError
    from ..report import write_report
    from ..report.study import is_study, write_study_report

    runs: list[Path] = args.runs
    studies = [path for path in runs if is_study(path)]
    if studies and len(runs) > 1:
        raise RunError(f"{studies[0]} is a study, and a report is of one study. Compare it with others: limbeck compare RUN_OR_STUDY ...")
    beside = len(runs) == 1 and not runs[0].is_file()
    out = args.out or (runs[0] / "report.html" if beside else Path("comparison.html"))
    print(write_study_report(runs[0], out) if studies else write_report(runs, out))
    return 0
