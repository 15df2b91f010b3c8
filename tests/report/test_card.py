"""The transparency card has every field, and says what nobody has said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limbeck.report.card import FIELDS, UNMEASURED, UNSAID, card, markdown
from limbeck.run import distill


def content(**changes: Any) -> dict[str, Any]:
    """What a small run leaves."""
    results: dict[str, Any] = {
        "about": {"title": "A small student", "claim": "", "paper": None},
        "data": {"source": "sklearn:digits", "train": 100, "labelled": 10, "valid": 20, "test": 30, "notes": ["a cell was filled in"]},
        "models": {
            "teacher": {"metrics": {"accuracy": 0.97}, "cost": {"parameters": 1000}},
            "student": {"metrics": {"accuracy": 0.91234567}, "cost": {"parameters": 50, "flops": 2e6}},
        },
        "stages": [{"name": "distil", "learner": "student", "updates": 7, "epochs": 1, "seconds": 1.5}],
        "seed": 3,
        "seconds": 2.5,
        "command": "limbeck run mine.yaml",
        "recipe": "mine.yaml",
        "limbeck": "0.1",
    }
    recipe: dict[str, Any] = {
        "data": {"source": "sklearn:digits", "split": {"seed": 3}, "label_fraction": 0.1, "transforms": []},
        "teacher": {"model": "convnet", "weights": "runs/teacher", "args": {"channels": [4]}},
        "student": {"model": "mlp"},
        "objective": {"logits": {"loss": "kd", "temperature": 4.0}},
        "train": {"optimizer": {"name": "adamw"}, "select": "last"},
    }
    for key, value in changes.items():
        where, _, name = key.partition("__")
        {"results": results, "recipe": recipe}[where][name] = value
    return card(results, recipe, {"cores": 2})


def test_every_field_is_there_and_in_order():
    made = content()
    assert list(made) == list(FIELDS)
    text = markdown(made)
    assert [line[3:].lower() for line in text.splitlines() if line.startswith("## ")] == list(FIELDS)
    for question in FIELDS.values():
        assert f"*{question}.*" in text
    assert json.loads(json.dumps(made)) == made


def test_what_is_known_is_told():
    made = content()
    assert made["data"] == {
        "source": "sklearn:digits",
        "licence": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        "train": 100,
        "labelled": 10,
        "valid": 20,
        "test": 30,
    }
    assert made["preparation"] == {"split": {"seed": 3}, "label_fraction": 0.1, "notes": ["a cell was filled in"]}
    assert made["teachers"]["teacher"] == {"model": "convnet", "args": {"channels": [4]}, "weights": "runs/teacher", "parameters": 1000}
    assert made["objective"] == {"distil": {"logits": {"loss": "kd", "temperature": 4.0}}}
    assert made["selection"]["weights"] == "last"
    assert made["results"]["student"] == {"accuracy": 0.91234567}
    assert made["repeat"] == {"command": "limbeck run mine.yaml", "recipe": "mine.yaml", "limbeck": "0.1"}
    text = markdown(made)
    assert "  - accuracy: 0.9123" in text
    assert "- name: distil\n- learner: student" in text.replace("  ", "")


def test_what_nobody_has_said_is_told():
    made = content(recipe__data={"source": "csv:mine.csv"}, recipe__student={}, recipe__train=None)
    assert made["purpose"] == {"title": "A small student", "claim": UNSAID, "paper": UNSAID, "notes": UNSAID}
    assert made["data"]["licence"] == UNSAID
    assert made["student"]["model"] == UNSAID
    assert made["training"]["optimizer"] == UNSAID
    assert made["groups"] == made["cost"]["energy"] == UNMEASURED


def test_groups_and_energy_where_they_were_measured():
    student = {"metrics": {}, "cost": {"energy_j": 3.0}, "fairness": {"column": "sex"}}
    made = content(results__models={"student": student})
    assert made["groups"] == {"student": {"column": "sex"}}
    assert made["cost"]["energy"] == {"student": 3.0}


def test_kinds_of_answers():
    assert content()["answers"] == ["feature: what the teacher says of each example, read during training"]
    assert content(recipe__teacher={"stored": "runs/store"})["answers"] == ["labelling: answers that were written down before"]
    assert content(recipe__teacher={"kind": "ema"})["answers"] == ["self-knowledge: answers of an earlier or averaged student"]
    alone = content(recipe__teacher=None)
    assert alone["answers"] == ["none: the labels alone"]
    assert alone["teachers"] == "none"
    assert "- none" in markdown(alone)
    assert content(recipe__teacher=None, recipe__peers={"wide": {}})["answers"] == [
        "self-knowledge: answers of peers that learn in the same updates"
    ]


def test_what_else_was_checked_and_what_not():
    student = {"metrics": {}, "cost": {}, "robustness": {"mean": 0.5}, "canaries": []}
    made = content(results__models={"student": student})["checks"]
    assert made["robustness to corrupted inputs"] == "measured"
    assert made["exposure of planted secrets"] == UNMEASURED
    assert len(made) == 6
    assert set(content(results__models={})["checks"].values()) == {UNMEASURED}


def test_feedback_and_chosen_examples_are_kinds_of_answers():
    made = content(recipe__stages={"distil": {"train": {"step": {"name": "feedback"}}}}, recipe__data={"source": "x", "select": {"a": 1}})
    assert made["answers"][1:] == ["feedback: the teacher learns from what became of the student", "curation: examples that were chosen"]
    assert content(recipe__teacher={"kind": "mine:Teacher"})["answers"] == [
        "feature: what the teacher says of each example, read during training"
    ]


def test_a_run_leaves_its_card(tmp_path: Path):
    recipe = {
        "task": "classification",
        "data": {"source": "sklearn:digits", "limit": 100},
        "teacher": {"model": "mlp", "args": {"hidden": [8]}, "weights": "random"},
        "student": {"model": "mlp", "args": {"hidden": [4]}},
        "objective": {"logits": "kd"},
        "train": {"steps": 2},
    }
    run = distill(recipe, out=tmp_path / "run", device="cpu").folder
    held = json.loads((run / "card.json").read_text())
    assert list(held) == list(FIELDS)
    assert held["answers"] == ["feature: what the teacher says of each example, read during training"]
    assert held["teachers"]["teacher"]["weights"] == "random"
    assert held["objective"]["distil"]["logits"]["loss"] == "kd"
    assert (
        held["results"]["student"]["accuracy"] == json.loads((run / "results.json").read_text())["models"]["student"]["metrics"]["accuracy"]
    )
    assert (run / "card.md").read_text().startswith("# Transparency card\n")
