"""A stage may begin with the weights of another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.preflight import preflight
from tests.runs import PLAIN, SMALL, distill

STILL: dict[str, Any] = {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}}
LABELS = {"labels": "cross_entropy"}
STAGES: dict[str, Any] = {
    "general": {"learner": "general", "objective": LABELS, "train": {"steps": 5}},
    "tune": {"start": "general", "objective": LABELS, "train": STILL},
}
RECIPE: dict[str, Any] = {**SMALL, "teacher": None, "teachers": {"general": PLAIN}, "student": PLAIN, "stages": STAGES, "objective": LABELS}


def models_of(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What the student and the general model are at the end."""
    kept = load_file(folder / "checkpoints" / "models.safetensors")
    both = (
        {key.removeprefix(f"{name}/"): value for key, value in kept.items() if key.startswith(f"{name}/")}
        for name in ("student", "general")
    )
    student, general = both
    return student, general


def test_a_stage_begins_with_what_another_model_has_learnt(tmp_path: Path) -> None:
    run = distill(RECIPE, out=tmp_path / "run", device="cpu")
    student, general = models_of(run.folder)
    assert student.keys() == general.keys()
    assert all(torch.equal(student[key], general[key]) for key in general if "running" not in key and "batches" not in key)
    before = load_file(run.folder / "checkpoints" / "initial.safetensors")
    assert all(torch.equal(before[key], general[key]) for key in general)
    fresh = distill(RECIPE, set={"stages.tune.start": "fresh"}, out=tmp_path / "fresh", device="cpu")
    student, general = models_of(fresh.folder)
    assert not all(torch.equal(student[key], general[key]) for key in general if key.endswith("weight"))
    assert not (fresh.folder / "checkpoints" / "initial.safetensors").exists()


def test_the_lender_goes_its_own_way(tmp_path: Path) -> None:
    """The weights are copied: what the student learns is not the lender's."""
    stages = {**STAGES, "tune": {"start": "general", "objective": LABELS, "train": {"steps": 3}}}
    one = distill({**RECIPE, "stages": stages}, out=tmp_path / "one", device="cpu")
    two = distill(RECIPE, out=tmp_path / "two", device="cpu")
    moved, kept = models_of(one.folder)
    _, general = models_of(two.folder)
    assert all(torch.equal(kept[key], general[key]) for key in general)
    assert not torch.equal(moved["head.weight"], kept["head.weight"])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("student", "expected another model than the learner, found 'student'; `continue` goes on from where it was."),
        ("generl", "no model of this recipe is called 'generl'. Did you mean 'general'"),
    ],
)
def test_an_unknown_beginning_is_found_by_the_check(start: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(RECIPE, set={"stages.tune.start": start})
    assert message in str(caught.value)
    assert "stages.tune.start" in str(caught.value)


def test_other_layers_are_no_beginning() -> None:
    other = {**PLAIN, "args": {"hidden": [8]}}
    found = preflight(load_recipe(RECIPE, set={"teachers.general": other}), allow_code=False).problems
    assert len(found) == 1
    assert "stages.tune.start" in str(found[0])
    assert "the weights in the model 'general' do not fit" in str(found[0])


def test_a_teacher_without_a_model_lends_no_weights() -> None:
    changes = {"teachers.both": {"kind": "ema"}, "stages.tune.start": "both"}
    found = preflight(load_recipe(RECIPE, set=changes), allow_code=False).problems
    assert ["'both' has no model of its own here" in str(problem) for problem in found] == [True]
