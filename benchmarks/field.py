"""Does Limbeck train students as good as plain loops around the losses of others, and how long does it take?

One pair of networks on Fashion-MNIST. For every seed a teacher is trained once; then a student learns from it twice by each method: in a
plain loop around the loss as torchdistill (or the public CIFAR collections) compute it, and in Limbeck. Data, split, teacher, initial
weights, batch size, optimizer, schedule and number of updates are the same, only the order of the batches is each one's own. The two losses
are first compared in value on a batch. Accuracies are compared pair by pair over the seeds; seconds are those of training the student.

    python benchmarks/field.py            5 seeds, 6,000 images of 14x14 pixels, 5 epochs: a few minutes
    python benchmarks/field.py --quick    2 seeds, 600 images, 1 epoch, for a look
    python benchmarks/field.py --json     one JSON object on standard output

The four .gz files of the data are looked for in ../shared/data/fashion_mnist; --data names another folder.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck
from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.losses import AT, DKD, KD, SP
from limbeck.losses.base import Loss
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.study.statistics import paired
from limbeck.types import Signals

ROOT = Path(__file__).resolve().parents[1]
BATCH, RATE, DECAY = 64, 0.05, 5e-4
TEACHER, STUDENT = {"channels": [32, 64]}, {"channels": [8, 16]}
LAYERS = ["stage1", "stage2"]
MARGIN = 0.01
"""Students whose mean accuracies are surely closer than this are called equal."""


@dataclass(frozen=True)
class Outputs:
    """What a model says: logits, and the layers by name."""

    logits: Tensor
    layers: Mapping[str, Tensor]


Compare = Callable[[Outputs, Outputs, Tensor], Tensor]
"""Student, teacher and labels to a mean over the batch."""


@dataclass(frozen=True)
class Method:
    """A way to distil, as others compute it and as a recipe says it."""

    origin: str
    theirs: Compare
    ours: Loss
    term: Mapping[str, Any]
    layers: tuple[str, ...] = ()
    weight: float = 1.0
    hard: float = 1.0


def methods() -> dict[str, Method]:
    """The methods of the comparison."""
    from torchdistill.losses.mid_level import ATLoss, KDLoss, SPKDLoss

    def place(path: str) -> dict[str, Any]:
        return {"io": "output", "path": path}

    kd = KDLoss("logits", "output", "logits", "output", temperature=4.0, alpha=None, beta=1.0)
    at = ATLoss({path: {"student": place(path), "teacher": place(path)} for path in LAYERS}, mode="code")
    sp = SPKDLoss("stage2", "stage2", reduction="batchmean")

    def io(outputs: Outputs) -> dict[str, dict[str, Tensor]]:
        return {"logits": {"output": outputs.logits}, **{path: {"output": value} for path, value in outputs.layers.items()}}

    def signals(outputs: Outputs) -> Signals:
        return Signals(outputs.logits, dict(outputs.layers))

    return {
        "kd": Method(
            "torchdistill KDLoss",
            lambda s, t, _: 16 * kd(io(s), io(t)),
            KD(temperature=4.0),
            {"loss": "kd", "temperature": 4},
            weight=0.9,
            hard=0.1,
        ),
        "dkd": Method(
            "as the CIFAR collections compute it",
            lambda s, t, y: peers.dkd(signals(s), signals(t), y),
            DKD(temperature=4.0, alpha=1.0, beta=8.0),
            {"loss": "dkd", "temperature": 4, "alpha": 1, "beta": 8},
            weight=0.2,
        ),
        "at": Method(
            "torchdistill ATLoss",
            lambda s, t, _: at(io(s), io(t)),
            AT(variant="official"),
            {"loss": "at", "variant": "official", "student": LAYERS, "teacher": LAYERS},
            tuple(LAYERS),
            weight=100,
        ),
        "sp": Method(
            "torchdistill SPKDLoss",
            lambda s, t, _: sp(io(s), io(t)),
            SP(variant="torchdistill"),
            {"loss": "sp", "variant": "torchdistill", "student": "stage2", "teacher": "stage2"},
            ("stage2",),
            weight=3000,
        ),
    }


@dataclass(frozen=True)
class Settings:
    """How large the comparison is."""

    data: Path
    seeds: int
    images: int
    epochs: int
    size: int = 14

    def recipe(self, seed: int) -> dict[str, Any]:
        """What all runs share."""
        return {
            "task": "classification",
            "seed": seed,
            "data": {"source": f"idx:{self.data}", "limit": self.images, "size": self.size, "split": {"valid": 0.01, "seed": seed}},
            "train": {
                "epochs": self.epochs,
                "batch_size": BATCH,
                "optimizer": {"name": "sgd", "lr": RATE, "momentum": 0.9, "weight_decay": DECAY},
                "schedule": "cosine",
                "select": "last",
                "evaluate_every": self.epochs,
            },
        }


@dataclass(frozen=True)
class Bench:
    """The data of one seed, normalised as Limbeck normalises them, and its teacher."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    info: Any
    teacher: nn.Module
    folder: Path
    """The teacher's run."""


def prepare(settings: Settings, seed: int, folder: Path) -> Bench:
    """Trains the teacher, with Limbeck, and reads the data."""
    recipe = settings.recipe(seed) | {"student": {"model": "convnet", "args": TEACHER}, "objective": {"labels": "cross_entropy"}}
    done = limbeck.distill(recipe, out=folder / f"teacher-{seed}", device="cpu")
    request = DataRequest(source=f"idx:{settings.data}", limit=settings.images, size=settings.size, valid=0.01, split_seed=seed)
    splits = load_data(request, kind=None, labels="class")
    norm = build_model(ModelRequest("convnet", args=TEACHER), splits.info).normalization

    def whole(part: Any) -> tuple[Tensor, Tensor]:
        batch = part.__getitems__(range(len(part)))
        return (norm.apply(batch.inputs) if norm else batch.inputs), batch.labels

    return Bench(whole(splits.train), whole(splits.test), splits.info, done.student.eval().requires_grad_(False), done.folder)


class Watched:
    """A model whose layers are read through hooks."""

    def __init__(self, model: nn.Module, layers: tuple[str, ...]) -> None:
        self.model, self.seen = model, dict[str, Tensor]()
        for path in layers:
            model.get_submodule(path).register_forward_hook(self._keep(path))

    def _keep(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.seen[path] = output

        return hook

    def __call__(self, inputs: Tensor) -> Outputs:
        logits = self.model(inputs)
        return Outputs(logits, dict(self.seen))


def batches(rows: tuple[Tensor, Tensor], generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in a fresh order; the last batch may be smaller."""
    for chosen in torch.randperm(len(rows[1]), generator=generator).split(BATCH):
        yield rows[0][chosen], rows[1][chosen]


def by_hand(method: Method, bench: Bench, student: nn.Module, seed: int, epochs: int) -> tuple[float, float]:
    """The plain loop: accuracy on the test images and seconds of training."""
    generator = torch.Generator().manual_seed(seed)
    own, other = Watched(student.train(), method.layers), Watched(bench.teacher, method.layers)
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    total = epochs * math.ceil(len(bench.train[1]) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    start = time.perf_counter()
    for _ in range(epochs):
        for inputs, labels in batches(bench.train, generator):
            with torch.no_grad():
                theirs = other(inputs)
            mine = own(inputs)
            loss = method.hard * F.cross_entropy(mine.logits, labels) + method.weight * method.theirs(mine, theirs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - start
    return accuracy(student, bench), seconds


def with_limbeck(method: Method, bench: Bench, settings: Settings, seed: int, folder: Path) -> tuple[float, float]:
    """The same through a recipe."""
    recipe = settings.recipe(seed) | {
        "teacher": {"model": "convnet", "args": TEACHER, "weights": str(bench.folder)},
        "student": {"model": "convnet", "args": STUDENT, "weights": str(folder / f"initial-{seed}.safetensors")},
        "objective": {
            "labels": {"loss": "cross_entropy", "weight": method.hard},
            "method": {**method.term, "weight": method.weight},
        },
    }
    done = limbeck.distill(recipe, out=Path(tempfile.mkdtemp(dir=folder)) / "run", device="cpu")
    return done.metrics["accuracy"], done.results["stages"][-1]["seconds"]


def accuracy(model: nn.Module, bench: Bench) -> float:
    """On the test images."""
    with torch.no_grad():
        said = torch.cat([model.eval()(part).argmax(1) for part in bench.test[0].split(1000)])
    return (said == bench.test[1]).double().mean().item()


def value_gap(method: Method, bench: Bench) -> float:
    """Relative difference of the two losses on a batch."""
    inputs, labels = bench.train[0][:BATCH], bench.train[1][:BATCH]
    student = Watched(build_model(ModelRequest("convnet", args=STUDENT), bench.info).module.eval(), method.layers)
    other = Watched(bench.teacher, method.layers)
    with torch.no_grad():
        mine, theirs = student(inputs), other(inputs)
        expected = method.theirs(mine, theirs, labels).item()
        said = (Signals(side.logits, {path: side.layers[path] for path in method.layers}) for side in (mine, theirs))
        found = method.ours(*said, labels).mean().item()
    return abs(found - expected) / abs(expected)


def initial(bench: Bench, seed: int, folder: Path) -> Callable[[], nn.Module]:
    """A maker of students with the same first weights, which are also written where a recipe can name them."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    first = build_model(ModelRequest("convnet", args=STUDENT), bench.info).module
    state = {name: value.clone() for name, value in first.state_dict().items()}
    save_file(state, folder / f"initial-{seed}.safetensors")

    def make() -> nn.Module:
        model = build_model(ModelRequest("convnet", args=STUDENT), bench.info).module
        model.load_state_dict(state)
        return model

    return make


def measure(settings: Settings, note: Callable[[str], None]) -> dict[str, Any]:
    """Both ways of every method over the seeds."""
    chosen = methods()
    lines: dict[str, dict[str, Any]] = {
        name: {"peer": method.origin, "limbeck": [], "by_hand": [], "limbeck_seconds": [], "by_hand_seconds": []}
        for name, method in chosen.items()
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in range(settings.seeds):
            bench = prepare(settings, seed, folder)
            make = initial(bench, seed, folder)
            for name, method in chosen.items():
                line = lines[name]
                line.setdefault("value_gap", value_gap(method, bench))
                for way, (score, seconds) in {
                    "by_hand": by_hand(method, bench, make(), seed, settings.epochs),
                    "limbeck": with_limbeck(method, bench, settings, seed, folder),
                }.items():
                    line[way].append(score)
                    line[f"{way}_seconds"].append(seconds)
                note(f"seed {seed} {name}: Limbeck {line['limbeck'][-1]:.4f}, by hand {line['by_hand'][-1]:.4f}")
    return {name: line | judge(line) for name, line in lines.items()}


def judge(line: Mapping[str, list[float]]) -> dict[str, Any]:
    """The difference with its interval, whether it is surely small, and the ratio of the times."""
    found = paired(line["limbeck"], line["by_hand"], 0.95)
    ratio = statistics.median(a / b for a, b in zip(line["limbeck_seconds"], line["by_hand_seconds"], strict=True))
    return {
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "zero_inside": found.low <= 0 <= found.high,
        "equal": found.low > -MARGIN and found.high < MARGIN,
        "seconds_ratio": ratio,
    }


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, few images, one epoch")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "fashion_mnist", help="folder of the four .gz files")
    args = parser.parse_args()
    if not args.data.is_dir():
        parser.error(f"{args.data} is not there; --data names the folder of Fashion-MNIST's four .gz files")
    torch.set_num_threads(1)
    data = args.data.resolve()
    settings = Settings(data, 2, 600, 1) if args.quick else Settings(data, 5, 6000, 5)
    results = measure(settings, (lambda text: None) if args.json else (lambda text: print(text, flush=True)))
    if args.json:
        print(json.dumps(results))
        return 0
    for name, line in results.items():
        interval = f"{line['difference']:+.4f} [{line['low']:+.4f}, {line['high']:+.4f}]"
        means = f"{statistics.mean(line['limbeck']):.4f} against {statistics.mean(line['by_hand']):.4f} ({line['peer']})"
        print(f"{name:<4} {means}  difference {interval}  seconds {line['seconds_ratio']:.2f}  losses differ by {line['value_gap']:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
