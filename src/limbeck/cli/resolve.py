"""Print the final recipe with the origin of each value.

Reads RECIPE (a file, or the folder of a run) with everything that it extends and every --set, checks it, and prints
what a run would use: one value a line, with a comment that says where it comes from (a file and line, --set, or a
default). The output is a recipe itself. Nothing is downloaded and no code of your own runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)


def main(args: argparse.Namespace) -> int:
    """Prints the resolved recipe."""
    from ..config.load import load_recipe

    inside = Path(args.recipe) / "recipe.yaml"  # of a run
    recipe = inside if inside.is_file() else args.recipe
    sys.stdout.write(load_recipe(recipe, set=args.set, allow_code=args.allow_code).resolved())
    return 0
