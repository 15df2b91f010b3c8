"""Run the study of a recipe: its arms over its seeds, then what they say of its claims.

RECIPE is a recipe file, or the folder of a study to go on with. Every run is an ordinary run directory below the study's
folder (studies/NAME, or --out). What runs have in common, such as their teacher, is trained once. Runs that are finished
are never repeated: after Ctrl-C or a kill, --resume goes on, and more seeds, arms or claims may be added then.
"""

from __future__ import annotations

import argparse

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default: those of the recipe, else 5)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="runs at once, each in a process of its own (default: 1)")
    parser.add_argument("--out", metavar="DIR", help="the study's folder (default: studies/NAME, numbered where it is taken)")
    parser.add_argument("--resume", action="store_true", help="go on with a study that was stopped, or extend one")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pathlib import Path

    from rich.console import Console

    from ..study.conduct import Wish, study
    from ._study import StudyScreen, claims_table, values_table

    console = Console()
    screen = StudyScreen(console)
    out = Path(args.out) if args.out else None
    wish = Wish(args.set, args.seeds, args.workers, out, args.resume, args.device, args.allow_code)
    try:
        done = study(args.recipe, wish, screen)
    finally:
        screen.close()
    console.print()
    console.print(values_table(done.results))
    if done.results["claims"]:
        console.print(claims_table(done.results["claims"]))
    for title, reason in done.results["failed"].items():
        console.print(f"failed: {title}: {reason}", style="red", highlight=False, soft_wrap=True)
    console.print(f"report   {done.report}", highlight=False, soft_wrap=True)
    console.print(f"results  {done.folder / 'results.json'}", highlight=False, soft_wrap=True)
    return 0
