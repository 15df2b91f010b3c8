"""Every stage is trained as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.errors import RecipeError
from tests.runs import PLAIN, SMALL, digest, distill, weights


def test_a_stage_has_its_own_precision(tmp_path: Path) -> None:
    recipe = {**SMALL, "stages": {"distil": {}}}
    full = distill(recipe, out=tmp_path / "full", device="cpu")
    half = distill(recipe, set={"stages.distil.train": {"precision": "bf16"}}, out=tmp_path / "half", device="cpu")
    assert digest(full.folder) != digest(half.folder)


def test_a_teacher_of_other_classes_may_lend_its_features(tmp_path: Path) -> None:
    """An ImageNet teacher can be imitated layer by layer by a student of ten classes."""
    recipe = {
        **SMALL,
        "teacher": {"model": "torchvision:resnet18", "args": {"num_classes": 1000}, "weights": "random", "normalize": "none"},
        "data": {"source": "tests.engine.test_stages:colour_digits"},
        "student": {"model": "convnet", "args": {"channels": [4, 8]}},
        "objective": {"labels": "cross_entropy", "hint": {"loss": "hint", "student": "stage2", "teacher": "layer1"}},
        "train": {**SMALL["train"], "steps": 2},
    }
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    assert result.results["models"]["teacher"]["metrics"] == {}
    assert result.results["models"]["teacher"]["cost"]["parameters"] > 10_000_000
    assert result.results["models"]["student"]["agreement"] is None
    assert "accuracy" in result.metrics
    with pytest.raises(RecipeError, match=r"the student gives 10 outputs, teacher gives 1000; a loss on logits needs the same classes"):
        distill(recipe, set={"objective.logits": {"loss": "kd"}}, out=tmp_path / "no", device="cpu")


def colour_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Digits in three channels, large enough for an ImageNet network."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = torch.tensor(data.images[:100] / 16, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    return images.repeat_interleave(4, 2).repeat_interleave(4, 3).contiguous(), torch.tensor(data.target[:100])


def test_only_what_is_trainable_moves(tmp_path: Path) -> None:
    base = {**SMALL, "student": PLAIN, "teacher": {"model": "mlp", "args": {"hidden": [24]}, "weights": "random"}}
    recipe = {**base, "stages": {"head": {"trainable": ["head.*"], "train": {"steps": 3}}}}
    start = distill(
        {**base, "train": {**SMALL["train"], "steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}}}, out=tmp_path / "start", device="cpu"
    )
    end = distill(recipe, out=tmp_path / "end", device="cpu")
    before, after = weights(start.folder), weights(end.folder)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("head") for name in moved), moved


def test_a_fresh_stage_forgets_and_a_continued_one_does_not(tmp_path: Path) -> None:
    none = {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}}
    stages = {"first": {"train": {"steps": 4}}, "second": {"start": "fresh", "train": none}}
    fresh = distill({**SMALL, "student": PLAIN, "stages": stages}, out=tmp_path / "fresh", device="cpu")
    stages["second"] = {"train": none}
    kept = distill({**SMALL, "student": PLAIN, "stages": stages}, out=tmp_path / "kept", device="cpu")
    untouched = distill({**SMALL, "student": PLAIN, "train": {**SMALL["train"], **none}}, out=tmp_path / "none", device="cpu")
    assert digest(fresh.folder) == digest(untouched.folder)
    assert digest(kept.folder) != digest(untouched.folder)


def test_the_student_alone_differs_in_nothing_but_the_teacher(tmp_path: Path) -> None:
    """Same initial weights, same number of updates; with full labels and no weight on the teacher even the same bits."""
    recipe = {
        **SMALL,
        "data": {"source": "sklearn:digits", "limit": 200},
        "baseline": True,
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "weight": 0.0}},
    }
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    alone, student = result.results["models"]["alone"], result.results["models"]["student"]
    assert alone["metrics"] == student["metrics"]
    updates = {stage["name"]: stage["updates"] for stage in result.results["stages"]}
    assert updates == {"alone": 12, "distil": 12}


def test_the_student_alone_takes_as_many_updates_as_the_student_that_is_taught(tmp_path: Path) -> None:
    """With unlabelled examples, of which only the taught student has a use, and where neither reads them."""
    for unlabelled, expected in ((True, 12), (False, 2)):
        recipe = {**SMALL, "baseline": True, "data": {**SMALL["data"], "unlabelled": unlabelled}}
        result = distill(recipe, out=tmp_path / str(unlabelled), device="cpu")
        assert {stage["name"]: stage["updates"] for stage in result.results["stages"]} == {"alone": expected, "distil": expected}


def test_several_teachers_are_listened_to_by_name(tmp_path: Path) -> None:
    recipe = {
        **SMALL,
        "teacher": None,
        "teachers": {"wide": {**SMALL["teacher"]}, "deep": {"model": "convnet", "args": {"channels": [4, 4, 8]}, "weights": "random"}},
        "objective": {
            "labels": "cross_entropy",
            "first": {"loss": "kd", "from": "wide"},
            "second": {"loss": "hint", "from": "deep", "student": "stage2", "teacher": "stage3"},
        },
    }
    result = distill({key: value for key, value in recipe.items() if value is not None}, out=tmp_path / "run", device="cpu")
    assert set(result.results["models"]) == {"wide", "deep", "student"}
    with pytest.raises(RecipeError, match=r"Did you mean 'wide'"):
        distill({k: v for k, v in recipe.items() if v is not None}, set={"objective.first.from": "wise"}, out=tmp_path / "no", device="cpu")
