"""Limbeck's losses, taps and adapters in a training loop of one's own, without recipe and engine.

A small network learns scikit-learn's digits from 58 labelled images, once alone and once with two terms from a teacher on all images:
softened answers (kd) and one inner layer (hint), which an adapter brings to the teacher's shape.

    python examples/own_loop.py        about five seconds
"""

from __future__ import annotations

from typing import Any, cast

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Signals
from limbeck.adapters.conv1x1 import Conv1x1
from limbeck.losses import KD, CrossEntropy, Hint
from limbeck.taps.tapped import Tapped
from limbeck.types import IGNORE

LABELLED = 58


def network(width: int) -> nn.Sequential:
    """Two convolutions and a head; the layers are called `0` to `6`."""
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, 10))


def batches(size: int, epochs: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [part for _ in range(epochs) for part in torch.randperm(size, generator=generator).split(64)]


def train_alone(model: nn.Module, images: Tensor, labels: Tensor, updates: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for rows in batches(len(images), 1 + updates * 64 // len(images))[:updates]:
        loss = F.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def signals(tapped: Tapped, images: Tensor) -> Signals:
    output, features = tapped(images)
    return Signals(cast(Tensor, output), features)


def distil(student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor, updates: int) -> None:
    kd, hint, labelled = KD(temperature=4.0), Hint(), CrossEntropy()
    teacher.eval().requires_grad_(False)
    ours, theirs = Tapped(student, ["3"]), Tapped(teacher, ["3"])  # reads the second ReLU; the hooks end with these objects
    adapter = Conv1x1()
    with torch.no_grad():  # its parameters are made from one example of both features
        adapter.setup(signals(ours, images[:2]).features["3"], signals(theirs, images[:2]).features["3"])
    optimizer = torch.optim.AdamW([*student.parameters(), *adapter.parameters()], lr=5e-3)
    for rows in batches(len(images), 1 + updates * 64 // len(images))[:updates]:
        with torch.no_grad():
            said = signals(theirs, images[rows])
        own = signals(ours, images[rows])
        soft = kd(own, said)
        inner = hint(*map(Signals.of, adapter(own.features["3"], said.features["3"])))
        known = rows < LABELLED
        supervised = labelled(own, Signals(), labels[rows].where(known, IGNORE))  # zero where there is no label
        loss = soft.mean() + inner.mean() + 0.1 * supervised.sum() / known.sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model.eval()(images).argmax(1) == labels).float().mean())


def main() -> None:
    digits: Any = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(digits.target)[order]
    (x, x_test), (y, y_test) = images.split([1400, 397]), labels.split([1400, 397])

    models = {}
    for name, width in (("teacher", 32), ("alone", 4), ("distilled", 4)):
        torch.manual_seed(1 if name == "teacher" else 0)  # the two students begin alike
        models[name] = network(width)
    train_alone(models["teacher"], x, y, updates=200)
    train_alone(models["alone"], x[:LABELLED], y[:LABELLED], updates=400)
    distil(models["distilled"], models["teacher"], x, y, updates=400)
    for name, model in models.items():
        print(f"{name:10} {accuracy(model, x_test, y_test):.1%}")


if __name__ == "__main__":
    main()
