"""What a student gained and forgot since its last stage began, in results.json and in the report."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from limbeck.evaluate.flips import flip_report
from limbeck.run import distill
from tests.runs import SMALL

STAGES = {"pretrain": {"objective": {"labels": "cross_entropy", "logits": None}}, "distil": {}}


def test_a_student_that_knew_something(tmp_path: Path):
    result = distill({**SMALL, "stages": STAGES}, out=tmp_path / "run", device="cpu")
    flips = result.results["models"]["student"]["flips"]
    assert set(flips) == {*flip_report(*result_like()), "teacher_share"}
    kept = load_file(tmp_path / "run" / "checkpoints" / "initial.safetensors")
    now = result.student.state_dict()
    assert kept.keys() == now.keys()
    assert flips["accuracy_change"] == flips["knowledge_gain"] - flips["knowledge_loss"]
    assert 0 <= flips["teacher_share"] <= 1
    assert "Knowledge gained" in result.report.read_text()
    assert "flips" not in result.results["models"]["teacher"]


def test_a_beginner_has_nothing_to_forget(tmp_path: Path):
    for name, stages in (("one", {"distil": {}}), ("fresh", {**STAGES, "distil": {"start": "fresh"}})):
        result = distill({**SMALL, "stages": stages}, out=tmp_path / name, device="cpu")
        assert result.results["models"]["student"]["flips"] is None
        assert "Knowledge gained" not in result.report.read_text()


def test_given_weights_are_a_beginning(tmp_path: Path):
    """Without training nothing is gained or lost."""
    distill(SMALL, out=tmp_path / "first", device="cpu")
    weights = str(tmp_path / "first" / "student" / "model.safetensors")
    recipe = {**SMALL, "student": {**SMALL["student"], "weights": weights}, "train": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.0}}}
    flips = distill(recipe, out=tmp_path / "second", device="cpu", set={"train.select": "last"}).results["models"]["student"]["flips"]
    assert flips is not None
    assert abs(flips["accuracy_change"]) < 0.2


def result_like():
    import torch

    return (torch.zeros(1, dtype=torch.long),) * 4
