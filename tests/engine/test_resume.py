"""A run that is killed and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.errors import RunError
from tests.processes import Command, command
from tests.runs import SMALL, digest, distill

EVERYTHING: dict[str, Any] = {
    **SMALL,
    "data": {**SMALL["data"], "transforms": ["flip", {"noise": {"std": 0.1}}]},
    "student": {"model": "mlp", "args": {"hidden": [16], "dropout": 0.2}},
    "teacher": {"model": "mlp", "args": {"hidden": [24]}},
    "baseline": True,
    "train": {
        "epochs": 3,
        "batch_size": 32,
        "accumulate": 2,
        "optimizer": {"name": "adamw", "lr": 0.01},
        "schedule": {"name": "plateau", "patience": 0},
        "ema": 0.9,
        "clip": 1.0,
        "log_every": 2,
        "checkpoint_every": 2,
        "early_stop": {"patience": 3},
    },
    "stages": {
        "teach": {"learner": "teacher", "data": {"label_fraction": 1.0}, "objective": {"labels": "cross_entropy"}},
        "hint": {"objective": {"hint": {"loss": "hint", "student": "hidden1", "teacher": "hidden1"}, "labels": None, "logits": None}},
        "distil": {"objective": {"logits": {"temperature": {"schedule": "linear", "start": 4, "end": 1}}}},
    },
}
"""Stages, adapters, an average, augmentation, dropout, schedules with memory, partial labels and a baseline."""


def lines(run: Path) -> list[dict[str, Any]]:
    """The metrics without their times."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(EVERYTHING, sort_keys=False))
    done = command("run", "recipe.yaml", "--out", "run", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def kill_after(folder: Path, count: int, *, resume: bool, words: tuple[str, ...] = ()) -> bool:
    """Starts (or resumes) the run and kills it -9 once `count` lines of metrics are there. Returns whether it was killed."""
    options = [*words, *(["--resume"] if resume else [])]
    metrics = folder / "run" / "metrics.jsonl"
    with Command("run", "recipe.yaml", "--out", "run", "--device", "cpu", *options, cwd=folder) as process:
        while process.poll() is None:
            if metrics.exists() and metrics.read_text().count("\n") >= count:
                process.kill()
                return True
            time.sleep(0.001)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    return False


@pytest.mark.slow
@pytest.mark.parametrize("counts", [[1, 9, 20], [5, 14, 31], [24]])
def test_killed_and_resumed_is_the_same_run(tmp_path: Path, whole: Path, counts: list[int]) -> None:
    """kill -9 in every stage, several times in one run, at moments that the run does not choose."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(EVERYTHING, sort_keys=False))
    for i, count in enumerate(counts):
        begun = (tmp_path / "run" / "status.json").exists()
        assert kill_after(tmp_path, count, resume=begun), f"kill {i} came too late"
    done = command("run", "recipe.yaml", "--out", "run", "--device", "cpu", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(whole)
    assert lines(tmp_path / "run") == lines(whole)


def test_every_stage_left_its_trace(whole: Path) -> None:
    """The run above does what its recipe says; otherwise its resumption would prove little."""
    results = json.loads((whole / "results.json").read_text())
    assert [stage["name"] for stage in results["stages"]] == ["teach", "alone", "hint", "distil"]
    assert set(results["models"]) == {"teacher", "alone", "student"}
    assert results["adapters"]["stages.hint.objective.hint.adapter"]["kind"] == "linear"
    assert not any("adapter" in name for name in _names(whole))


def _names(run: Path) -> list[str]:
    from safetensors.torch import load_file

    return list(load_file(run / "student" / "model.safetensors"))


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(EVERYTHING, sort_keys=False))
    metrics = tmp_path / "run" / "metrics.jsonl"
    with Command("run", "recipe.yaml", "--out", "run", "--device", "cpu", cwd=tmp_path) as process:
        while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "everything is saved" in errors
    assert "limbeck run run --resume" in errors
    assert "Traceback" not in errors
    done = command("run", "run", "--resume", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(whole)


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """Half a file, half a folder and a half of safetensors' own; what only looks like them stays."""
    run = tmp_path / "run"
    distill(SMALL, out=run, device="cpu")
    whole = digest(run)
    (run / "results.json").unlink()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "status": "running"}))
    left = [run / ".status.json.7.tmp", run / "checkpoints" / ".stage01.7.tmp" / "half", run / "checkpoints" / ".tmp9XoVEY"]
    own = [run / "notes.tmp", run / ".tmp", run / ".notes.tmp", run / ".tmpfolder" / "notes"]
    for file in [*left, *own]:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    distill(run, resume=True, device="cpu")
    assert not any(file.exists() for file in [*left, left[1].parent])
    assert all(file.exists() for file in own)
    assert digest(run) == whole


def test_a_finished_run_is_shown_again(tmp_path: Path) -> None:
    first = distill(SMALL, out=tmp_path / "run", device="cpu")
    again = distill(tmp_path / "run", resume=True, device="cpu")
    assert again.metrics == first.metrics


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    distill(SMALL, out=tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match=r"begun with another recipe \(train\.batch_size: 32 there, 16 here\)"):
        distill(SMALL, set={"train.batch_size": 16}, out=tmp_path / "run", resume=True, device="cpu")


def test_a_taken_folder_is_refused(tmp_path: Path) -> None:
    distill(SMALL, out=tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match=r"holds a run already. Add --resume"):
        distill(SMALL, out=tmp_path / "run", device="cpu")
    with pytest.raises(RunError, match=r"no run was begun there"):
        distill(SMALL, out=tmp_path / "other", resume=True, device="cpu")
