"""The arguments of commands that let the student of a run steer a larger model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import RunError

if TYPE_CHECKING:
    from ..company import Company


def add_company(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    reference = "a run folder, or hf:ID_OR_FOLDER"
    parser.add_argument("--large", metavar="MODEL", help=f"a larger model that the student steers: {reference}")
    parser.add_argument("--base", metavar="MODEL", help=f"with --large: what the student was before it learnt, {reference}")
    parser.add_argument(
        "--expert", metavar="MODEL", action="append", default=[], help="with --large: a further model that learnt from --base"
    )
    parser.add_argument(
        "--weight", type=float, metavar="W", help="with --large: factor of the moves, 1 is proxy tuning (default: chosen for every token)"
    )


def company_of(args: argparse.Namespace) -> Company | None:
    """Who answers together with the student; None where it answers alone.

    Raises:
        RunError: where one of the two models is missing.
    """
    if args.large is None and args.base is None and not args.expert and args.weight is None:
        return None
    if args.large is None or args.base is None:
        raise RunError("--large and --base go together: a large model is moved as training has moved the student away from --base.")
    from ..company import Company

    return Company(args.large, args.base, tuple(args.expert), args.weight)
