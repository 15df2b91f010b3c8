"""What n models that learn together cost beside n trainings of their own.

Three unlike residual networks learn in one stage (`peers`), each from the labels and from what the two others say, and each by itself
from the labels only. All four trainings are Limbeck's and take turns in one process, update by update; a ratio is formed for every turn
(an update of the cohort over the sum of the three updates just beside it), and the median of the ratios is the result.

    python benchmarks/cohort.py            the ratio (a few minutes on two cores)
    python benchmarks/cohort.py --quick    under a minute
    python benchmarks/cohort.py --json     one JSON object on standard output
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.trial import trial
from limbeck.engine.watch import Journal, Silent
from limbeck.session import Session

MEMBERS: dict[str, dict[str, Any]] = {"student": {"depth": 20}, "middle": {"depth": 14}, "deep": {"depth": 32}}
TRAIN: dict[str, Any] = {"batch_size": 128, "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9}, "schedule": "constant"}


def peers_over_n(quick: bool) -> float:
    """Median of the time of a cohort's update over that of an update of each of its members alone."""
    found = [ratios(updates=8 if quick else 40, warmup=2 if quick else 8) for _ in range(1 if quick else 3)]
    return statistics.median(ratio for own in found for ratio in own)


def ratios(*, updates: int, warmup: int) -> list[float]:
    """One ratio an update, of one set of networks; where these lie in memory matters a little, so several sets are measured."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: training(recipe(name), Path(folder) / name) for name in ("cohort", *MEMBERS)}
        found: list[float] = []
        for turn in range(warmup + updates):
            names = list(runs)
            shift = turn % len(names)
            times = {name: timed(runs[name]) for name in names[shift:] + names[:shift]}
            if turn >= warmup:
                found.append(times["cohort"] / sum(times[name] for name in MEMBERS))
    return found


def timed(run: Iterator[None]) -> float:
    """Seconds of the next update."""
    start = time.perf_counter()
    next(run)
    return time.perf_counter() - start


def recipe(name: str) -> dict[str, Any]:
    """The cohort, or one of its members by itself."""
    common: dict[str, Any] = {"task": "classification", "data": "sklearn:digits", "train": TRAIN}
    if name != "cohort":
        return {**common, "student": {"model": "resnet", "args": MEMBERS[name]}, "objective": {"labels": "cross_entropy"}}
    student, *peers = MEMBERS
    return {
        **common,
        "student": {"model": "resnet", "args": MEMBERS[student]},
        "models": {peer: {"model": "resnet", "args": MEMBERS[peer]} for peer in peers},
        "peers": peers,
        "objective": {"labels": "cross_entropy", "mutual": {"loss": "kd", "temperature": 1, "from": "peers"}},
    }


def training(values: dict[str, Any], folder: Path) -> Iterator[None]:
    """A training whose updates are made one by one."""
    folder.mkdir(parents=True)
    listener = Silent()
    session = Session(load_recipe(values), folder, Backend(device="cpu"), listener, Journal(None, listener), lambda: False, False)
    session.build_models()
    return trial(session.stage(session.phases[0], 0, 0))


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer updates")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ratio = peers_over_n(args.quick)
    print(
        json.dumps({"peers_over_n": ratio}) if args.json else f"an update of {len(MEMBERS)} peers over {len(MEMBERS)} updates: {ratio:.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
