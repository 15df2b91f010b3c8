"""Check a recipe: every problem at once, with its place.

Layer paths, shapes and adapters are checked against the real models on a device without memory: no weight is read,
nothing is downloaded, and code of your own runs only with --allow-code.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ._common import add_recipe

if TYPE_CHECKING:
    from ..config.load import LoadedRecipe
    from ..preflight import Preflight


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument("--device", metavar="D", help="the device that the recipe will run on")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    return show(args, plan=False)


def show(args: argparse.Namespace, *, plan: bool) -> int:
    """Checks and prints what was found; with `plan` also what would be trained."""
    from ..config.load import load_recipe
    from ..preflight import preflight
    from ..run import recipe_file

    loaded = load_recipe(recipe_file(args.recipe), set=args.set, allow_code=args.allow_code)
    found = preflight(loaded, allow_code=args.allow_code, device=args.device)
    for reference in loaded.code:
        print(f"note: {reference} is code of your own; `limbeck run` needs --allow-code.")
    for note in found.notes:
        print(f"note: {note}")
    study = _study(loaded, found, args)
    found.raise_problems()
    for fact in found.facts:
        print(fact)
    if plan:
        for line in found.plan:
            print(line)
    if study:
        print(study)
    print(f"{args.recipe}: no problems.")
    return 0


def _study(loaded: LoadedRecipe, found: Preflight, args: argparse.Namespace) -> str:
    """What the recipe's study amounts to; its problems are added to those of the recipe."""
    from ..errors import RecipeError
    from ..study.conduct import Wish, plan

    if loaded.recipe.study is None:
        return ""
    try:
        planned = plan(loaded, Wish(args.set, device=args.device, allow_code=args.allow_code))
    except RecipeError as error:
        known = {(problem.where, problem.message) for problem in found.problems}
        found.problems += [problem for problem in error.problems if (problem.where, problem.message) not in known]
        return ""
    for note in planned.arms.notes:
        if note not in found.notes:
            print(f"note: {note}")
    names = [arm.name for arm in planned.arms.found]
    return f"study: {len(names)} arms ({', '.join(names)}), {len(planned.seeds)} seeds, {len(planned.claims)} claims"
