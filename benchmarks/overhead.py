"""What Limbeck's loop costs beyond the arithmetic: beside a hand-written loop and beside torchdistill.

The three take turns, update by update, in one process, on the same pair of networks, data and losses. A ratio is formed
for every update (Limbeck's time over the hand-written loop's just beside it) and the median of the ratios is reported,
so that what else the machine does falls on all three alike. Limbeck is measured through `limbeck.distill` as a user
runs it: data, teacher, objective, backward, optimizer, schedule and logging are all inside. The full run also measures it
with a teacher that does exactly the work of the hand-written loop's (`fold: false`): what its own Python costs.

    python benchmarks/overhead.py            the table (a few minutes on two cores)
    python benchmarks/overhead.py --quick    under a minute
    python benchmarks/overhead.py --json     one JSON object on standard output
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck
from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.engine.watch import Silent
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model

BATCH, RATE, TEMPERATURE = 128, 0.01, 4.0
MODEL = {"depth": 20}
DATA = DataRequest(source="sklearn:digits")


def layers(model: nn.Module, count: int) -> list[str]:
    """`count` convolutions, spread over the depth."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]
    return [names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)]


@dataclass
class Case:
    """One line of the table."""

    name: str
    taps: list[str]
    logits: bool = True


def cases() -> list[Case]:
    """No features, a few, many; and features of early layers only."""
    model = new_model(0)
    found = [Case(f"features_{n}", layers(model, n) if n else []) for n in (0, 4, 16)]
    return [*found, Case("early", layers(model, 18)[:2], logits=False)]


def new_model(seed: int) -> nn.Module:
    """A network of the pair."""
    torch.manual_seed(seed)
    return build_model(ModelRequest("resnet", args=MODEL), _splits().info).module


_cache: dict[str, Any] = {}


def _splits() -> Any:
    if "splits" not in _cache:
        _cache["splits"] = load_data(DATA, kind=None, labels="class")
    return _cache["splits"]


class Rows:
    """The training images, normalised as Limbeck normalises them, in a fresh order every epoch."""

    def __init__(self) -> None:
        splits = _splits()
        batch = splits.train.__getitems__(range(len(splits.train)))
        norm = build_model(ModelRequest("resnet", args=MODEL), splits.info).normalization
        self.inputs, self.labels, self.normalise = batch.inputs, batch.labels, norm.apply if norm else (lambda x: x)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(self.labels))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                rows = order[start : start + BATCH]
                yield self.normalise(self.inputs[rows]), self.labels[rows]


def by_hand(case: Case) -> Callable[[], None]:
    """The loop that one would write by hand, with hooks for the features."""
    student, teacher = new_model(1).train(), new_model(2).eval().requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9, fused=True)
    seen: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}}

    def keep(side: str, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            seen[side][path] = output

        return hook

    for path in case.taps:
        student.get_submodule(path).register_forward_hook(keep("student", path))
        teacher.get_submodule(path).register_forward_hook(keep("teacher", path))
    rows = iter(Rows())

    def step() -> None:
        inputs, labels = next(rows)
        with torch.no_grad():
            theirs = teacher(inputs)
        mine = student(inputs)
        loss = inputs.new_zeros(())
        if case.logits:
            soft = F.kl_div((mine / TEMPERATURE).log_softmax(1), (theirs / TEMPERATURE).softmax(1), reduction="batchmean")
            loss = F.cross_entropy(mine, labels) + TEMPERATURE**2 * soft
        for path in case.taps:
            loss = loss + F.mse_loss(seen["student"][path], seen["teacher"][path])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def with_torchdistill(case: Case) -> Callable[[], None]:
    """The same step through torchdistill's box, its batches handed in as cheaply as to the loop by hand."""
    logging.disable(logging.INFO)
    import torchdistill.losses  # noqa: F401 - registers the losses
    from torchdistill.core.distillation import DistillationBox

    def io(path: str, side: str) -> dict[str, str]:
        return {f"{side}_module_path": path, f"{side}_module_io": "output"}

    terms: dict[str, Any] = {}
    if case.logits:
        kd = {
            **io(".", "student"),
            **io(".", "teacher"),
            "temperature": TEMPERATURE,
            "alpha": 1.0,
            "beta": TEMPERATURE**2,
            "reduction": "batchmean",
        }
        terms["kd"] = {"criterion": {"key": "KDLoss", "kwargs": kd}, "weight": 1.0}
    for i, path in enumerate(case.taps):
        value = {"module_path": path, "io": "output"}
        route = {"input": {"is_from_teacher": False, **value}, "target": {"is_from_teacher": True, **value}}
        wrapper = {"key": "SimpleLossWrapper", "kwargs": route}
        terms[f"hint{i}"] = {"criterion": {"key": "MSELoss", "kwargs": {}}, "criterion_wrapper": wrapper, "weight": 1.0}
    hooks = {"input": [], "output": case.taps}
    config = {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, "forward_hook": hooks},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True, "forward_hook": hooks},
        "optimizer": {"key": "SGD", "kwargs": {"lr": RATE, "momentum": 0.9, "fused": True}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}, "func2extract_model_loss": None},
    }
    # torchdistill never puts the teacher into evaluation mode; it is done here so that all three compute the same.
    box = DistillationBox(new_model(2).eval(), new_model(1).train(), {}, config, torch.device("cpu"), None, False, 1)
    rows = iter(Rows())

    def step() -> None:
        inputs, labels = next(rows)
        box.pre_forward_process()
        loss = box.forward_process(inputs, labels)
        box.post_forward_process(loss=loss)

    return step


@dataclass
class TakeTurns(Silent):
    """A listener that lets the others make an update between two of Limbeck's and times all of them."""

    others: Mapping[str, Callable[[], None]]
    warmup: int
    times: dict[str, list[float]] = field(default_factory=dict)
    _left: float = 0.0
    _updates: int = 0

    def update(self, update: int) -> None:
        own = time.perf_counter() - self._left
        self._updates += 1
        if self._updates > self.warmup:
            self.times.setdefault("limbeck", []).append(own)
        names = list(self.others)
        shift = update % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            self.others[name]()
            if self._updates > self.warmup:
                self.times.setdefault(name, []).append(time.perf_counter() - start)
        self._left = time.perf_counter()


def recipe(case: Case, updates: int, *, fold: bool = True) -> dict[str, Any]:
    """The same experiment as a recipe. With `fold` (the default of a recipe) the teacher runs without its batch normalisations."""
    objective: dict[str, Any] = {}
    if case.logits:
        objective = {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": TEMPERATURE}}
    objective |= {f"hint{i}": {"loss": "hint", "student": path} for i, path in enumerate(case.taps)}
    return {
        "task": "classification",
        "data": "sklearn:digits",
        "teacher": {"model": "resnet", "args": MODEL, "weights": "random", "fold": fold},
        "student": {"model": "resnet", "args": MODEL},
        "objective": objective,
        "train": {
            "steps": updates,
            "batch_size": BATCH,
            "optimizer": {"name": "sgd", "lr": RATE, "momentum": 0.9},
            "schedule": "constant",
            "evaluate_every": 10_000,
        },
    }


def measure(case: Case, updates: int, repeats: int, *, unfolded: bool) -> dict[str, float]:
    """Median ratios and times of one case.

    Where tensors happen to lie in memory speeds a network up or down by a per cent or two for as long as it lives; so
    everything is built anew several times, and the median over these is taken.
    """
    rounds = [once(case, updates) | (host(case, updates) if unfolded else {}) for _ in range(repeats)]
    return {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}


def once(case: Case, updates: int) -> dict[str, float]:
    """Ratios and times of one set of networks."""
    peers: dict[str, Callable[[], None]] = {"by_hand": by_hand(case)}
    with contextlib.suppress(ImportError):
        peers["torchdistill"] = with_torchdistill(case)
    turns = TakeTurns(peers, warmup=updates // 5)
    with tempfile.TemporaryDirectory() as folder:
        limbeck.distill(recipe(case, updates), out=Path(folder) / "run", device="cpu", listener=turns)
    bare = turns.times["by_hand"]
    found = {"limbeck_over_bare": _ratio(turns.times["limbeck"], bare), "bare_ms": 1000 * statistics.median(bare)}
    found["limbeck_minus_bare_us"] = 1e6 * statistics.median(a - b for a, b in zip(turns.times["limbeck"], bare, strict=True))
    if "torchdistill" in turns.times:
        found["torchdistill_over_bare"] = _ratio(turns.times["torchdistill"], bare)
    return found


def host(case: Case, updates: int) -> dict[str, float]:
    """What Limbeck's own Python costs: its teacher does exactly the work of the hand-written loop's."""
    turns = TakeTurns({"by_hand": by_hand(case)}, warmup=updates // 5)
    with tempfile.TemporaryDirectory() as folder:
        limbeck.distill(recipe(case, updates, fold=False), out=Path(folder) / "run", device="cpu", listener=turns)
    bare = turns.times["by_hand"]
    gap = statistics.median(a - b for a, b in zip(turns.times["limbeck"], bare, strict=True))
    return {"unfolded_over_bare": _ratio(turns.times["limbeck"], bare), "unfolded_minus_bare_us": 1e6 * gap}


def _ratio(times: list[float], bare: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, bare, strict=True))


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer updates")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    updates, repeats = (25, 2) if args.quick else (100, 5)
    results: dict[str, dict[str, float]] = {}
    for case in cases():
        results[case.name] = measure(case, updates, repeats, unfolded=not args.quick)
        if not args.json:
            line = "  ".join(f"{key} {value:.4g}" for key, value in results[case.name].items())
            print(f"{case.name:<12} {line}", flush=True)
    if args.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
