"""Several data sets with a teacher each: what is trained, judged, resumed, and what the check says."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.engine import loop
from limbeck.errors import DataError, Interrupted, LimbeckError, RecipeError
from limbeck.judge import evaluate
from limbeck.preflight import preflight
from limbeck.tasks.joint import Joint
from limbeck.types import DataInfo, Share
from tests.runs import digest, distill

ROOT = Path(__file__).resolve().parents[1]
MLP = {"model": "mlp", "args": {"hidden": [8]}}


def recipe(**changes: Any) -> dict[str, Any]:
    """Both halves of the digits, the one by class and the other by ink and slant."""
    base: dict[str, Any] = {
        "task": "joint",
        "data": {
            "datasets": {
                "digit": {"source": "sklearn:digits", "labels": "class", "args": {"half": "first"}},
                "stroke": {"source": "sklearn:strokes", "labels": "real", "args": {"half": "second"}},
            },
            "limit": 120,
        },
        "student": MLP,
        "teachers": {"reader": MLP, "ruler": MLP},
        "train": {"steps": 4, "batch_size": 16},
        "stages": {
            "read": {"learner": "reader", "data": {"only": "digit"}, "objective": {"labels": {"loss": "cross_entropy", "only": "digit"}}},
            "rule": {
                "learner": "ruler",
                "data": {"only": ["stroke"]},
                "objective": {"labels": {"loss": "mse", "target": "labels", "only": "stroke"}},
            },
            "distil": {
                "objective": {
                    "digit": {"loss": "cross_entropy", "only": "digit", "weight": 0.2},
                    "digits": {"loss": "kd", "temperature": 1, "only": "digit", "from": "reader", "weight": 0.8},
                    "strokes": {"loss": "mse", "only": "stroke", "from": "ruler", "weight": 0.8},
                }
            },
        },
    }
    for key, value in changes.items():
        place = base
        *path, last = key.split("__")
        for part in path:
            place = place[part]
        place[last] = value
    return copy.deepcopy(base)


def problems(given: dict[str, Any]) -> list[str]:
    try:
        return [str(problem) for problem in preflight(load_recipe(given), allow_code=False).problems]
    except RecipeError as error:
        return [str(problem) for problem in error.problems]


def test_a_run_trains_and_judges_every_data_set(tmp_path):
    assert problems(recipe(baseline=True)) == []
    result = distill(recipe(baseline=True), out=tmp_path / "run", device="cpu", report=True)
    models = result.results["models"]
    assert set(models) == {"reader", "ruler", "alone", "student"}
    student = models["student"]["metrics"]
    assert student["score"] == pytest.approx((student["digit.accuracy"] + student["stroke.r2"]) / 2)
    assert {"score", "digit.nll", "stroke.rmse"} <= student.keys()
    assert {key.partition(".")[0] for key in models["reader"]["metrics"]} == {"digit"}
    assert {key.partition(".")[0] for key in models["ruler"]["metrics"]} == {"stroke"}
    assert [stage["best"]["metric"] for stage in result.results["stages"]] == ["score"] * 4
    assert result.results["data"]["classes"][-2:] == ["stroke: ink", "stroke: slant"]
    assert evaluate(tmp_path / "run", device="cpu") == pytest.approx(student)
    assert "Accuracy (digit)" in result.report.read_text()


def test_a_teacher_learns_its_own_data_set_only(tmp_path):
    """The outputs of the other data set stay as they began, but for weight decay, which there is none of."""
    given = recipe(train={"steps": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}})
    result = distill(given, out=tmp_path / "run", device="cpu")
    assert result.results["stages"][0]["learner"] == "reader"
    frozen = recipe(train={"steps": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.0}})
    first = distill(frozen, out=tmp_path / "frozen", device="cpu")
    tensors = [_weights(folder, "reader") for folder in (tmp_path / "run", tmp_path / "frozen")]
    last = [name for name, value in tensors[0].items() if value.shape[:1] == (12,)]
    assert last
    for name in last:
        assert torch.equal(tensors[0][name][10:], tensors[1][name][10:])
        assert not torch.equal(tensors[0][name][:10], tensors[1][name][:10])
    assert first.results["status"] == "finished"


def _weights(folder: Path, model: str) -> dict[str, torch.Tensor]:
    from limbeck.engine.checkpoint import load_tensors

    found = load_tensors(folder / "checkpoints" / "models.safetensors")
    return {key.removeprefix(f"{model}/"): value for key, value in found.items() if key.startswith(f"{model}/")}


def test_a_run_that_is_stopped_goes_on_to_the_same_student(tmp_path, monkeypatch):
    given = recipe(train={"steps": 6, "batch_size": 16, "checkpoint_every": 2})
    distill(given, out=tmp_path / "whole", device="cpu")
    real, calls = loop.one_update, []

    def dying(*args: Any) -> None:
        calls.append(None)
        if len(calls) == 16:  # within the student's stage
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(loop, "one_update", dying)
    with pytest.raises(Interrupted, match="stopped at once"):
        distill(given, out=tmp_path / "run", device="cpu")
    distill(tmp_path / "run", resume=True, device="cpu")
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_accumulation_makes_the_same_update(tmp_path):
    given = [recipe(train={"steps": 3, "batch_size": 16, "accumulate": n, "optimizer": {"name": "sgd", "lr": 0.1}}) for n in (1, 4)]
    one, four = (distill(own, out=tmp_path / str(i), device="cpu").student for i, own in enumerate(given))
    for a, b in zip(one.parameters(), four.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_metrics_of_every_kind_of_labels():
    shares = {"a": Share(0, "class", 0, 2), "b": Share(1, "real", 2, 3), "c": Share(2, "multilabel", 3, 5)}
    task = Joint().on(DataInfo("tabular", "joint", 5, (3,), shares=shares))
    labels = torch.tensor([[0.0, 1, 0], [0, 0, 0], [1, 2.0, 0], [1, 4.0, 0], [2, 1, 0], [2, 0, 1]])
    logits = torch.tensor([[0.0, 1, 9, 9, 9], [0, 1, 9, 9, 9], [9, 9, 2, 9, 9], [9, 9, 5, 9, 9], [9, 9, 9, 1, -1], [9, 9, 9, -1, 1]])
    found = task.report(logits, labels)
    assert (found["a.accuracy"], found["b.mae"], found["c.map"]) == (0.5, 0.5, 1.0)
    assert found["b.r2"] == pytest.approx(0.5)
    assert found["score"] == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    assert set(found) <= set(task.better)
    assert (task.better["score"], task.better["a.nll"], task.better["b.rmse"], task.better["c.map"]) == (True, False, False, True)
    only = task.report(logits[2:4], labels[2:4])
    assert only.keys() == {"score", "b.rmse", "b.mae", "b.r2"}
    assert only["score"] == only["b.r2"]
    assert torch.equal(task.predictions(logits), logits)
    assert task.agreement(logits, logits, labels) is None
    assert task.example(DataInfo("tabular", "joint", 5, (3,), shares=shares)).labels.shape == (2, 3)
    with pytest.raises(DataError, match="no example to evaluate"):
        task.report(logits[:1], torch.tensor([[0.0, torch.nan, 0]]))


DIGITS = {"source": "sklearn:digits", "labels": "class"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "term without only": (
        {"stages__distil__objective__digit": {"loss": "cross_entropy"}},
        "stages.distil.objective.digit: expected `only` to say for which data set (digit, stroke), found nothing",
    ),
    "unknown data set of a term": (
        {"stages__distil__objective__digit__only": "digits"},
        "stages.distil.objective.digit.only: no data set is called 'digits'. Did you mean 'digit'?",
    ),
    "unknown data set of a stage": ({"stages__read__data__only": "digits"}, "stages.read.data.only[0]: no data set is called 'digits'"),
    "loss for other labels": (
        {"stages__distil__objective__strokes__loss": "kd"},
        "expected a loss for labels of kind 'real', found 'kd', which is for 'class'",
    ),
    "supervised loss for other labels": (
        {"stages__distil__objective__digit__only": "stroke"},
        "expected a loss for labels of kind 'real', found 'cross_entropy'",
    ),
    "one data set": ({"data__datasets": {"digit": DIGITS}}, "data.datasets: expected two or more data sets, found one"),
    "no data set": ({"data": "sklearn:digits"}, "data: expected several data sets for `task: joint`"),
    "another task": ({"task": "classification"}, "data.datasets: expected `task: joint` for several data sets"),
    "both": ({"data__source": "sklearn:digits"}, "data.source: expected either `source` or `datasets`, found both"),
    "unknown labels": ({"data__datasets__digit__labels": "classes"}, "data.datasets.digit.labels: "),
    "unknown source": ({"data__datasets__digit__source": "sklaern:digits"}, "data.datasets.digit.source: "),
    "unknown argument": ({"data__datasets__digit__args": {"haf": "first"}}, "data.datasets.digit.args.haf: "),
    "a name with a dot": ({"data__datasets": {"a.b": DIGITS, "c": DIGITS}}, "expected a name of letters, digits"),
    "classes": ({"data__classes": ["1"]}, "data.classes: 'classes' is for one data set, and these are 2"),
    "mixing": ({"data__mix": "mixup"}, "data.mix: 'mix' is for one data set"),
    "a pool": ({"data__pool": "sklearn:digits"}, "data.pool: 'pool' is for one data set"),
    "groups": ({"data__split": {"group": "block"}}, "data.split.group: 'group' is for one data set"),
    "other data sets in a stage": (
        {"stages__read__data__datasets": {"digit": {"args": {"half": "second"}}}},
        "stages.read.data.datasets: expected the data sets of the whole recipe in every stage",
    ),
    "unknown metric": ({"train__monitor": "digit.acuracy"}, "expected a metric of joint (score, digit.accuracy, "),
    "a quantity of the batch": (
        {"stages__distil__objective__rank": {"loss": "sp", "student": "head", "only": "digit", "from": "reader"}},
        "is for one data set of several",
    ),
    "shapes": ({"data__datasets__stroke": {"source": "sklearn:diabetes", "labels": "real"}}, "data.datasets.stroke: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_check_says_what_is_wrong(name):
    changes, expected = WRONG[name]
    found = problems(recipe(**changes))
    assert any(expected in text for text in found), found


def test_only_without_several_data_sets():
    given = {"task": "classification", "data": {"source": "sklearn:digits", "only": "a"}, "student": MLP}
    given["objective"] = {"labels": {"loss": "cross_entropy", "only": "a"}}
    found = problems(given)
    assert any("`only` is for several data sets; leave it out." in text for text in found), found
    assert any("(`task: joint`); remove this key." in text for text in found), found


def test_a_good_metric_to_watch():
    assert problems(recipe(train={"steps": 2, "monitor": "stroke.rmse"})) == []


def test_alone_needs_labels():
    teachers = {"digits": {"loss": "kd", "only": "digit", "from": "reader"}}
    found = problems(recipe(baseline=True, stages__distil__objective=teachers))
    assert any("no term of it reads the labels of a data set" in text for text in found), found


def test_too_small_an_update_is_refused(tmp_path):
    given = recipe(train={"steps": 2, "batch_size": 2})
    given["data"]["datasets"]["stroke"]["source"] = "sklearn:strokes"
    given["data"]["datasets"]["stroke"]["args"] = {}
    with pytest.raises(LimbeckError, match="cannot hold one of every data set"):
        distill(given, out=tmp_path / "run", device="cpu")


def test_paths_are_found_from_the_recipe(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 2)
    np.savez(tmp_path / "b.npz", x=x, y=x[:, :2])
    given = recipe()
    given["data"] = {"datasets": {"digit": {"source": "npz:a.npz", "labels": "class"}, "stroke": {"source": "npz:b.npz", "labels": "real"}}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(given))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert preflight(load_recipe(tmp_path / "recipe.yaml"), allow_code=False).problems == []
    loaded = load_recipe(tmp_path / "recipe.yaml")
    (tmp_path / "resolved.yaml").write_text(loaded.resolved(tmp_path))
    assert load_recipe(tmp_path / "resolved.yaml").recipe == loaded.recipe
