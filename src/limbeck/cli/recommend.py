"""Find a good distillation pipeline for the data, teacher and student of a recipe.

Losses, layers, weights, temperature, augmentation, learning rate and more are searched within a budget of time. Everything is judged on the
validation split; at the end the test split is read once, to compare with plain distillation and with none. The folder then holds
recipe.yaml with the reasons, report.html and recommendation.json. Needs `pip install 'limbeck[study]'`.
"""

from __future__ import annotations

import argparse

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument("--budget", metavar="TIME", default="30m", help="time for everything, such as 90s, 30m or 2h (default: 30m)")
    parser.add_argument("--trials", metavar="N", type=int, help="end the search after N trials, where that is sooner")
    parser.add_argument("--storage", metavar="URL", help="database that several machines share (default: a file in the folder)")
    parser.add_argument("--out", metavar="DIR", help="the folder (default: recommendations/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with a search that was stopped or killed")
    parser.add_argument("--fix", metavar="GROUP", action="append", default=[], help="leave a group of factors as it is; repeatable")
    parser.add_argument(
        "--evidence",
        metavar="DIR",
        help="results of studies to learn the first trials from (default: evidence, else what comes with Limbeck)",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON, and nothing else")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    import time
    from pathlib import Path

    began = time.monotonic()
    from rich.console import Console

    from ..errors import LimbeckError
    from ..evidence import place
    from ..study.advice import headline
    from ..study.clock import seconds_of
    from ..study.recommend import Wish, recommend
    from ._progress import Screen
    from ._show import print_json

    if args.trials is not None and args.trials < 1:
        raise LimbeckError(f"--trials: expected a number of 1 or more, found {args.trials}.")
    evidence = Path(args.evidence or "evidence")
    if args.evidence and not evidence.is_dir():
        raise LimbeckError(f"--evidence: there is no folder {args.evidence!r}.")
    wish = Wish(
        out=Path(args.out) if args.out else None,
        budget=seconds_of(args.budget),
        trials=args.trials,
        storage=args.storage,
        resume=args.resume,
        fix=tuple(args.fix),
        evidence=evidence if evidence.is_dir() else place(),
        began=began,
    )
    console = Console(quiet=args.json)
    screen = Screen(console)

    def say(text: str) -> None:
        screen.close()
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    try:
        found = recommend(args.recipe, wish, set=args.set, device=args.device, allow_code=args.allow_code, listener=screen, say=say)
    finally:
        screen.close()
    if args.json:
        print_json(found.contents)
        return 0
    say("")
    for line in headline(found.contents):
        say(line)
    say(f"recipe   {found.recipe}\nreport   {found.folder / 'report.html'}\ntrain it: limbeck run {found.recipe}")
    return 0
