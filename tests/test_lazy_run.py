"""Whole runs of lazy students: what is exported, going on after a stop, starting as another, the kernels, and what the check says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import limbeck
from limbeck.config.load import load_recipe
from limbeck.errors import Interrupted, LimbeckError, RecipeError
from limbeck.export import export_run
from limbeck.export.student import load_student
from limbeck.judge import evaluate
from limbeck.models.lazy import is_lazy
from limbeck.preflight import preflight
from limbeck.session import Session
from tests.language_runs import recipe as language
from tests.runs import SMALL, digest

LAZY: dict[str, Any] = {**SMALL, "student": {"model": "convnet", "args": {"channels": [4, 8]}, "lazy": 4}}


def test_a_lazy_student_is_judged_and_exported_as_it_is(tmp_path: Path):
    result = limbeck.distill({**LAZY, "evaluate": {"kernel": 16}}, out=tmp_path / "run", device="cpu", report=False)
    metrics = dict(result.metrics)
    assert 0 < metrics["kernel_alignment"] < 1
    assert 0 < metrics["kernel_movement"] < 1
    assert metrics["kernel_alignment"] != metrics["kernel_alignment_start"]
    teacher = result.results["models"]["teacher"]["metrics"]
    assert 0 < teacher["kernel_alignment"] < 1
    assert "kernel_movement" not in teacher
    again = evaluate(result.folder, device="cpu")
    assert {name: metrics[name] for name in again} == pytest.approx(again, rel=1e-5)
    student = load_student(result.folder)
    assert student.card["model"]["lazy"] == 4
    assert is_lazy(student.module)
    assert export_run(result.folder, "safetensors", tmp_path / "copy").difference == 0
    assert export_run(result.folder, "pt2", tmp_path / "student.pt2").difference < 1e-5
    bare = {**SMALL, "student": {**SMALL["student"], "weights": str(result.folder)}}
    with pytest.raises(LimbeckError, match="these are the weights of a lazy model; give convnet its factor: lazy: 4"):
        limbeck.distill(bare, out=tmp_path / "bare", device="cpu", report=False)


def test_stopped_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = {**LAZY, "train": {**SMALL["train"], "checkpoint_every": 1}}
    whole = limbeck.distill(wanted, out=tmp_path / "whole", device="cpu", report=False)
    original, polls = Session.__post_init__, iter([*[False] * 5, True])

    def watched(self: Session) -> None:
        original(self)
        self.interrupted = lambda: next(polls)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "__post_init__", watched)
        with pytest.raises(Interrupted):
            limbeck.distill(wanted, out=tmp_path / "stopped", device="cpu", report=False)
    assert any((tmp_path / "stopped" / "checkpoints").iterdir())
    again = limbeck.distill(wanted, out=tmp_path / "stopped", device="cpu", resume=True, report=False)
    assert digest(again.folder) == digest(whole.folder)
    assert dict(again.metrics) == dict(whole.metrics)


def test_a_lazy_student_begins_as_another_model(tmp_path: Path):
    recipe = {
        **LAZY,
        "teacher": {"model": "convnet", "args": {"channels": [4, 8]}},
        "stages": {
            "teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"steps": 5}},
            "distil": {"start": "teacher", "train": {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}, "select": "last"}},
        },
    }
    folder = limbeck.distill(recipe, out=tmp_path / "run", device="cpu", report=False).folder
    state = load_file(folder / "student" / "model.safetensors")
    assert state["lazy_start.alpha"] == 4
    assert torch.equal(state["lazy_start.head__weight"], state["head.weight"])


def told(recipe: dict[str, Any], **overrides: Any) -> list[str]:
    problems = preflight(load_recipe(recipe, set=overrides), allow_code=False).problems
    return [f"{problem.key}: {problem.message}" for problem in problems]


def test_what_the_check_says(tmp_path: Path):
    assert told(LAZY, **{"evaluate.kernel": 16}) == []
    found = told(LAZY, **{"evaluate.kernel": 300_000})
    assert found == [
        "evaluate.kernel: teacher: the tangent kernel of 300000 examples and 1,442 parameters holds 432,600,000 numbers at once, more than "
        "134,217,728; take 93077 examples or fewer, or a smaller model."
    ]
    with pytest.raises(RecipeError, match=r"student.lazy: expected a number > 0, found 0"):
        load_recipe(LAZY, set={"student.lazy": 0})
    assert told(language(tmp_path), **{"evaluate.kernel": 4}) == [
        "evaluate.kernel: the tangent kernel is of models of images and tables, and this is causal_lm. Remove it."
    ]
    said = told(language(tmp_path), **{"student.shrink": None, "student.lazy": 4})
    assert "student.model: hf:llama: lazy is for models of images and tables that give one tensor, not for those of transformers." in said
