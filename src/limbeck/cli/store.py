"""Look at, check, join and convert stores of teacher signals.

`limbeck store info PATH` says what a store holds, `verify` compares every shard with its checksum, `merge` joins parts that were made in
several places, `convert` writes a store anew with other codecs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store.manifest import Manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="info|verify|merge|convert", required=True)
    info = actions.add_parser("info", help="what a store holds", description="Say what a store holds.")
    info.add_argument("path", metavar="PATH", type=Path, help="folder of the store")
    info.add_argument("--json", action="store_true", help="print the manifest as JSON")
    verify = actions.add_parser("verify", help="compare with the checksums", description="Compare every shard with its checksum.")
    verify.add_argument("path", metavar="PATH", type=Path, help="folder of the store")
    merge = actions.add_parser("merge", help="join parts", description="Join the parts of one store that were made in several places.")
    merge.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="folders of the parts, finished or not")
    merge.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the whole")
    convert = actions.add_parser("convert", help="write with other codecs", description="Write a store anew with other codecs.")
    convert.add_argument("path", metavar="PATH", type=Path, help="folder of the store")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new store")
    convert.add_argument(
        "--signal",
        action="append",
        required=True,
        metavar="NAME=CODEC[:KEY=VALUE,...]",
        help="a signal to keep and how, such as logits=topk:k=10; repeatable",
    )


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..store.manage import convert, merge, parse_codec
    from ..store.manifest import read_manifest
    from ..store.reader import StoreReader
    from ._show import print_json

    if args.action == "info":
        manifest = read_manifest(args.path)
        print_json(_plain(manifest)) if args.json else print(_told(args.path, manifest))
        return 0
    if args.action == "verify":
        manifest = StoreReader(args.path).manifest
        print(f"{args.path}: {len(manifest.shards)} shards, {_size(manifest)}: everything is as it was written.")
        return 0
    if args.action == "merge":
        manifest = merge(args.paths, args.out)
    else:
        manifest = convert(args.path, args.out, dict(parse_codec(text) for text in args.signal))
    print(_told(args.out, manifest))
    return 0


def _plain(manifest: Manifest) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(manifest)


def _size(manifest: Manifest) -> str:
    count = sum(shard.bytes for shard in manifest.shards)
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def _told(path: Path, manifest: Manifest) -> str:
    from ._show import table

    views = f"{manifest.views} views each" if manifest.views > 1 else "one view each"
    lines = [f"{path}: {manifest.examples:,} examples, {views}, {len(manifest.shards)} shards, {_size(manifest)}", ""]
    rows = [("signal", "shape", "codec", "bytes an example")]
    for name, signal in manifest.signals.items():
        fields = ", ".join(f"{key}: {value}" for key, value in signal.fields.items())
        shape = " x ".join(map(str, signal.shape))
        rows.append(
            (name, shape, f"{signal.codec} ({fields})" if fields else signal.codec, f"{signal.build().bytes_per_example(signal.shape):,}")
        )
    lines += [*table(rows), ""]
    lines += [f"{key}: {value}" for key, value in manifest.about.items()]
    lines += [f"teacher {manifest.key.teacher[:16]}, data {manifest.key.data[:16]}, inputs {manifest.key.inputs}, seed {manifest.key.seed}"]
    return "\n".join(lines)
