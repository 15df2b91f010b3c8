"""Evaluate the student of a run, or a checkpoint, on the test split.

RUN is a run folder; or a weights file (.safetensors, .pt) of the student of a recipe that --recipe names. With --tasks the student of a
language run is judged by tasks of lm-evaluation-harness instead. With --large and --base a larger model is judged that the student of a
language run steers. --set changes the recipe's data: on other texts the student of a language run has another perplexity and, with
evaluate.answer, another share of right answers.
"""

from __future__ import annotations

import argparse
import json

from ._company import add_company, company_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("target", metavar="RUN_OR_CHECKPOINT", help="a run folder, or a file of weights")
    parser.add_argument("--recipe", metavar="FILE", help="the recipe of a file of weights; that of the run where the file lies in one")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="other data or answers, such as data.source=jsonl:other.jsonl"
    )
    parser.add_argument("--split", choices=("test", "valid"), default="test", help="which split to use (default: test)")
    parser.add_argument("--tasks", metavar="A,B", help="tasks of lm-evaluation-harness (pip install 'limbeck[lm-eval]'), for a run folder")
    parser.add_argument("--limit", type=int, metavar="N", help="with --tasks: examples of each task (default: all)")
    add_company(parser)
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--allow-code", action="store_true", help="run code of your own that the recipe names")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..judge import evaluate

    if args.tasks:
        return _tasks(args)
    metrics = evaluate(
        args.target,
        recipe=args.recipe,
        split=args.split,
        set=args.set,
        company=company_of(args),
        device=args.device,
        allow_code=args.allow_code,
    )
    if args.json:
        print(json.dumps(metrics))
        return 0
    for name, value in metrics.items():
        print(f"{name:<12} {value:.4f}")
    return 0


def _tasks(args: argparse.Namespace) -> int:
    from ..harness import evaluate_tasks

    found = evaluate_tasks(args.target, args.tasks.split(","), limit=args.limit, device=args.device or "cpu")
    if args.json:
        print(json.dumps(found))
        return 0
    for task, metrics in found.items():
        for name, value in metrics.items():
            print(f"{task:<24} {name:<16} {value:.4f}")
    return 0
