"""Written replies of processes that are killed, and of two that train together: the same texts, and the same student."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import Command, command, pair
from tests.runs import PATIENCE
from tests.test_rollouts import files, recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, and the run of one undisturbed process."""
    folder = tmp_path_factory.mktemp("rollouts")
    given = recipe(folder)
    given["data"]["rollouts"] = {**given["data"]["rollouts"], "samples": 8}  # of which the writing takes a moment
    (folder / "recipe.yaml").write_text(json.dumps(given))
    done = command("run", "recipe.yaml", "--out", "whole", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def student(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "student" / "model.safetensors")


@pytest.mark.slow
def test_killed_while_it_writes(place: Path) -> None:
    chance, own = random.Random(5), place / "killed"
    words = ["run", "recipe.yaml", "--out", "killed", "--device", "cpu"]
    for kind in ("written", "again", "chosen"):
        limit = time.monotonic() + PATIENCE
        with Command(*words, cwd=place) as process:
            while not list(own.glob(f"rollouts/*.{kind}.jsonl")) and process.poll() is None:
                assert time.monotonic() < limit
                time.sleep(0.001)
            time.sleep(chance.random() * 0.1)
            if process.poll() is None:
                process.kill()
        if (own / "student" / "model.safetensors").exists():
            break
        words = ["run", "killed", "--resume", "--device", "cpu"]
    done = command("run", "killed", "--resume", "--device", "cpu", cwd=place)
    assert done.returncode == 0 or "finished" in done.stderr, done.stderr
    assert files(own) == files(place / "whole")
    one, two = student(place / "whole"), student(own)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    results = [json.loads((place / name / "results.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["stages"][1]["rollouts"] == results[1]["stages"][1]["rollouts"]


@pytest.mark.slow
def test_two_processes(place: Path) -> None:
    done = pair("run", "recipe.yaml", "--out", "two", "--device", "cpu", cwd=place)
    assert done.returncode == 0, done.stderr
    results = [json.loads((place / name / "results.json").read_text()) for name in ("whole", "two")]
    assert results[1]["stages"][1]["rollouts"]["questions"] == 98
    assert results[0]["models"]["teacher"]["metrics"]["nll"] == pytest.approx(results[1]["models"]["teacher"]["metrics"]["nll"], abs=1e-4)
    assert files(place / "two").keys() == files(place / "whole").keys()
    assert files(place / "two") == files(place / "whole")
    one, two = student(place / "whole"), student(place / "two")
    # A bias of all keys changes no attention: its gradient is rounding, which Adam enlarges.
    assert all(torch.allclose(value, two[name], atol=1e-3) for name, value in one.items() if not name.endswith("c_attn.bias"))
