"""The taxonomy of a survey, and what covers it."""

from __future__ import annotations

import pytest

from limbeck import survey
from limbeck.registry import LOSSES, TEACHERS


def test_every_kind_of_teacher_elicits_something():
    found = {entry.name: entry.parts for entry in survey.elicitations()}
    assert list(found) == ["labelling", "expansion", "curation", "feature", "feedback", "self-knowledge"]
    assert found["labelling"] == {"teachers": ("remote", "stored")}
    assert found["feature"] == {"teachers": ("ensemble", "frozen")}
    assert found["self-knowledge"] == {"teachers": ("adapter_off", "ema", "snapshot")}
    assert found["feedback"] == {"steps": ("feedback",)}
    assert found["expansion"] == {}
    assert "herding" in found["curation"]["selections"]
    assert sorted(name for parts in found.values() for name in parts.get("teachers", ())) == sorted(TEACHERS.files())


def test_every_loss_is_an_algorithm():
    found = {entry.name: entry.parts for entry in survey.algorithms()}
    assert sorted(name for parts in found.values() for name in parts.get("losses", ())) == sorted(LOSSES.files())
    assert found["reinforcement learning"] == found["rank optimisation"] == {}
    for name, loss in (("divergence", "kd"), ("similarity", "hint"), ("similarity", "rkd"), ("supervised fine-tuning", "cross_entropy")):
        assert loss in found[name]["losses"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"objective": {"labels": {"loss": "cross_entropy"}}}, {("labels", "supervised fine-tuning")}),
        (
            {"teacher": {"model": "mlp"}, "objective": {"a": {"loss": "kd"}, "b": {"loss": "hint"}}},
            {("feature", "divergence"), ("feature", "similarity")},
        ),
        (
            {"teacher": {"kind": "ema"}, "stages": {"x": {"objective": {"a": {"loss": "kd"}}}, "y": None}},
            {("self-knowledge", "divergence")},
        ),
        (
            {"teachers": {"t": {"kind": "stored"}}, "objective": {"a": {"loss": "kd", "from": "t"}, "b": None, "c": {"loss": "my:Loss"}}},
            {("labelling", "divergence")},
        ),
        ({"teacher": {"kind": "my:Teacher"}, "objective": {"a": {"loss": "kd"}}}, {("feature", "divergence")}),
        (
            {"data": {"select": {"manifest": "x"}}, "teacher": {"model": "mlp"}, "objective": {"a": {"loss": "kd"}}},
            {("feature", "divergence"), ("curation", "divergence")},
        ),
        (
            {"objective": {"a": {"loss": "cross_entropy"}}, "stages": {"x": {"train": {"step": "feedback"}, "data": {"select": None}}}},
            {("labels", "supervised fine-tuning"), ("feedback", "supervised fine-tuning")},
        ),
        ({}, set()),
    ],
)
def test_what_a_recipe_trains(recipe, expected):
    assert survey.cells(recipe) == expected
