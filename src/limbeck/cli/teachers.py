"""Rank teachers for the student of a recipe.

Each candidate is probed by the nearest neighbours and by LogME of its features, by its own metric, and by a short training of the student
(the smoke test). Candidates are models with arguments (`mlp hidden=[64]`, `timm:resnet18 weights=pretrained`), folders of runs, or a YAML
file with a list; those without weights are trained first, as the recipe trains its teacher.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ._common import add_recipe

if TYPE_CHECKING:
    from ..study.teachers import TeacherRanking


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_recipe(parser)
    parser.add_argument("--candidates", nargs="+", metavar="MODEL_OR_FILE", required=True, help="teachers, each in quotes; or a file")
    parser.add_argument(
        "--smoke",
        metavar="SHARE",
        type=float,
        default=0.25,
        help="share of the student's training in the smoke test; 0: none (default: 0.25)",
    )
    parser.add_argument("--targets", nargs="+", metavar="RECIPE", default=[], help="recipes whose data the features are probed on too")
    parser.add_argument("--out", metavar="DIR", default="runs/teachers", help="where trained teachers are kept (default: runs/teachers)")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from dataclasses import asdict
    from pathlib import Path

    from ..errors import LimbeckError
    from ..study.teachers import Probe, rank_teachers
    from ._show import print_json

    if not 0 <= args.smoke <= 1:
        raise LimbeckError(f"--smoke: expected a share of the training from 0 to 1, found {args.smoke}.")
    found = rank_teachers(
        args.recipe,
        args.candidates,
        Probe(args.smoke, tuple(args.targets), Path(args.out)),
        set=args.set,
        device=args.device,
        allow_code=args.allow_code,
        say=(lambda text: None) if args.json else print,
    )
    print_json(asdict(found)) if args.json else _show(found)
    return 0


def _show(found: TeacherRanking) -> None:
    from ._show import table

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    names = list(dict.fromkeys(name for item in found.teachers for name in item.targets or ()))
    rows = [("", "teacher", "student", "own", "neighbours", "LogME", *names)]
    for place, item in enumerate((item for item in found.teachers if not item.note), 1):
        more = [cell((item.targets or {}).get(name)) for name in names]
        rows.append((f"{place}", item.name, cell(item.smoke), cell(item.own), cell(item.neighbours), cell(item.logme), *more))
    if found.alone is not None:
        rows.append(("", "(labels alone)", cell(found.alone), "", "", "", *("" for _ in names)))
    if found.inputs:
        rows.append(("", "(bare inputs)", "", "", cell(found.inputs.get("")), "", *(cell(found.inputs.get(name)) for name in names)))
    print("\n".join(table(rows)))
    for item in found.teachers:
        if item.note:
            print(f"not judged: {item.name}: {item.note}")
    print(f"Ranked by: {found.by}. All on the validation split; student and own: {found.metric}; neighbours: share that is right.")
