"""Compare the losses with the numbers of official implementations.

`limbeck parity DIR` reads golden cases (METHOD/CASE.json with METHOD/CASE.npz) below DIR, runs Limbeck's implementation on their inputs,
and compares outputs and gradients. Exit status 1 where a method differs or has no implementation.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of golden cases")
    parser.add_argument("--json", action="store_true", help="print JSON: one object a case")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..testing.parity import run
    from ._show import print_json, table

    found = list(run(args.folder))
    failed = [item for item in found if item.verdict != "pass"]
    if args.json:
        print_json([_plain(item) for item in found])
        return 1 if failed else 0
    methods = dict.fromkeys(item.method for item in found)
    print("\n".join(table([("method", "cases", "largest relative error", "verdict"), *(_row(name, found) for name in methods)])))
    for item in failed:
        print(f"\n{item.method}/{item.case}: {item.verdict}: {item.note}")
    good = len(methods) - len({item.method for item in failed})
    print(f"\n{good} of {len(methods)} methods agree, {len(found) - len(failed)} of {len(found)} cases.")
    return 1 if failed else 0


def _plain(item: Any) -> dict[str, Any]:
    record = dataclasses.asdict(item)
    if record["error"] is not None and not math.isfinite(record["error"]):
        record["error"] = None
    return {key: record[key] for key in ("method", "case", "verdict", "error", "note")}


def _row(method: str, found: list[Any]) -> tuple[str, ...]:
    own = [item for item in found if item.method == method]
    errors = [item.error for item in own if item.error is not None]
    verdicts = {item.verdict for item in own}
    verdict = next(word for word in ("missing", "differs", "pass") if word in verdicts)
    return method, str(len(own)), f"{max(errors):.1e}" if errors else "-", verdict
