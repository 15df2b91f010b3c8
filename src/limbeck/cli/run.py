"""Run a recipe: train, distil, judge, and write the report.

RECIPE is a recipe file, or the folder of a run to go on with. Everything goes into one folder (runs/NAME, or --out):
the resolved recipe, metrics, checkpoints, the student and report.html. Ctrl-C saves and says how to go on.
"""

from __future__ import annotations

import argparse
import os

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/NAME, numbered where it is taken)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped, exactly where it was saved")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, and stop")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.dry_run:
        from .check import show

        return show(args, plan=True)
    from rich.console import Console

    from ..report.terminal import summary
    from ..run import distill
    from ._progress import Screen

    main_process = int(os.environ.get("RANK", "0")) == 0
    console = Console(quiet=not main_process)
    screen = Screen(console)
    try:
        result = distill(
            args.recipe,
            set=args.set,
            out=args.out,
            resume=args.resume,
            device=args.device,
            allow_code=args.allow_code,
            listener=screen,
        )
    finally:
        screen.close()
    console.print()
    console.print(summary(result.results))
    console.print(f"report   {result.report}", highlight=False, soft_wrap=True)
    console.print(f"student  {result.folder / 'student'}", highlight=False, soft_wrap=True)
    return 0
