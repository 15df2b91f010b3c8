"""What every loss costs, forward and backward, beside torchdistill's or the formula as public code writes it.

Both compute from the same tensors, one after the other in one process and one thread. A ratio is formed for every round (Limbeck's
processor time over the other's just beside it), and the median of the ratios is reported. The memory is the most that a forward and a
backward held at once beyond its inputs, counted from every allocation that torch's profiler reports, in a pass of its own.

    python benchmarks/losses.py                 the table (some ten minutes)
    python benchmarks/losses.py --quick         under a minute
    python benchmarks/losses.py --json          one JSON object on standard output
    python benchmarks/losses.py --only kd dkd   only these losses
    python benchmarks/losses.py --control       the peer beside itself: how far from 1 a ratio is where nothing differs
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would tell that there is no GPU

import torch
from pairs import PAIRS, Pair, read
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from limbeck.engine.backend import keep_memory
from limbeck.registry import LOSSES

SECONDS, QUICK_SECONDS = 5.0, 0.15
BUILDS = 5


@dataclass
class Side:
    """One of the two, ready to run."""

    value: Callable[[], Tensor]
    leaves: Sequence[Tensor]

    def step(self) -> float:
        """A forward and a backward; the processor seconds that they took, which other programs do not disturb."""
        start = time.process_time()
        torch.autograd.grad(self.value(), self.leaves, allow_unused=True)
        return time.process_time() - start

    def peak(self) -> float:
        """Megabytes that one step holds at most, beyond its inputs."""
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.step()
        events: Any = profiler.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
        changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        live = most = 0
        for _, size in changes:
            live += size
            most = max(most, live)
        return most / 2**20


def measure(pair: Pair, *, quick: bool, control: bool) -> dict[str, float | str]:
    """One line of the table.

    Where tensors happen to lie in memory moves a ratio by some per cent for as long as they live, so everything is built anew a few times.
    """
    rounds: list[tuple[float, float]] = []
    found: dict[str, float | str] = {}
    for build in range(1 if quick else BUILDS):
        torch.manual_seed(build)
        ours, theirs, gap, sizes = sides(pair, control=control)
        if build == 0:
            found = {"limbeck_mb": ours.peak(), "peer_mb": theirs.peak(), "peer": pair.peer.name, "sizes": sizes}
            found |= {} if gap is None else {"difference": gap}
        else:
            ours.step()
            theirs.step()
        rounds += take_turns(ours, theirs, *((1, 20, QUICK_SECONDS) if quick else (3, 60, SECONDS / BUILDS)))
    times = {"limbeck_ms": 1000 * statistics.median(a for a, _ in rounds), "peer_ms": 1000 * statistics.median(b for _, b in rounds)}
    return {**times, "ratio": statistics.median(a / b for a, b in rounds), **found}


def take_turns(ours: Side, theirs: Side, fewest: int, most: int, seconds: float) -> list[tuple[float, float]]:
    """The times of steps beside each other; each is as often the first."""
    times: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(times) < fewest or (len(times) < most and time.perf_counter() - start < seconds):
        if len(times) % 2:
            other = theirs.step()
            times.append((ours.step(), other))
        else:
            times.append((ours.step(), theirs.step()))
    return times


def sides(pair: Pair, *, control: bool = False) -> tuple[Side, Side, float | None, str]:
    """Both sides of a pair on the same tensors, by how much their values differ where they should not, and the sizes in words.

    With `control` the first side is the peer too.
    """
    loss, student, teacher, labels = pair.build()
    leaves = [*read(student), *loss.parameters()]
    first = pair.peer.start if control else pair.ours
    ours = Side(first(loss, student, teacher, labels), leaves)
    theirs = Side(pair.peer.start(loss, student, teacher, labels), leaves)
    sizes = " + ".join("x".join(map(str, value.shape)) for value in read(student))
    if pair.factor is None or control:
        return ours, theirs, None, sizes
    with torch.no_grad():
        a, b = float(ours.value()) * pair.factor, float(theirs.value())
    return ours, theirs, abs(a - b) / max(abs(b), 1e-12), sizes


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--control", action="store_true", help="measure each peer beside itself")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="losses to measure (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # for both sides alike, as in a run
    chosen = [pair for pair in PAIRS if not args.only or {pair.loss, pair.name} & set(args.only)]
    if unknown := set(args.only) - {name for pair in chosen for name in (pair.loss, pair.name)}:
        parser.error(f"no such pair: {', '.join(sorted(unknown))}")
    results: dict[str, dict[str, float | str]] = {}
    for pair in chosen:
        found = results[pair.name] = measure(pair, quick=args.quick, control=args.control)
        if not args.json:
            print(line(pair.name, found), flush=True)
    if args.json:
        print(json.dumps(results))
    elif not args.only and (absent := set(LOSSES.files()) - {pair.loss for pair in PAIRS}):
        print(f"not measured: {', '.join(sorted(absent))}")
    return 0


def line(name: str, found: dict[str, float | str]) -> str:
    """A row of the table in README.md."""
    cells = [name, found["sizes"], found["peer"], *(f"{found[key]:.3g}" for key in ("limbeck_ms", "peer_ms"))]
    faster = f"{found['ratio']:.2f}" if float(found["ratio"]) >= 0.1 else f"{found['ratio']:.3f}"
    cells += [faster, *(f"{found[key]:.1f}" for key in ("limbeck_mb", "peer_mb"))]
    note = f" values differ by {found['difference']:.0e}" if float(found.get("difference", 0)) > 1e-3 else ""
    return f"| {' | '.join(map(str, cells))} |{note}"


if __name__ == "__main__":
    sys.exit(main())
