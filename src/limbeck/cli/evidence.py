"""Show what the shipped recipes claim, and whether it holds.

A line for every claim of every recipe: the verdict of its study over several seeds, and whether its losses agree with the stored numbers of
official implementations. A claim that fails is shown as failing, a recipe that asks for data of yours as such. `make evidence` runs the
studies again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evidence import Entry


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON: one object a recipe")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder of the evidence (default: that of this installation)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..errors import LimbeckError
    from ..evidence import entries, place
    from ._show import print_json, table

    folder = args.folder or place()
    if folder is None or not folder.is_dir():
        where = "this installation has none; clone the repository" if args.folder is None else f"{args.folder} is no folder"
        raise LimbeckError(f"expected a folder of evidence, found nothing: {where}, or name one with --folder.")
    found = entries(folder)
    if args.json:
        claims = {entry.slug: [{"text": claim.text, "verdict": claim.verdict} for claim in entry.claims] for entry in found}
        print_json([{"slug": e.slug, "page": e.page, "parity": e.parity, "claims": claims[e.slug], **_more(e)} for e in found])
        return 0
    rows = [("recipe", "page", "parity", "verdict", "claim")]
    for entry in found:
        head = (entry.slug, "" if entry.page is None else str(entry.page), entry.parity or "-")
        rows += [(*head, claim.verdict, claim.text) for claim in entry.claims] or [(*head, _missing(entry), "")]
    print("\n".join(table(rows)))
    verdicts = [claim.verdict for entry in found for claim in entry.claims]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("holds", "fails", "undecided"))
    print(f"\n{sum(entry.seeds > 0 for entry in found)} of {len(found)} recipes have evidence: {counts}.")
    for entry in found:
        if entry.over:
            print(f"{entry.slug} was shortened: {entry.shortened}")
    return 0


def _missing(entry: Entry) -> str:
    """What stands in the place of a verdict."""
    return "-" if entry.seeds else f"needs {entry.needs}" if entry.needs is not None else "not run"


def _more(entry: Entry) -> dict[str, Any]:
    """What is told of those recipes alone of which there is something to tell."""
    return {**({"needs": entry.needs} if entry.needs is not None else {}), **({"over": dict(entry.over)} if entry.over else {})}
