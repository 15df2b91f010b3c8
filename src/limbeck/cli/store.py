"""Look at, check, join and convert stores of teacher signals.

`limbeck store info PATH` says what a store holds, `verify` compares every shard with its checksum, `merge` joins parts that were made in
several places, `convert` writes a store anew with other codecs. Each PATH may be a folder or an address of fsspec, such as s3://bucket/store.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store.manifest import Manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="info|verify|merge|convert", required=True)
    info = actions.add_parser("info", help="what a store holds", description="Say what a store holds.")
    info.add_argument("path", metavar="PATH", help="folder or address of the store")
    info.add_argument("--json", action="store_true", help="print the manifest as JSON")
    verify = actions.add_parser("verify", help="compare with the checksums", description="Compare every shard with its checksum.")
    verify.add_argument("path", metavar="PATH", help="folder or address of the store")
    verify.add_argument("--recipe", metavar="RECIPE", help="also ask the teacher of this recipe again about some examples, and compare")
    verify.add_argument("--samples", type=int, default=64, metavar="N", help="how many examples, over all views (default: 64)")
    verify.add_argument("--teacher", default="teacher", metavar="NAME", help="which teacher, where the recipe has several")
    verify.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the recipe; repeatable")
    verify.add_argument("--allow-code", action="store_true", help="run the code of your own that the recipe names as module:Class")
    verify.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    merge = actions.add_parser("merge", help="join parts", description="Join the parts of one store that were made in several places.")
    merge.add_argument("paths", metavar="PATH", nargs="+", help="folders or addresses of the parts, finished or not")
    merge.add_argument("--out", required=True, metavar="DIR", help="folder or address of the whole")
    convert = actions.add_parser("convert", help="write with other codecs", description="Write a store anew with other codecs.")
    convert.add_argument("path", metavar="PATH", help="folder or address of the store")
    convert.add_argument("--out", required=True, metavar="DIR", help="folder or address of the new store")
    convert.add_argument(
        "--signal",
        action="append",
        required=True,
        metavar="NAME=CODEC[:KEY=VALUE,...]",
        help="a signal to keep and how, such as logits=topk:k=10; repeatable",
    )


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..store.manage import convert, merge, parse_codec, size_of, told
    from ..store.manifest import read_manifest
    from ..store.opening import open_store
    from ._show import print_json

    if args.action == "info":
        manifest = read_manifest(args.path)
        print_json(_plain(manifest)) if args.json else print(told(args.path, manifest))
        return 0
    if args.action == "verify":
        manifest = open_store(args.path).manifest
        print(f"{args.path}: {len(manifest.shards)} shards, {size_of(manifest)}: everything is as it was written.")
        if args.recipe is not None:
            _again(args)
        return 0
    if args.action == "merge":
        manifest = merge(args.paths, args.out)
    else:
        manifest = convert(args.path, args.out, dict(parse_codec(text) for text in args.signal))
    print(told(args.out, manifest))
    return 0


def _again(args: argparse.Namespace) -> None:
    """Asks the teacher about some examples again."""
    from ..errors import LimbeckError
    from ..recheck import recheck
    from ..run import interruptible

    if args.samples < 1:
        raise LimbeckError(f"--samples must be at least 1, got {args.samples}.")
    options = {"samples": args.samples, "teacher": args.teacher, "device": args.device, "allow_code": args.allow_code}
    with interruptible() as interrupted:
        found = recheck(args.path, args.recipe, set=args.set, interrupted=interrupted, **options)
    gaps = ", ".join(f"{name} {gap:.2g}" for name, gap in found.worst.items())
    print(f"The teacher says the same of {found.examples} examples, made anew; largest difference: {gaps}.")


def _plain(manifest: Manifest) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(manifest)
