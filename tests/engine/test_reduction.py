"""The gradient of an update does not depend on how it is cut."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml

import limbeck
from tests.processes import pair
from tests.runs import PATIENCE, PLAIN, SMALL, environment, weights

EVERY_KIND = {
    "labels": {"loss": "cross_entropy", "weight": 0.3},
    "logits": {"loss": "kd", "temperature": 2},
    "hint": {"loss": "hint", "student": "hidden1", "teacher": "hidden1", "weight": 0.5},
}
BATCH_QUANTITIES = {
    "labels": "cross_entropy",
    "sp": {"loss": "sp", "student": "hidden1", "weight": 10.0},
    "rkd": {"loss": "rkd", "student": "hidden1"},
}


def recipe(objective: Mapping[str, object]) -> dict[str, object]:
    train = {"steps": 3, "batch_size": 24, "optimizer": {"name": "sgd", "lr": 0.1}, "schedule": "constant", "select": "last"}
    return {
        **SMALL,
        "student": PLAIN,
        "teacher": {"model": "mlp", "args": {"hidden": [24]}, "weights": "random"},
        "objective": objective,
        "train": train,
    }


def moved(run: Path) -> dict[str, torch.Tensor]:
    return weights(run)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_accumulation_is_exact(tmp_path: Path, accumulate: int) -> None:
    """k forwards of n give the step of one forward of kn, unevenly labelled batches and uneven parts included."""
    whole = limbeck.distill(recipe(EVERY_KIND), out=tmp_path / "whole", device="cpu", report=False)
    parts = limbeck.distill(recipe(EVERY_KIND), set={"train.accumulate": accumulate}, out=tmp_path / "parts", device="cpu", report=False)
    for name, value in moved(whole.folder).items():
        torch.testing.assert_close(moved(parts.folder)[name], value, rtol=2e-5, atol=2e-6)
    lines = [[json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()] for run in (whole, parts)]
    for one, other in zip(*lines, strict=True):
        assert one["values"] == pytest.approx(other["values"], rel=1e-4, abs=1e-6)


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    """As a user starts two processes."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "limbeck", *words]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [EVERY_KIND, BATCH_QUANTITIES], ids=["per_example", "batch_quantities"])
def test_two_processes_give_the_gradient_of_one(tmp_path: Path, objective: dict[str, object]) -> None:
    """Quantities of the batch are computed over the batch of all processes, so they are exact too."""
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(objective)))
    one = limbeck.distill(file, out=tmp_path / "one", device="cpu", report=False)
    words = ["run", str(file), "--out", str(tmp_path / "two"), "--device", "cpu"]
    done = torchrun(*words) if objective is EVERY_KIND else pair(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, value in weights(one.folder).items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, rtol=2e-5, atol=2e-6)
    mine, theirs = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one.folder, tmp_path / "two")
    )
    for a, b in zip(mine, theirs, strict=True):
        assert a["values"] == pytest.approx(b["values"], rel=1e-4, abs=1e-6)
