"""Rank students for the teacher of a recipe, without training any.

DisWOT's score compares how an untrained student and an untrained teacher relate the examples of a batch, and how their classifiers would
move. Candidates are models with arguments (`convnet channels=[8,16]`, `timm:resnet10t`), or a YAML file with a list of them; without any,
the recipe's student is varied in width.
"""

from __future__ import annotations

import argparse

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument(
        "--candidates", nargs="+", metavar="MODEL_OR_FILE", default=[], help="students, each one word or in quotes; or a file"
    )
    parser.add_argument("--budget-flops", metavar="N", help="leave out what takes more FLOPs for an example, such as 1.5M")
    parser.add_argument("--budget-bytes", metavar="N", help="leave out what is larger in float32, such as 250k")
    parser.add_argument("--draws", metavar="N", type=int, default=5, help="how often initial weights and batch are drawn (default: 5)")
    parser.add_argument("--batch", metavar="N", type=int, default=64, help="labelled examples of a draw (default: 64)")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from dataclasses import asdict

    from ..errors import LimbeckError
    from ..study.candidates import size_of
    from ..study.students import Limits, rank_students
    from ._show import print_json, table

    if args.draws < 1 or args.batch < 2:
        raise LimbeckError(f"--draws needs 1 or more and --batch 2 or more, found {args.draws} and {args.batch}.")
    limits = Limits(
        size_of(args.budget_flops, "flops") if args.budget_flops else None,
        size_of(args.budget_bytes, "bytes") if args.budget_bytes else None,
    )
    found, by = rank_students(
        args.recipe,
        args.candidates,
        limits,
        set=args.set,
        draws=args.draws,
        batch=args.batch,
        device=args.device,
        allow_code=args.allow_code,
    )
    if args.json:
        print_json({"by": by, "students": [asdict(item) for item in found]})
        return 0
    rows = [("", "student", "parameters", "FLOPs", "bytes", "score", "+-")]
    for place, item in enumerate((item for item in found if item.score is not None), 1):
        spread = f"{item.deviation:.4f}" if item.deviation is not None else ""
        rows.append((f"{place}", item.name, f"{item.parameters:,}", f"{item.flops:,}", f"{item.bytes:,}", f"{item.score:.4f}", spread))
    print("\n".join(table(rows)))
    for item in found:
        if item.note:
            print(f"left out: {item.name}: {item.note}")
    print(f"Higher is better. Classifiers were compared by {by}. A score of untrained models is a hint: train the first few.")
    return 0
