"""Print the final recipe with the origin of each value.

Reads RECIPE with everything that it extends and every --set, checks it, and prints what a run would use: one value a
line, with a comment that says where it comes from (a file and line, --set, or a default). The output is a recipe
itself. Nothing is downloaded and no code of your own runs.
"""

from __future__ import annotations

import argparse
import sys

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)


def main(args: argparse.Namespace) -> int:
    """Prints the resolved recipe."""
    from ..config.load import load_recipe

    sys.stdout.write(load_recipe(args.recipe, set=args.set, allow_code=args.allow_code).resolved())
    return 0
