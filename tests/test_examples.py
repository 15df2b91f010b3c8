"""The examples run, say what they promise, and stay short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def accuracies(name: str) -> dict[str, float]:
    """What an example prints."""
    file = next(file for file in FILES if file.stem == name)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {row: float(value) for row, value in re.findall(r"^(\w+) +([\d.]+)%$", done.stdout, flags=re.MULTILINE)}


def test_there_are_no_others():
    assert [file.stem for file in FILES] == ["from_python", "own_loop"]


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
