"""Golden numbers of official implementations, and float64 signals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.losses.base import Loss
from limbeck.types import Signals

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "losses"


@pytest.fixture
def draw() -> Callable[..., tuple[torch.Tensor, ...]]:
    """Seeded float64 tensors of one shape."""

    def make(*shape: int, count: int = 2, seed: int = 3) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(count))

    return make


@pytest.fixture
def check_golden() -> Callable[..., None]:
    """Compares value and gradients of every stored case with what `make(hyperparameters)` gives: a loss and its weight."""

    def check(method: str, make: Callable[[dict], tuple[Loss, float]]) -> None:
        cases = sorted((GOLDEN / method).glob("*.json"))
        if not cases:
            pytest.skip(f"needs the golden numbers in {GOLDEN / method}, which are not on this machine")
        for case in cases:
            _check_case(case, make)

    return check


def _check_case(case: Path, make: Callable[[dict], tuple[Loss, float]]) -> None:
    about = json.loads(case.read_text())
    arrays = {name: torch.from_numpy(value) for name, value in np.load(case.with_suffix(".npz")).items()}
    inputs = {name: value.requires_grad_() for name, value in arrays.items() if name.startswith("student")}
    loss, weight = make(about["hyperparameters"])
    value = weight * loss(_signals(arrays, "student"), _signals(arrays, "teacher"), arrays.get("labels")).mean()
    value.backward()
    tolerance = {"rtol": about["rtol"], "atol": about["atol"]}
    torch.testing.assert_close(value, arrays["out_loss"], **tolerance)
    for name, tensor in inputs.items():
        torch.testing.assert_close(tensor.grad, arrays[f"out_grad_{name}"], **tolerance)


def _signals(arrays: dict[str, torch.Tensor], who: str) -> Signals:
    features = {name: value for name, value in sorted(arrays.items()) if name.startswith(f"{who}_features")}
    return Signals(logits=arrays.get(f"{who}_logits"), features=features)
