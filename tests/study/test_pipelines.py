"""A pipeline written into a recipe: what it replaces, what it leaves, and what it is multiplied by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck import assemble
from limbeck.config.load import load_recipe
from limbeck.errors import RunError
from limbeck.study.ground import Ground, ground_of
from limbeck.study.pipeline import Pipeline, Scales, rounded, terms

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:iris", "label_fraction": 0.5},
    "teacher": {"model": "mlp", "args": {"hidden": [16]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "baseline": True,
    "train": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.01}},
    "objective": {"labels": {"loss": "cross_entropy", "weight": 0.3}, "logits": {"loss": "dist", "beta": 2.0}},
    "stages": {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}, "distil": {}},
}


def ground(recipe: dict[str, Any] = RECIPE) -> Ground:
    loaded = load_recipe(recipe)
    return ground_of(loaded, assemble.build_task(loaded.recipe, allow_code=False), allow_code=False)


def test_a_pipeline_takes_the_place_of_the_terms_with_a_teacher(tmp_path: Path) -> None:
    found = ground().recipe(Pipeline("kd", temperature=2.0, share=0.75), tmp_path, seed=4)
    assert found["stages"]["distil"]["objective"] == {
        "labels": {"loss": "cross_entropy", "weight": 0.25, "label_smoothing": 0.0},
        "logits": {"loss": "kd", "temperature": 2.0, "weight": 0.75},
    }
    assert found["stages"]["teacher"] == {"learner": "teacher", "objective": {"labels": {"loss": "cross_entropy"}}}
    assert "objective" not in found
    assert (found["seed"], found["baseline"]) == (4, False)
    again = load_recipe(found).recipe
    assert again.stages["distil"].train == load_recipe(RECIPE).recipe.stages["distil"].train
    assert again.data.label_fraction == 0.5


def test_training_and_augmentation_are_those_of_the_students_stage_only(tmp_path: Path) -> None:
    pipeline = Pipeline("kd", augment="noise", mix="mixup", rate=3.0, average="ema", teacher="ema")
    found = ground().recipe(pipeline, tmp_path)
    loaded = load_recipe(found).recipe
    student, teacher = loaded.stages["distil"], loaded.stages["teacher"]
    assert student.train is not None
    assert teacher.train is not None
    assert student.data is not None
    assert teacher.data is not None
    assert student.train.optimizer.lr == pytest.approx(0.03)
    assert teacher.train.optimizer.lr == 0.01
    assert student.train.ema is not None
    assert teacher.train.ema is None
    assert student.data.transforms == [{"noise": {"std": 0.1}}]
    assert teacher.data.transforms == []
    assert student.data.mix is not None
    assert student.data.mix.kind == "mixup"
    assert teacher.data.mix is None
    assert loaded.teachers["past"].kind == "ema"
    assert student.objective is not None
    assert student.objective["past"].from_ == "past"
    assert student.objective["past"].weight == pytest.approx(0.27)


def test_weights_are_products_of_share_strength_and_scale() -> None:
    pipeline = Pipeline("mse", share=0.5, strength=2.0, features="hint", taps="a > b", pull=0.1, adapter="linear")
    found = terms(pipeline, Scales(logits=0.3, features=40.0), warm=False)
    assert found["logits"] == {"loss": "mse", "weight": pytest.approx(0.3)}
    assert found["features"] == {"loss": "hint", "student": ["a"], "teacher": ["b"], "adapter": "linear", "weight": pytest.approx(2.0)}


def test_several_pairs_of_layers() -> None:
    found = terms(Pipeline("kd", features="reviewkd", taps="a > b + c:input > d:input"), Scales(), warm=True)
    assert found["features"]["student"] == ["a", "c:input"]
    assert found["features"]["teacher"] == ["b", "d:input"]
    assert "adapter" not in found["features"]


def test_three_digits_are_kept() -> None:
    assert [rounded(value) for value in (0.123456, 1234.5, 0.9)] == [0.123, 1230.0, 0.9]


def test_the_recipes_own_terms_are_told_apart() -> None:
    found = ground()
    assert list(found.labels) == ["labels"]
    assert list(found.taught) == ["logits"]
    assert (found.stage, found.primary, found.maximize, found.plain[0]) == ("distil", "accuracy", True, "kd")


def test_a_recipe_without_stages_and_labels_gets_the_usual_ones(tmp_path: Path) -> None:
    own = {
        **{key: RECIPE[key] for key in ("task", "data", "student")},
        "teacher": {"model": "mlp", "weights": "random"},
        "objective": {"logits": {"loss": "kd"}},
    }
    found = ground(own)
    assert found.stage is None
    assert found.labels == {"labels": {"loss": "cross_entropy", "weight": 1.0}}
    assert found.recipe(Pipeline("dkd", share=0.5), tmp_path)["objective"]["labels"]["weight"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "the recipe names no teacher"),
        (
            {"stages": {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}}},
            "no stage of the recipe trains the student",
        ),
    ],
)
def test_what_cannot_be_searched_is_said(change: dict[str, Any], message: str) -> None:
    own = {**RECIPE, **change, "baseline": False}
    if change.get("teacher", 1) is None:
        own = {key: value for key, value in own.items() if key not in ("teacher", "stages")} | {"objective": {"labels": "cross_entropy"}}
    with pytest.raises(RunError, match=message):
        ground(own)
