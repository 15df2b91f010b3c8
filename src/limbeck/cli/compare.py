"""Compare runs or studies: a table here, and a page with everything.

RUN_OR_STUDY is the folder of a run or of a study, or a file of results such as evidence/kd.json. Runs whose recipes differ in nothing but
the seed are taken together, and differences are then taken seed by seed. The page is one HTML file that loads nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..report.study import Study


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN_OR_STUDY", help="folders of runs or studies, or files of results")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page to write (default: STUDY/report.html, else comparison.html)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output instead of the table")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rich.console import Console

    from ..report.study import is_study, read_all, study_tables

    paths: list[Path] = args.paths
    study = _ranked(read_all(paths))
    single = len(paths) == 1 and is_study(paths[0])
    out: Path = args.out or (paths[0] / "report.html" if single and paths[0].is_dir() else Path("comparison.html"))
    page = _page(study, paths, out)
    if args.json:
        from ._show import print_json

        print_json({**_plain(study), "page": str(page)})
        return 0
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 140))  # what reads a pipe has no width of its own
    for note in study.missing:
        console.print(note, markup=False, highlight=False)
    for table in study_tables(study):
        console.print(table)
    console.print(str(page), markup=False, highlight=False, soft_wrap=True)
    return 0


def _ranked(study: Study) -> Study:
    """The study, with a ranking where it came without one: ranks of its arms, and the difference of each to the first."""
    from ..report.study import ranked, values_of
    from ..study.multiple import rank

    main = study.primary
    if study.ranking or main is None or main.better == "neither" or len(study.arms) < 2:
        return study
    return ranked(study, asdict(rank(main.key, values_of(study, main.key), better=main.better, baseline=study.baseline)))


def _page(study: Study, paths: list[Path], out: Path) -> Path:
    """Single runs are laid side by side with their recipes; what has several seeds gets the page of a study."""
    from ..report import write_report
    from ..report.study import is_study, study_page

    if not any(map(is_study, paths)) and all(sum(folder is not None for folder in arm.folders) == 1 for arm in study.arms):
        return write_report(paths, out)
    return study_page(study, out, "limbeck compare " + " ".join(shlex.quote(str(path)) for path in paths))


def _plain(study: Study) -> dict[str, Any]:
    return {
        "title": study.title,
        "task": study.results.get("task"),
        "primary": study.primary.key if study.primary else None,
        "better": study.primary.better if study.primary else None,
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "arms": {
            arm.name: {model: {key: list(v) for key, v in found.items()} for model, found in arm.values.items()} for arm in study.arms
        },
        "ranking": study.ranking,
        "claims": study.claims,
        "missing": list(study.missing),
    }
