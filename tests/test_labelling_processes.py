"""Labelling in processes that are killed, and in several at once: the store is the same, byte by byte."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.store.manifest import StoreError
from limbeck.store.reader import StoreReader
from tests.processes import Command, command
from tests.runs import PATIENCE, environment

WORDS = ("label", "recipe.yaml", "--views", "3", "--shard", "48", "--batch", "16", "--device", "cpu", "--signal", "logits=dense:dtype=fp32")


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store, whatever its folder."""
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, and the store that one undisturbed process makes."""
    folder = tmp_path_factory.mktemp("labelling")
    recipe: dict[str, Any] = {
        "task": "classification",
        "data": {"source": "sklearn:digits", "transforms": ["noise"]},
        "teacher": {"model": "convnet", "args": {"channels": [8, 16]}, "weights": "random"},
        "student": {"model": "mlp", "args": {"hidden": [8]}},
        "objective": {"logits": {"loss": "kd"}, "hint": {"loss": "hint", "student": "hidden1", "teacher": "stage2"}},
        "train": {"epochs": 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    done = command(*WORDS, "--out", "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_killed_at_random_moments(place: Path) -> None:
    chance = random.Random(1)
    store = place / "killed"
    for _ in range(2):
        before = len(list(store.glob("view*")))
        with Command(*WORDS, "--out", "killed", cwd=place) as process:
            while len(list(store.glob("view*"))) == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.05)
            if process.poll() is None:
                process.kill()
        if (store / "manifest.json").exists():
            break
        with pytest.raises(StoreError, match="begun and never finished"):
            StoreReader(store)
        for shard in store.glob("*.safetensors"):
            assert shard.read_bytes() == (place / "whole" / shard.name).read_bytes()
    assert command(*WORDS, "--out", "killed", cwd=place).returncode == 0
    assert contents(store) == contents(place / "whole")


@pytest.mark.slow
def test_two_processes_write_what_one_writes(place: Path) -> None:
    words = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    words += ["--num_processes", "2", "-m", "limbeck", *WORDS, "--out", "two"]
    done = subprocess.run(
        [sys.executable, *words], cwd=place, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert contents(place / "two") == contents(place / "whole")


def test_views_differ_and_can_be_read(place: Path) -> None:
    reader = StoreReader(place / "whole")
    every = torch.arange(reader.manifest.examples)
    views = [reader.read(every, view, ["logits", "stage2"]) for view in range(3)]
    assert not torch.equal(views[0].logits, views[1].logits)
    assert views[2].features["stage2"].shape[:2] == (len(every), 16)
