"""Students made from their teacher, and what of a model is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.assemble import model_request
from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.models.shrink import Shrink

TEACHER = {"model": "hf:gpt2", "weights": "pretrained", "args": {"attn_pdrop": 0.0}, "prefix": {"a": "b"}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data lie beside the recipe."""
    (tmp_path / "texts.csv").write_text("text,label\na,b\n")
    monkeypatch.chdir(tmp_path)


def recipe(student: Any, teacher: Any = TEACHER) -> dict[str, Any]:
    """A recipe of texts."""
    return {
        "task": "text_classification",
        "data": {"source": "csv:texts.csv"},
        "student": student,
        **({"teacher": teacher} if teacher is not None else {}),
        "objective": {"kd": "kd"},
    }


def test_a_student_from_its_teacher_has_the_same_model_and_weights():
    found = load_recipe(recipe({"from": "teacher", "shrink": "even", "gradient_checkpointing": True})).recipe
    assert found.student.model_dump() == {
        **load_recipe(recipe(TEACHER)).recipe.student.model_dump(),
        "shrink": {"layers": "even", "count": None, "keep": [], "hidden": None, "intermediate": None, "heads": None},
        "gradient_checkpointing": True,
    }
    assert found.teacher is not None
    assert found.teacher.shrink is None


def test_what_the_student_says_itself_is_kept():
    found = load_recipe(recipe({"from": "teacher", "args": {"n_layer": 3}})).recipe
    assert (found.student.args, found.student.weights) == ({"n_layer": 3}, "pretrained")


def test_the_resolved_recipe_writes_it_out():
    text = load_recipe(recipe({"from": "teacher", "shrink": 3})).resolved()
    assert "from:" not in text
    assert "count: 3" in text


@pytest.mark.parametrize(
    ("short", "found"),
    [
        ("odd", Shrink("odd")),
        (4, Shrink("uniform", 4)),
        ([0, 2], Shrink(keep=(0, 2))),
        ({"layers": "last", "count": 2, "heads": 3}, Shrink("last", 2, heads=3)),
        ({"hidden": 8, "intermediate": 9}, Shrink(hidden=8, intermediate=9)),
    ],
)
def test_forms_of_shrink(short: Any, found: Shrink):
    loaded = load_recipe(recipe({**TEACHER, "shrink": short}, {**TEACHER, "shrink": short})).recipe
    assert model_request(loaded.student).shrink == found
    assert loaded.teacher is not None
    assert model_request(loaded.teacher).shrink == found


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({"from": "techer"}, TEACHER, "expected 'teacher', whose model and weights the student begins with, found 'techer'"),
        ({"from": "teacher"}, None, "the recipe has no teacher with a model of its own to begin from"),
        ({"from": "teacher"}, {"stored": "runs/store"}, "the recipe has no teacher with a model of its own to begin from"),
        ({"from": "teacher"}, {"model": "hf:gpt2", "weights": "random"}, "the teacher has no weights to begin from"),
        ({"from": "teacher"}, "hf:gpt2", "the teacher has no weights to begin from"),
        ({**TEACHER, "shrink": "evn"}, TEACHER, "student.shrink.layers"),
    ],
)
def test_students_that_cannot_begin_so(student: Any, teacher: Any, message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe(student, teacher))


def test_types_of_weights():
    loaded = load_recipe(recipe({"from": "teacher"})).recipe
    assert loaded.teacher is not None
    assert (model_request(loaded.student).dtype, model_request(loaded.teacher).dtype) == ("fp32", "auto")
    loaded = load_recipe(recipe({"from": "teacher", "dtype": "bf16"}, {**TEACHER, "dtype": "fp16"})).recipe
    assert loaded.teacher is not None
    assert (model_request(loaded.student).dtype, model_request(loaded.teacher).dtype) == ("bf16", "fp16")
