"""Run the teacher over the data once and store what it says.

Any number of students can then learn from the store, without the teacher in memory: `limbeck run RECIPE --set teacher.stored=DIR`. What is
written are the signals that the recipe's objective reads of its teacher. Stopped or killed, the same command goes on after the last whole
shard. `accelerate launch -m limbeck label ...` divides the work among processes. `limbeck plan RECIPE` says beforehand what it will cost.
"""

from __future__ import annotations

import argparse
import os

from ._common import add_recipe


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add_recipe(parser)
    parser.add_argument(
        "--out", metavar="PATH", required=True, help="folder of the store, or an address of fsspec such as s3://bucket/store"
    )
    parser.add_argument(
        "--signal",
        action="append",
        default=[],
        metavar="NAME=CODEC[:KEY=VALUE,...]",
        help="how a signal is written, such as logits=topk:k=10 or tokens=sampled; repeatable (default: dense in fp16; tokens: topk)",
    )
    parser.add_argument("--views", type=int, metavar="N", help="epochs of augmentation to write (default: 1)")
    parser.add_argument("--shard", type=int, metavar="N", help="examples in a file (default: 4096; of texts about 64 MiB)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="examples in a forward pass (default: 256)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that load data (default: 0)")
    parser.add_argument("--teacher", default="teacher", metavar="NAME", help="which teacher, where the recipe has several")
    parser.add_argument(
        "--all",
        action="store_true",
        dest="every",
        help="also the examples that the recipe does not select; the store serves every selection",
    )
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rich.console import Console

    from ..errors import LimbeckError
    from ..labelling import Labelling, label
    from ..store.manage import parse_codec, told
    from ._progress import watched

    for name in ("views", "shard", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise LimbeckError(f"--{name} must be at least 1, got {value}.")
    codecs = dict(parse_codec(text) for text in args.signal)
    wish = Labelling(args.out, codecs, args.views, args.shard, args.batch, args.workers, args.teacher, args.every)
    console = Console(quiet=int(os.environ.get("RANK", "0")) != 0)
    with watched(console) as (screen, interrupted):
        manifest = label(
            args.recipe,
            wish,
            set=args.set,
            device=args.device,
            allow_code=args.allow_code,
            listener=screen,
            interrupted=interrupted,
        )
    console.print(told(args.out, manifest), highlight=False, markup=False, soft_wrap=True)
    return 0
