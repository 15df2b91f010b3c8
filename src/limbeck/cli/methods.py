"""List every part that a recipe can name, or show one.

`limbeck methods` lists losses, adapters, targets, teachers, tasks, steps, actions and selections. `limbeck methods show NAME` prints what
one of them says of itself; where two kinds share a name, `--kind` picks.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..registry import Registry

KINDS = ("loss", "adapter", "target", "teacher", "task", "step", "action", "selection")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--kind", choices=KINDS, help="only parts of this kind")
    actions = parser.add_subparsers(dest="action", metavar="show")
    show = actions.add_parser("show", help="show one part", description="Show one part: formula, reference, fields, example.")
    show.add_argument("name", metavar="NAME", help="name of the part")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    show.add_argument("--kind", choices=KINDS, default=argparse.SUPPRESS, help="its kind, where two kinds share the name")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from .. import registry
    from ..data.selection import SELECTIONS
    from ..describe import describe
    from ._show import as_dict, print_doc, print_json, table

    every = (
        registry.LOSSES,
        registry.ADAPTERS,
        registry.TARGETS,
        registry.TEACHERS,
        registry.TASKS,
        registry.STEPS,
        registry.ACTIONS,
        SELECTIONS,
    )
    registries = [r for r in every if args.kind in (None, r.kind)]
    if args.action == "show":
        doc = describe(_holder(registries, args.name), args.name)
        print_json(as_dict(doc)) if args.json else print_doc(doc)
        return 0
    docs = [describe(r, name) for r in registries for name in r.names()]
    if args.json:
        keys = ("kind", "name", "title", "summary", "reference")
        print_json([{key: getattr(doc, key) for key in keys} for doc in docs])
        return 0
    width = max((len(doc.name) for doc in docs), default=0)
    for r in registries:
        rows = [(doc.name.ljust(width), doc.title) for doc in docs if doc.kind == r.kind]
        if rows:
            print("\n".join([f"{r.kind}:", *(f"  {line}" for line in table(rows)), ""]))
    print("limbeck methods show NAME tells more.")
    return 0


def _holder(registries: list[Registry], name: str) -> Registry:
    """The registry that knows `name`."""
    from ..errors import LimbeckError, UnknownName

    holders = [r for r in registries if name in r.names()]
    if len(holders) > 1:
        kinds = [r.kind for r in holders]
        raise LimbeckError(f"{name!r} is the name of several parts: {', '.join(kinds)}. Say which: --kind {kinds[0]}.")
    if not holders:
        raise UnknownName("method or part", name, sorted({n for r in registries for n in r.names()}))
    return holders[0]
