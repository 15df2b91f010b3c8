"""Processes of language models killed with SIGKILL at random moments: what goes on afterwards ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.language_data import WORDS, save_tokenizer, write_jsonl
from tests.language_models import tiny
from tests.processes import Command, command
from tests.runs import PATIENCE

LORA = {"rank": 2, "alpha": 8, "dropout": 0.1, "targets": ["q_proj", "v_proj"]}


def recipe(folder: Path, **student: Any) -> dict[str, Any]:
    """A small student of a teacher in a folder, on packed texts, with dropout and a moving average."""
    tokenizer = save_tokenizer(folder / "model")
    tiny("llama", vocab_size=45).save_pretrained(folder / "model")
    texts = [{"text": " ".join(WORDS[(7 * i + j * j) % 40] for j in range(3 + i % 9))} for i in range(120)]
    model = {"model": f"hf:{folder / 'model'}", "weights": "pretrained"}
    return {
        "task": "causal_lm",
        "data": {"source": write_jsonl(folder / "texts.jsonl", texts), "tokenizer": tokenizer, "max_length": 24, "pack": True},
        "teacher": model,
        "student": {**model, **student},
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 2}},
        "train": {"epochs": 12, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.01}, "checkpoint_every": 2, "ema": 0.9},
    }


def killed(folder: Path, *words: str, ready: Callable[[], bool], chance: random.Random) -> None:
    """Starts a process and kills it a moment after `ready` says so."""
    limit = time.monotonic() + PATIENCE
    with Command(*words, cwd=folder) as process:
        while not ready() and process.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.002)
        time.sleep(chance.random() * 0.2)
        if process.poll() is None:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [False, True], ids=["all weights", "adapters"])
def test_training(tmp_path: Path, adapters: bool):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe(tmp_path, **({"lora": LORA} if adapters else {}))))
    done = command("run", "recipe.yaml", "--out", "whole", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    chance = random.Random(int(adapters))
    words = ["run", "recipe.yaml", "--out", "killed", "--device", "cpu"]
    for _ in range(2):
        pointer = tmp_path / "killed" / "checkpoints" / "latest.json"
        before = pointer.read_text() if pointer.exists() else ""
        killed(tmp_path, *words, ready=lambda old=before, file=pointer: file.exists() and file.read_text() != old, chance=chance)
        if (tmp_path / "killed" / "student" / "model.safetensors").exists():
            break
        words = ["run", "killed", "--resume", "--device", "cpu"]
    done = command("run", "killed", "--resume", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0 or "finished" in done.stderr, done.stderr
    one, two = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    records = [json.loads((tmp_path / name / "results.json").read_text())["models"]["student"]["metrics"] for name in ("whole", "killed")]
    assert records[0] == records[1]


@pytest.mark.slow
def test_labelling_tokens(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe(tmp_path)))
    words = ["label", "recipe.yaml", "--shard", "8", "--batch", "4", "--device", "cpu", "--signal", "tokens=topk:k=8"]
    done = command(*words, "--out", "whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    chance = random.Random(3)
    store = tmp_path / "killed"
    for _ in range(2):
        before = len(list(store.glob("view*")))
        killed(tmp_path, *words, "--out", "killed", ready=lambda count=before: len(list(store.glob("view*"))) != count, chance=chance)
    done = command(*words, "--out", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    held = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()} for name in ("whole", "killed")]
    assert held[0] == held[1]
