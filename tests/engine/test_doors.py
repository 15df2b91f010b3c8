"""The doors that are proven: a second player, a stage that repeats, memory for every example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from limbeck.engine.checkpoint import latest, load
from limbeck.errors import LimbeckError, ShapeMismatch
from tests.engine.test_resume import kill_after, lines
from tests.processes import command, pair
from tests.runs import PLAIN, SMALL, digest, distill

ROOT = Path(__file__).resolve().parents[2]

PLAYERS: dict[str, Any] = {
    **SMALL,
    "models": {"critic": {"model": "tests.engine.pieces:Critic", "optimizer": {"name": "adam", "lr": 0.003}}},
    "train": {**SMALL["train"], "step": "tests.engine.pieces:Adversarial"},
}
MEMORY: dict[str, Any] = {
    **SMALL,
    "student": PLAIN,
    "teacher": {"model": "mlp", "args": {"hidden": [24]}, "weights": "random"},
    "train": {
        **SMALL["train"],
        "epochs": 4,
        "optimizer": {"name": "sgd", "lr": 0.05},
        "step": "tests.engine.pieces:Remembering",
        "checkpoint_every": 2,
    },
}
GENERATIONS: dict[str, Any] = {
    **SMALL,
    "teacher": {"model": "convnet", "args": {"channels": [4, 8]}},
    "stages": {
        "first": {"learner": "teacher", "data": {"label_fraction": 1.0}, "objective": {"labels": "cross_entropy"}},
        "generations": {"repeat": 3, "between": "refresh_teacher"},
    },
}


def test_a_second_player_has_its_own_optimizer_and_step(tmp_path: Path) -> None:
    result = distill(PLAYERS, out=tmp_path / "run", device="cpu")
    groups, state = _newest(result.folder)
    critic, learner = (state["players"][name]["optimizer"]["groups"][0] for name in ("critic", "learner"))
    assert "decoupled_weight_decay" in learner
    assert critic["weight_decay"] == 0
    assert learner["weight_decay"] == 0.01
    assert groups["optimizer-critic"]["0.step"].item() == 12
    assert "player-critic" in groups
    assert not any("net" in name for name in load_file(result.folder / "student" / "model.safetensors"))
    values = [line["values"] for line in lines(result.folder) if line["kind"] == "train"]
    assert values[-1]["critic"] != values[0]["critic"]
    untaught = distill(SMALL, out=tmp_path / "plain", device="cpu")
    assert digest(untaught.folder) != digest(result.folder), "the critic had no influence"


@pytest.mark.slow
def test_a_second_player_survives_a_kill(tmp_path: Path) -> None:
    _killed_is_whole(tmp_path, PLAYERS, 3)


@pytest.mark.slow
def test_memory_of_every_example_survives_a_kill(tmp_path: Path) -> None:
    _killed_is_whole(tmp_path, MEMORY, 4)


def _killed_is_whole(tmp_path: Path, recipe: dict[str, Any], count: int) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    whole = distill(recipe, out=tmp_path / "whole", device="cpu")
    assert kill_after(tmp_path, count, resume=False, words=("--allow-code",))
    done = command("run", "recipe.yaml", "--out", "run", "--device", "cpu", "--resume", "--allow-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(whole.folder)
    for one, other in zip(_last(tmp_path / "run").items(), _last(whole.folder).items(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1]), one[0]


def _newest(run: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    folder = latest(run / "checkpoints")
    assert folder is not None
    return load(folder)


def _last(run: Path) -> dict[str, torch.Tensor]:
    groups, _ = _newest(run)
    return {f"{group}/{name}": value for group, own in groups.items() if not group.startswith("random") for name, value in own.items()}


@pytest.mark.slow
def test_memory_of_every_example_spans_two_processes(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(MEMORY, sort_keys=False))
    one = distill(MEMORY, out=tmp_path / "one", device="cpu")
    done = pair("run", "recipe.yaml", "--out", "two", "--device", "cpu", "--allow-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    mine, theirs = _last(one.folder)["samples-past/rows"], _last(tmp_path / "two")["samples-past/rows"]
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert _last(tmp_path / "two")["samples-past/seen"].all()


def test_generations_hand_the_student_on(tmp_path: Path) -> None:
    """Born again: every round begins with fresh weights, and its teacher is the student of the round before."""
    result = distill(GENERATIONS, out=tmp_path / "run", device="cpu")
    stages = result.results["stages"]
    assert [stage["name"] for stage in stages] == ["first", *["generations"] * 3]
    assert [stage["round"] for stage in stages] == [0, 0, 1, 2]
    teacher = load_file(tmp_path / "run" / "checkpoints" / "models.safetensors")
    previous = load_file(tmp_path / "run" / "checkpoints" / "best-generations-1.safetensors")
    for name, value in previous.items():
        assert torch.equal(teacher[f"teacher/{name}"], value), name
    first = [line for line in lines(result.folder) if line["stage"] == "generations" and line["kind"] == "train" and line["step"] == 2]
    assert len({json.dumps(line["values"]) for line in first}) == 3, "every round has its own initial weights and order"


@pytest.mark.slow
def test_generations_survive_a_kill(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(GENERATIONS, sort_keys=False))
    whole = distill(GENERATIONS, out=tmp_path / "whole", device="cpu")
    total = len(lines(whole.folder))
    assert kill_after(tmp_path, total - 4, resume=False)
    done = command("run", "recipe.yaml", "--out", "run", "--device", "cpu", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "run") == digest(whole.folder)
    assert lines(tmp_path / "run") == lines(whole.folder)


def test_generations_need_one_architecture(tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatch, match=r"refresh_teacher: 'teacher' and the learner must have the same architecture"):
        distill(GENERATIONS, set={"teacher.args": {"channels": [8, 8]}}, out=tmp_path / "run", device="cpu")


def test_local_steps_need_permission(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=r"is code of your own; add --allow-code"):
        distill(MEMORY, out=tmp_path / "run", device="cpu", allow_code=False)
    assert not (tmp_path / "run").exists()
