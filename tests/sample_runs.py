"""Run directories for the tests of report and export, made by really training tiny networks on scikit-learn's digits.

Every number in them was measured; nothing is invented. It is a hand-written loop on purpose: the tests of the report must not
depend on the engine that writes the same files.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

CLASSES = [str(i) for i in range(10)]


@dataclass
class Digits:
    """The bundled 8 x 8 digits, cut by a fixed permutation."""

    x: Tensor
    y: Tensor
    train: Tensor
    valid: Tensor
    test: Tensor
    labelled: Tensor

    @classmethod
    def load(cls, labelled: int = 80) -> Digits:
        x, y = load_digits(return_X_y=True)
        images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        train, valid, test = order[:1200], order[1200:1440], order[1440:]
        return cls(images, torch.tensor(y), train, valid, test, train[:labelled])


def network(width: int) -> nn.Sequential:
    """Two convolutions and a head."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


@dataclass
class Log:
    """Collects the lines of metrics.jsonl and the stages of results.json."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def add(self, stage: str, kind: str, step: int, epoch: int, values: dict[str, float]) -> None:
        seconds = time.perf_counter() - self.begun
        self.lines.append({"stage": stage, "round": 0, "kind": kind, "step": step, "epoch": epoch, "time": seconds, "values": values})


def train(
    log: Log, stage: str, model: nn.Module, data: Digits, rows: Tensor, epochs: int, teacher: nn.Module | None = None, t: float = 4
) -> None:
    """Trains `model` on `rows`; with a teacher, the labels of `data.labelled` and the teacher's logits on all rows."""
    begun = time.perf_counter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    known = torch.zeros(len(data.x), dtype=torch.bool)
    known[data.labelled] = True
    step, best = 0, {"step": 0, "metric": "accuracy", "value": 0.0}
    for epoch in range(epochs):
        for chunk in rows[torch.randperm(len(rows))].split(64):
            x, y = data.x[chunk], data.y[chunk]
            logits = model(x)
            if teacher is None:
                terms = {"labels": F.cross_entropy(logits, y)}
            else:
                with torch.no_grad():
                    target = (teacher(x) / t).softmax(-1)
                per_row = F.cross_entropy(logits, y, reduction="none") * known[chunk]
                terms = {"labels": per_row.sum() / known[chunk].sum().clamp(min=1)}
                terms["logits"] = t * t * F.kl_div((logits / t).log_softmax(-1), target, reduction="batchmean")
            total = sum(terms.values(), torch.zeros(()))
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            if step % 5 == 0:
                log.add(stage, "train", step, epoch, {"total": total.item(), **{k: v.item() for k, v in terms.items()}, "lr": 5e-3})
            step += 1
        values = measure(model, data.x[data.valid], data.y[data.valid])["metrics"]
        log.add(stage, "valid", step, epoch, values)
        if values["accuracy"] > best["value"]:
            best = {"step": step, "metric": "accuracy", "value": values["accuracy"]}
    learner = "student" if stage == "distil" else stage
    seconds = time.perf_counter() - begun
    log.stages.append({"name": stage, "learner": learner, "round": 0, "updates": step, "epochs": epochs, "seconds": seconds, "best": best})


@torch.no_grad()
def measure(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Metrics, reliability and confusion on `x`."""
    logits = model(x)
    confidence, guess = logits.softmax(-1).max(-1)
    hit = (guess == y).float()
    edges = torch.linspace(0, 1, 16)
    place = torch.bucketize(confidence, edges[1:-1])
    count = torch.bincount(place, minlength=15)
    accuracy = torch.bincount(place, hit, minlength=15) / count
    mean = torch.bincount(place, confidence, minlength=15) / count
    ece = ((accuracy - mean).nan_to_num().abs() * count).sum() / len(y)
    matrix = torch.zeros(10, 10, dtype=torch.long)
    for truth, predicted in zip(y.tolist(), guess.tolist(), strict=True):
        matrix[truth, predicted] += 1
    metrics = {"accuracy": hit.mean().item(), "ece": ece.item(), "nll": F.cross_entropy(logits, y).item()}
    clean = [[None if v != v else v for v in row.tolist()] for row in (mean, accuracy)]
    reliability = {"edges": edges.tolist(), "confidence": clean[0], "accuracy": clean[1], "count": count.tolist()}
    return {"metrics": metrics, "reliability": reliability, "confusion": matrix.tolist()}


@torch.no_grad()
def cost(model: nn.Module) -> dict[str, float]:
    """Parameters, FLOPs, bytes and the median latency of one example."""
    one = torch.zeros(1, 1, 8, 8)
    with FlopCounterMode(display=False) as counter:
        model(one)
    times = []
    for _ in range(40):
        begun = time.perf_counter()
        model(one)
        times.append(1000 * (time.perf_counter() - begun))
    parameters = sum(p.numel() for p in model.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops(), "bytes": 4 * parameters, "latency_ms": sorted(times)[20]}


@torch.no_grad()
def entry(role: str, model: nn.Module, data: Digits, teacher: nn.Module | None) -> dict[str, Any]:
    """A model of results.json."""
    x, y = data.x[data.test], data.y[data.test]
    agreement = None
    if teacher is not None and teacher is not model:
        ours, theirs = model(x).log_softmax(-1), teacher(x).log_softmax(-1)
        top1 = (ours.argmax(-1) == theirs.argmax(-1)).float().mean().item()
        agreement = {"top1": top1, "kl": F.kl_div(ours, theirs, log_target=True, reduction="batchmean").item()}
    return {"role": role, "reference": "convnet", **measure(model, x, y), "agreement": agreement, "cost": cost(model)}


@torch.no_grad()
def similarity(student: nn.Sequential, teacher: nn.Sequential, x: Tensor) -> dict[str, Any]:
    """Linear CKA of every layer with every layer."""

    def grams(model: nn.Sequential) -> dict[str, Tensor]:
        found, value = {}, x
        for name, layer in model.named_children():
            value = layer(value)
            flat = value.flatten(1) - value.flatten(1).mean(0)
            found[name] = flat @ flat.T
        return found

    ours, theirs = grams(student), grams(teacher)
    cka = [[((a * b).sum() / (a.norm() * b.norm())).item() for b in theirs.values()] for a in ours.values()]
    return {"student": list(ours), "teacher": list(theirs), "cka": cka}


RECIPE = """\
about:
  title: "{title}"                      # recipes/digits.yaml:1:9
task: classification                    # recipes/digits.yaml:2:7
seed: {seed}                            # --set seed
data:
  source: sklearn:digits                # recipes/digits.yaml:3:16
  label_fraction: 0.07                  # recipes/digits.yaml:4:19
student:
  model: convnet
  width: {width}
objective:
  labels: {{loss: cross_entropy, weight: 1.0}}  # recipes/digits.yaml:6:11
  logits:
    loss: kd                            # recipes/digits.yaml:7:12
    temperature: {t}                    # recipes/digits.yaml:7:30
train:
  epochs: {epochs}                      # recipes/digits.yaml:9:11
baseline: true                          # recipes/digits.yaml:10:11
"""


def make_run(
    folder: Path, *, seed: int = 0, t: float = 4.0, epochs: int = 15, title: str = "Digits with few labels", width: int = 6
) -> Path:
    """Trains teacher, alone and student and writes the run directory `folder`; about five seconds."""
    torch.manual_seed(seed)
    begun, log, data = time.perf_counter(), Log(), Digits.load()
    teacher, alone, student = network(32), network(width), network(width)
    student.load_state_dict(alone.state_dict())
    train(log, "teacher", teacher, data, data.train, max(2, epochs // 2))
    train(log, "alone", alone, data, data.labelled, epochs * 8)
    train(log, "distil", student, data, data.train, epochs, teacher, t)
    models = {
        "teacher": entry("teacher", teacher, data, teacher),
        "alone": entry("alone", alone, data, teacher),
        "student": entry("distilled", student, data, teacher),
    }
    results = {
        "format": 1,
        "limbeck": "0.1.0",
        "task": "classification",
        "command": "limbeck run recipes/digits.yaml",
        "recipe": "recipes/digits.yaml",
        "about": {
            "title": title,
            "paper": "arXiv:1503.02531",
            "claim": "A student taught by softened logits beats itself trained alone.",
            "notes": "",
        },
        "seed": seed,
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": time.perf_counter() - begun,
        "status": "finished",
        "data": {
            "source": "sklearn:digits",
            "train": len(data.train),
            "labelled": len(data.labelled),
            "valid": len(data.valid),
            "test": len(data.test),
            "classes": CLASSES,
        },
        "stages": log.stages,
        "models": models,
        "adapters": {},
        "files": {"recipe": "recipe.yaml", "student": "student/model.safetensors"},
        "similarity": similarity(student, teacher, data.x[data.test]),
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log.lines))
    (folder / "recipe.yaml").write_text(RECIPE.format(seed=seed, t=t, epochs=epochs, title=title, width=width))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11", "packages": {"torch": torch.__version__}, "threads": 1}))
    return folder
