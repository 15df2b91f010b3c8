"""Choose the training examples worth keeping and store their list.

The recipe's teacher (or a model that is trained for a few epochs) judges the training examples of the student's stage, pool included. What
is written is an index manifest that any recipe on the same data reads: `data: {select: FILE}`. `limbeck methods` lists the methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add_recipe(parser)
    parser.add_argument("--method", required=True, metavar="NAME", help="how to choose, such as random, el2n, herding or per_class")
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--fraction", type=float, metavar="F", help="share of the candidates that is kept")
    amount.add_argument("--top", type=int, metavar="N", help="number that is kept; of each class, where a method chooses by class")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file to write (default: the manifest that the recipe names)")
    parser.add_argument("--among", default="all", metavar="WHO", help="candidates: all, unlabelled or pool; all others are kept")
    parser.add_argument("--teacher", default="teacher", metavar="NAME", help="which model of the recipe is asked")
    parser.add_argument("--epochs", type=int, metavar="N", help="ask instead a model like the student, trained for N epochs")
    parser.add_argument("--apart", type=int, metavar="BITS", help="leave out what differs from a held-out image in at most BITS of 64 bits")
    parser.add_argument(
        "--field", action="append", default=[], metavar="KEY=VALUE", help="a field of the method, such as balanced=true; repeatable"
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rich.console import Console

    from ..config.selection import selection_of
    from ..selecting import select
    from ._progress import watched

    keys = ("method", "fraction", "top", "among", "teacher", "epochs", "apart")
    given = {key: getattr(args, key) for key in keys if getattr(args, key) is not None}
    wish = selection_of(given, args.field, allow_code=args.allow_code)
    console = Console()
    with watched(console) as (screen, interrupted):
        path, found = select(
            args.recipe,
            wish,
            args.out,
            set=args.set,
            device=args.device,
            allow_code=args.allow_code,
            listener=screen,
            interrupted=interrupted,
        )
    text = f"{path}: {len(found.indices)} of {found.examples} training examples ({found.kept:.1%}), chosen by {wish.method}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 0
