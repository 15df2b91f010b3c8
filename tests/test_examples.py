"""The examples run, say what they promise, and stay short."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runs import PATIENCE

FILES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def accuracies(name: str) -> dict[str, float]:
    """What an example prints."""
    file = next(file for file in FILES if file.stem == name)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return {row: float(value) for row, value in re.findall(r"^(\w+) +([\d.]+)%$", done.stdout, flags=re.MULTILINE)}


def test_there_are_no_others():
    assert [file.stem for file in FILES] == ["cross_validation", "from_python", "own_loop", "spoken_digits"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_short(file):
    assert len(file.read_text().splitlines()) < 100


def test_own_loop_needs_no_engine():
    source = next(file for file in FILES if file.stem == "own_loop").read_text()
    assert not re.search(r"limbeck\.(engine|run|config|objective|teachers|tasks)|distill\(", source)


def test_own_loop():
    found = accuracies("own_loop")
    assert set(found) == {"teacher", "alone", "distilled"}
    assert found["distilled"] > found["alone"] + 5
    assert found["teacher"] > found["distilled"]


def test_from_python():
    found = accuracies("from_python")
    assert set(found) == {"teacher", "alone", "student"}
    assert found["teacher"] >= found["student"] > found["alone"]


def test_cross_validation(tmp_path):
    """Two folds, each held out once; a second call reads the finished runs."""
    file = next(file for file in FILES if file.stem == "cross_validation")
    recipe = file.parents[1] / "recipes" / "classification" / "kd_oct.yaml"
    words = [str(recipe), "train.epochs=1", "data.limit=300", "data.split.folds=2", "data.split.group=null"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(file), *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = call(*words)
    assert done.returncode == 0, done.stderr
    runs = [json.loads((tmp_path / "runs" / f"kd_oct-fold{n}" / "results.json").read_text()) for n in (1, 2)]
    found = {row: float(value) for row, value in re.findall(r"^(\w+) +([\d.]+)%$", done.stdout, flags=re.MULTILINE)}
    assert list(found) == ["teacher", "alone", "student"]
    for name, value in found.items():
        assert value == pytest.approx(50 * sum(run["models"][name]["metrics"]["accuracy"] for run in runs), abs=0.051)
    for key in ("sensitivity", "specificity", "auc"):
        shown = [float(value) for value in re.findall(rf"^ +{key} ([\d.]+)$", done.stdout, flags=re.MULTILINE)]
        assert shown == pytest.approx([sum(run["models"][name]["metrics"][key] for run in runs) / 2 for name in found], abs=0.00051)
    assert [run["data"]["test"] for run in runs] == [899, 898]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert call(*words).stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    none = call(str(recipe.with_name("kd.yaml")))
    assert none.returncode == 1
    assert "has no data.split.folds" in none.stderr


def test_spoken_digits(tmp_path):
    """Two data sets that share no recording, with pictures from 0 to 1."""
    generator = np.random.default_rng(0)
    lengths = np.array([900, 9000, 4000, 2500, 1200, 3000, 5000, 800])
    offsets = np.concatenate([[0], lengths.cumsum()])
    audio = generator.integers(-9000, 9000, offsets[-1], dtype=np.int16)
    about = {"digit": np.arange(8), "take": np.arange(8), "is_test": np.array([1, 1, 0, 0, 0, 0, 0, 0])}
    np.savez(tmp_path / "clips.npz", audio=audio, offsets=offsets, **about)
    file = next(file for file in FILES if file.stem == "spoken_digits")
    words = [sys.executable, str(file), str(tmp_path / "clips.npz"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    digit, voice = (np.load(tmp_path / "out" / f"{name}.npz") for name in ("digit", "voice"))
    assert digit["y_train"].tolist() == [2, 4, 6]
    assert digit["y_test"].tolist() == [0]
    assert voice["y_train"][:, 0].tolist() == pytest.approx([2500 / 8000, 3000 / 8000, 800 / 8000])
    assert digit["x_train"].shape == (3, 1, 16, 16)
    assert 0 <= digit["x_train"].min() < digit["x_train"].max() <= 1
