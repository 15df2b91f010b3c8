"""Models that look at another view of the data: in training, in the results, in a store, and in the check."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import RecipeError
from limbeck.export.student import load_student
from limbeck.judge import evaluate
from limbeck.labelling import Labelling, label
from limbeck.preflight import preflight
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from tests.runs import SMALL, digest, distill

DATA: dict[str, Any] = {**SMALL["data"], "transforms": ["noise"], "views": {"clean": {}, "big": {"size": 12}, "half": {"size": 4}}}


def recipe(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "data": DATA, **changes}


def seen(view: str | None, **more: Any) -> dict[str, Any]:
    return {**SMALL["teacher"], "view": view, **more}


def opened(tmp_path: Any, given: dict[str, Any]) -> Session:
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session


def test_a_teacher_is_shown_its_view(tmp_path):
    session = opened(tmp_path, recipe(teacher=seen("clean")))
    train = session.data().train
    batch, plain = train.augmented(1, 0).__getitems__([3, 4]), train.__getitems__([3, 4])
    module = session.models["teacher"].module.eval()
    (teacher,) = session.teachers_of(session.phases[0]).values()
    with torch.no_grad():
        clean = session.task.call(module, session.models["teacher"].normalization, plain).logits
        augmented = session.task.call(module, session.models["teacher"].normalization, batch).logits
    torch.testing.assert_close(teacher.signals(batch).logits, clean)
    assert not torch.allclose(clean, augmented)
    student = session.call("student")(session.models["student"].module, batch).logits
    other = session.call("student", "clean")(session.models["student"].module, batch).logits
    assert not torch.allclose(student, other)


def test_every_model_is_built_and_judged_for_its_view(tmp_path):
    mlp = {"model": "mlp", "args": {"hidden": [8]}}
    given = recipe(teacher={**mlp, "weights": "random", "view": "big"}, student={**mlp, "view": "half"})
    result = distill(given, out=tmp_path / "run")
    student = load_student(tmp_path / "run")
    assert student.info.input_shape == (1, 4, 4)
    assert [p.shape[1] for p in result.student.parameters() if p.ndim == 2] == [16, 8]
    assert evaluate(tmp_path / "run") == result.results["models"]["student"]["metrics"]
    costs = {name: own["cost"]["parameters"] for name, own in result.results["models"].items()}
    assert costs == {"teacher": 144 * 8 + 8 + 90, "student": 16 * 8 + 8 + 90}


def test_an_average_of_the_student_may_see_another_view(tmp_path):
    runs = {}
    for view in (None, "clean"):
        given = recipe(teacher={"kind": "ema", **({"view": view} if view else {})})
        runs[view] = digest(distill(given, out=tmp_path / str(view)).folder)
    assert runs[None] != runs["clean"]


def test_a_store_of_clean_answers_serves_an_augmented_student(tmp_path):
    base = distill(recipe(teacher=None, objective={"labels": "cross_entropy"}), out=tmp_path / "base").folder
    teacher = {**SMALL["student"], "weights": str(base), "view": "clean"}
    label(recipe(teacher=teacher), Labelling(tmp_path / "store", dict([parse_codec("logits=dense:dtype=fp32")])))
    stored = {"stored": str(tmp_path / "store"), "view": "clean"}
    live = distill(recipe(teacher=teacher), out=tmp_path / "live").student
    cached = distill(recipe(teacher=stored), out=tmp_path / "cached").student
    for a, b in zip(live.state_dict().values(), cached.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    with pytest.raises(RecipeError, match="normalisation or augmentation"):
        distill(recipe(teacher={"stored": str(tmp_path / "store")}), out=tmp_path / "other")
    with pytest.raises(RecipeError, match="normalisation or augmentation"):
        distill(recipe(teacher={**stored, "view": "half"}), out=tmp_path / "half")


def problems(**changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(**changes))
    return "\n".join(problem.message for problem in caught.value.problems)


def test_wrong_names_of_views_are_found_by_the_check():
    assert problems(teacher=seen("claen")) == "no view of the data is called 'claen'. Did you mean 'clean'?"
    text = problems(teacher=seen("clean"), data=SMALL["data"])
    assert "no view of the data is called 'clean'" in text
    assert "Name it under data.views, such as `views: {clean: {}}`." in text
    assert "begins with a letter, found 'a.b'" in problems(data={**DATA, "views": {"a.b": {}}})
    assert "no transform is called 'nois'. Did you mean 'noise'" in problems(data={**DATA, "views": {"a": ["nois"]}})
    assert problems(data={**DATA, "views": {"a": {"sise": 3}}}) == "unknown key of view 'a' (got 3). Did you mean 'size'?"
    stages = {"distil": {"data": {"views": {"late": {}}}, "teacher": seen("late")}}
    assert load_recipe(recipe(stages=stages)).recipe.stages["distil"].data.views.keys() == {"clean", "big", "half", "late"}  # pyright: ignore
    ensemble = {"kind": "ensemble", "members": ["a", "b"], "view": "clean"}
    text = problems(
        teacher=None, teachers={"a": seen(None), "b": seen(None), "all": ensemble}, objective={"l": {"loss": "kd", "from": "all"}}
    )
    assert text == "a teacher of kind 'ensemble' sees what its members see. Give `view` to them."


def test_a_list_is_short_for_the_transforms_of_a_view():
    views = load_recipe(recipe(data={**DATA, "views": {"strong": ["noise", {"crop": 1}], "one": "noise"}})).recipe.data.views
    assert (views["strong"].transforms, views["one"].transforms) == (["noise", {"crop": 1}], ["noise"])


def test_the_check_knows_the_shape_of_a_view():
    table = {"source": "sklearn:wine", "views": {"few": {"columns": ["alcohol"]}, "wrong": {"columns": ["alcool"]}}}
    given = {**SMALL, "data": table, "student": {"model": "mlp"}, "teacher": {"model": "mlp", "weights": "random"}}
    (problem,) = preflight(load_recipe(given), allow_code=False).problems
    assert problem.key == "data.views.wrong.columns"
    assert "Did you mean 'alcohol'?" in problem.message
    del table["views"]["wrong"]  # pyright: ignore
    given["student"] = {"model": "mlp", "view": "few", "args": {"hidden": [4]}}
    checked = preflight(load_recipe(given), allow_code=False)
    assert checked.problems == []
    assert f"student: mlp, {4 + 4 + 15} parameters" in checked.facts
