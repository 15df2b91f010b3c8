"""Real runs, trained once a session."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.sample_runs import make_run
from tests.sample_studies import make_study


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


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study: three arms, three seeds, really trained. Read it only; `study` gives a copy."""
    return make_study(tmp_path_factory.mktemp("studies") / "digits")


@pytest.fixture
def study(measured: Path, tmp_path: Path) -> Path:
    """A study of one's own, to be damaged at will."""
    return Path(shutil.copytree(measured, tmp_path / "digits"))


@pytest.fixture
def numbers(study: Path) -> Path:
    """`study` without its runs and costs, whose figures take a while to draw."""
    shutil.rmtree(study / "runs")
    results = json.loads((study / "results.json").read_text())
    for arm in results["arms"].values():
        arm["values"] = {model: {key: own[key] for key in ("accuracy", "ece")} for model, own in arm["values"].items()}
    (study / "results.json").write_text(json.dumps(results))
    return study


@pytest.fixture
def alter(study: Path):
    """Rewrites the results of a study: `alter(lambda results: results.pop("ranking"))`."""

    def apply(change):
        results = json.loads((study / "results.json").read_text())
        change(results)
        (study / "results.json").write_text(json.dumps(results))
        return results

    return apply
