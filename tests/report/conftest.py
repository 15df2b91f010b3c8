"""Real runs, trained once a session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.sample_runs import make_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three runs: two seeds of one recipe, and another temperature. Read them only; `run` gives a copy."""
    folder = tmp_path_factory.mktemp("runs")
    wanted = {"seed0": (0, 4.0), "seed1": (1, 4.0), "cold": (0, 1.0)}
    return {name: make_run(folder / name, seed=seed, t=t, epochs=6) for name, (seed, t) in wanted.items()}


@pytest.fixture
def run(trained: dict[str, Path], tmp_path: Path) -> Path:
    """A run directory of one's own, to be damaged at will."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in trained["seed0"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def change(run: Path):
    """Rewrites parts of results.json: `change(status="stopped")`."""

    def apply(**parts):
        results = json.loads((run / "results.json").read_text())
        results.update(parts)
        (run / "results.json").write_text(json.dumps(results))
        return results

    return apply
