"""List the losses, or show one.

`limbeck losses` lists every loss that an objective can name, by what it compares, with its paper. `limbeck losses show NAME` prints its
formula, its reference, when to use it, what it costs, its fields with types and defaults, and how a recipe uses it.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="show")
    show = actions.add_parser("show", help="show one loss", description="Show one loss: formula, reference, fields, example.")
    show.add_argument("name", metavar="NAME", help="name of the loss, or module:Class for one of your own")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..describe import FAMILIES, describe
    from ..registry import LOSSES
    from ._show import as_dict, print_doc, print_json, table

    if args.action == "show":
        doc = describe(LOSSES, args.name)
        print_json(as_dict(doc)) if args.json else print_doc(doc)
        return 0
    docs = [describe(LOSSES, name) for name in LOSSES.names()]
    if args.json:
        keys = ("name", "family", "title", "reference")
        print_json([{"class": d.class_name, **{key: getattr(d, key) for key in keys}} for d in docs])
        return 0
    lines = dict(zip((d.name for d in docs), table((d.name, d.title, d.short_reference) for d in docs), strict=True))
    for family, meaning in FAMILIES.items():
        own = [f"  {lines[d.name]}" for d in docs if d.family == family]
        if own:
            print("\n".join([f"{family}: {meaning}", *own, ""]))
    print("limbeck losses show NAME tells more.")
    return 0
