"""Stages that runs have in common: what their keys depend on, and that what is taken from the shelf is what would have been trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck import assemble
from limbeck.config.load import load_recipe
from limbeck.sharing import phase_keys
from tests.runs import digest, distill
from tests.study.small import STAGED

BASE: dict[str, Any] = {**STAGED, "baseline": True}


def keys(changes: dict[str, Any] | None = None, device: str = "cpu", **more: Any) -> list[str | None]:
    recipe = assemble.located(load_recipe({**BASE, **more}, set=changes or {}))
    phases = assemble.phases(recipe, assemble.build_task(recipe, allow_code=False), allow_code=False)
    return phase_keys(recipe, phases, device=device, allow_code=False)


def test_the_last_stage_of_the_student_is_its_own():
    teacher, alone, distil = keys()
    assert teacher is not None
    assert alone not in (None, teacher)
    assert distil is None


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"objective.logits.temperature": 9}, [True, True]),
        ({"about.title": "x", "train.select": "best"}, [True, True]),
        ({"student.args.hidden": [5]}, [True, False]),
        ({"teacher.args.hidden": [5]}, [False, True]),
        ({"stages.teacher.train.epochs": 3}, [False, True]),
        ({"objective.labels.weight": 2}, [True, True]),
        ({"stages.distil.train.epochs": 3}, [True, False]),
        ({"seed": 1}, [False, False]),
        ({"data.split.seed": 1}, [False, False]),
        ({"data.limit": 100}, [False, False]),
    ],
)
def test_a_key_says_what_a_stage_depends_on(changes: dict[str, Any], same: list[bool]):
    assert [a == b for a, b in zip(keys(), keys(changes), strict=True)][:2] == same


def test_another_device_is_another_key():
    assert not set(keys()) & set(keys(device="cuda")) - {None}


def test_what_depends_on_a_stage_that_is_not_shared_is_not_shared():
    stages = {
        "teacher": {
            "learner": "teacher",
            "objective": {"labels": "cross_entropy"},
            "data": {"select": {"method": "random", "fraction": 0.5}},
        },
        "more": {"learner": "teacher", "objective": {"labels": "cross_entropy"}},
        "warm": {},
        "distil": {},
    }
    assert keys(stages=stages, baseline=False) == [None] * 4
    del stages["teacher"]["data"]
    first, second, third, fourth = keys(stages=stages, baseline=False)
    assert None not in (first, second, third)
    assert len({first, second, third}) == 3
    assert fourth is None


def test_a_chain_of_stages_is_taken_from_the_shelf_bit_by_bit(tmp_path: Path):
    """A student of two stages that begin as it was left; the first of them comes from another run with another second stage."""
    stages = {**STAGED["stages"], "warm": {"train": {"epochs": 1}}, "distil": {"train": {"epochs": 1}}}
    recipe = {**STAGED, "stages": stages}
    other = {**STAGED, "stages": {**stages, "distil": {"train": {"epochs": 1}, "objective": {"logits": None}}}}
    distill(other, out=tmp_path / "other", shared=tmp_path / "shelf", device="cpu")
    assert len(list((tmp_path / "shelf").iterdir())) == 2
    taken = distill(recipe, out=tmp_path / "taken", shared=tmp_path / "shelf", device="cpu")
    alone = distill(recipe, out=tmp_path / "alone", device="cpu")
    assert digest(tmp_path / "taken") == digest(tmp_path / "alone") != digest(tmp_path / "other")
    for model in ("student", "teacher"):
        assert taken.results["models"][model]["metrics"] == alone.results["models"][model]["metrics"]
    assert taken.results["models"]["student"]["flips"] == alone.results["models"]["student"]["flips"]
    assert [(s["name"], s["updates"], s["best"]) for s in taken.results["stages"]] == [
        (s["name"], s["updates"], s["best"]) for s in alone.results["stages"]
    ]
    assert taken.results["adapters"] == alone.results["adapters"]
