"""A star in a term: the check shows the pairs, the run learns from them, whatever kind of teacher there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.labelling import Labelling, label
from limbeck.preflight import Preflight, preflight
from tests.runs import distill
from tests.text_models import save_text_model, sentences

DIGITS = {
    "task": "classification",
    "data": {"source": "sklearn:digits", "limit": 200},
    "teacher": {"model": "mlp", "args": {"hidden": [32, 24, 16, 12]}, "weights": "random"},
    "student": {"model": "mlp", "args": {"hidden": [8, 8]}},
    "train": {"steps": 2, "batch_size": 16},
}


def written(folder: Path, recipe: dict[str, Any], **terms: Any) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, "objective": {"labels": "cross_entropy", **terms}}))
    return file


def checked(file: Path) -> Preflight:
    return preflight(load_recipe(file), allow_code=False)


def pairs_of(found: Preflight) -> list[str]:
    assert found.problems == []
    return [fact for fact in found.facts if ": layers " in fact]


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Any]:
    pytest.importorskip("transformers")
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.jsonl").write_text("\n".join(json.dumps({"text": a, "label": b}) for a, b in sentences(40)))
    teacher, student = (
        save_text_model(tmp_path / "teacher", hidden=32, layers=4),
        save_text_model(tmp_path / "student", hidden=16, layers=2),
    )
    return {
        "task": "text_classification",
        "data": {"source": f"jsonl:{tmp_path}", "max_length": 16},
        "teacher": {"model": f"hf:{teacher}", "weights": "pretrained"},
        "student": {"model": f"hf:{student}"},
        "train": {"steps": 2, "batch_size": 8},
    }


def test_the_check_shows_the_pairs(tmp_path):
    states = {"loss": "hidden_states", "student": ["hidden*"]}
    maps = {"uniform": "hidden1 <- hidden2, hidden2 <- hidden4", "skip": "hidden1 <- hidden2", "last": "hidden1 <- hidden3"}
    for name, expected in {**maps, "top": "hidden2 <- hidden4"}.items():
        assert pairs_of(checked(written(tmp_path, DIGITS, h={**states, "layers": name}))) == [f"objective.h: layers {expected}"]
    assert pairs_of(checked(written(tmp_path, DIGITS, h=states))) == [f"objective.h: layers {maps['uniform']}"]
    listed = checked(written(tmp_path, DIGITS, h={**states, "layers": [None, 0]}))
    assert pairs_of(listed) == ["objective.h: layers hidden2 <- hidden1"]


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"layers": [0]}, "objective.h: layers: expected a teacher's layer (or null) for each of the student's 2 layers, found 1."),
        ({"layers": "evenly"}, "objective.h.layers: expected 'uniform', 'skip', 'last' or 'top', found 'evenly'."),
        ({"layers": []}, "objective.h.layers: expected 1 values, found 0."),
        (
            {"loss": "hint"},
            "objective.h: the loss takes one layer, and the star stands for 2. Use layers: top, or a loss on several layers.",
        ),
        (
            {"student": "layer*"},
            "objective.h: tap 'layer*': no layer of the model has such a path, with a number in the place of the star.",
        ),
        (
            {"teacher": "hidden1"},
            "objective.h: student 'hidden*' and teacher 'hidden1': a star stands for layers on both sides or on neither.",
        ),
    ],
)
def test_mistakes_are_found_by_the_check(tmp_path, term, message):
    file = written(tmp_path, DIGITS, h={"loss": "hidden_states", "student": "hidden*", **term})
    try:
        problems = checked(file).problems
    except RecipeError as error:
        problems = error.problems
    assert [problem.message for problem in problems if message in f"{problem.key}: {problem.message}"] or message in str(problems[0])


def test_a_star_of_one_layer_suits_a_loss_on_one(tmp_path):
    hint = {"loss": "hint", "student": "hidden*", "layers": "top"}
    assert pairs_of(checked(written(tmp_path, DIGITS, h=hint))) == ["objective.h: layers hidden2 <- hidden4"]


def test_a_run_learns_from_the_pairs(tmp_path):
    """As the same layers, written by hand."""
    star = distill(written(tmp_path, DIGITS, h={"loss": "hidden_states", "student": "hidden*"}), out=tmp_path / "star", device="cpu")
    by_hand = {"loss": "hidden_states", "student": ["hidden1", "hidden2"], "teacher": ["hidden2", "hidden4"]}
    hand = distill(written(tmp_path, DIGITS, h=by_hand), out=tmp_path / "hand", device="cpu")
    for ours, theirs in zip(star.student.parameters(), hand.student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_average_of_the_student_has_its_layers(tmp_path):
    recipe = {**DIGITS, "teacher": {"kind": "ema"}}
    found = checked(written(tmp_path, recipe, h={"loss": "hidden_states", "student": "hidden*"}))
    assert pairs_of(found) == ["objective.h: layers hidden1 <- hidden1, hidden2 <- hidden2"]
    distill(tmp_path / "recipe.yaml", out=tmp_path / "run", device="cpu")


def test_a_stage_with_a_teacher_of_its_own(tmp_path):
    stages = {"one": {"teacher": {"model": "mlp", "args": {"hidden": [8, 8, 8]}, "weights": "random"}}, "two": {}}
    recipe = {**DIGITS, "stages": stages}
    found = checked(written(tmp_path, recipe, h={"loss": "hidden_states", "student": "hidden*"}))
    assert pairs_of(found) == [
        "stages.one.objective.h: layers hidden1 <- hidden1, hidden2 <- hidden3",
        "stages.two.objective.h: layers hidden1 <- hidden2, hidden2 <- hidden4",
    ]
    distill(tmp_path / "recipe.yaml", out=tmp_path / "run", device="cpu")


def test_a_store_of_the_layers_of_the_map(tmp_path):
    file = written(tmp_path, DIGITS, h={"loss": "hidden_states", "student": "hidden*"})
    manifest = label(file, Labelling(tmp_path / "store", {}), device="cpu")
    assert set(manifest.signals) >= {"hidden2", "hidden4"}
    stored = {"teacher": {"stored": str(tmp_path / "store")}}
    found = preflight(load_recipe(file, set=stored), allow_code=False)
    assert pairs_of(found) == ["objective.h: layers hidden1 <- hidden2, hidden2 <- hidden4"]
    live = distill(file, out=tmp_path / "live", device="cpu")
    read = distill(file, set=stored, out=tmp_path / "read", device="cpu")
    for ours, theirs in zip(live.student.parameters(), read.student.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_encoders_of_transformers(tmp_path, texts):
    terms = {
        "hidden": {"loss": "hidden_states", "student": ["bert.embeddings", "bert.encoder.layer.*"]},
        "attention": {
            "loss": "attention_relation",
            "relation": "pair",
            "heads": 2,
            "student": ["bert.encoder.layer.*.attention.self.query", "bert.encoder.layer.*.attention.self.key"],
            "layers": "top",
        },
    }
    found = checked(written(tmp_path, texts, **terms))
    part = "attention.self"
    assert sorted(pairs_of(found)) == [
        f"objective.attention: layers bert.encoder.layer.1.{part}.query <- bert.encoder.layer.3.{part}.query, "
        f"bert.encoder.layer.1.{part}.key <- bert.encoder.layer.3.{part}.key",
        "objective.hidden: layers bert.embeddings <- bert.embeddings, bert.encoder.layer.0 <- bert.encoder.layer.1, "
        "bert.encoder.layer.1 <- bert.encoder.layer.3",
    ]
    result = distill(tmp_path / "recipe.yaml", out=tmp_path / "run", device="cpu")
    assert all(torch.isfinite(p).all() for p in result.student.parameters())


def test_losses_that_would_count_padding_are_refused(tmp_path, texts):
    (problem,) = checked(written(tmp_path, texts, h={"loss": "cka", "student": "bert.encoder.layer.1"})).problems
    assert problem.message == (
        "student 'bert.encoder.layer.1' has a value for every token, and this loss would count the padding of texts as tokens. Use one "
        "that leaves it out, such as hidden_states or attention_relation, or tap a layer with one vector a text."
    )
    assert checked(written(tmp_path, texts, h={"loss": "rkd", "student": "bert.pooler"})).problems == []
