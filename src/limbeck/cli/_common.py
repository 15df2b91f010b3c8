"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe, its overrides, and whether its own code may run: `recipe`, `set` (list of texts), `allow_code`."""
    parser.add_argument("recipe", metavar="RECIPE", help="path of the recipe, a YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, such as train.epochs=3 or objective.hint=null (null removes); may be given several times",
    )
    parser.add_argument("--allow-code", action="store_true", help="run the code of your own that the recipe names as module:Class")
