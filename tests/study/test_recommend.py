"""A search from beginning to end, on real flowers with tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from limbeck.cli.main import main
from limbeck.config.load import load_recipe
from limbeck.errors import RunError, UnknownName
from limbeck.evidence import place
from limbeck.study.meta import read_evidence
from limbeck.study.recommend import recommend
from limbeck.study.wish import Wish

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:iris", "label_fraction": 0.3},
    "teacher": {"model": "mlp", "args": {"hidden": [16]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "train": {"epochs": 2, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.02}},
    "stages": {
        "teacher": {"learner": "teacher", "data": {"label_fraction": 1.0}, "objective": {"labels": "cross_entropy"}},
        "distil": {"objective": {"labels": "cross_entropy", "logits": "kd"}},
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A search of four trials."""
    folder = tmp_path_factory.mktemp("search") / "out"
    said: list[str] = []
    result = recommend(RECIPE, Wish(out=folder, budget=200.0, trials=4), say=said.append)
    return folder, dict(result.contents), said


@pytest.mark.slow
def test_what_is_left_behind(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, contents, _ = found
    assert json.loads((folder / "recommendation.json").read_text()) == contents
    assert contents["trials"][0]["role"] == "plain"
    assert len(contents["trials"]) == 4
    assert any(item["role"] == "plain" for item in contents["finalists"])
    assert contents["seconds"] < 200
    best = max(contents["finalists"], key=lambda item: item["mean"])
    assert best["mean"] == contents["finalists"][0]["mean"]
    assert contents["chosen"]["summary"] in {item["summary"] for item in contents["finalists"] if item["mean"] == best["mean"]}


@pytest.mark.slow
def test_the_recommended_recipe_is_valid_and_says_why(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, contents, _ = found
    text = (folder / "recipe.yaml").read_text()
    assert text.startswith("# Recommended for the recipe: ")
    recipe = load_recipe(folder / "recipe.yaml").recipe
    assert recipe.stages["distil"].objective is not None
    assert recipe.stages["distil"].objective["logits"].loss == contents["chosen"]["pipeline"]["logits"]
    assert recipe.stages["teacher"] == load_recipe(RECIPE).recipe.stages["teacher"]
    assert "recommended" in (folder / "report.html").read_text().lower()


@pytest.mark.slow
def test_the_comparison_is_with_plain_distillation_and_with_none(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    tested = found[1]["test"]
    assert set(tested["arms"]) >= {"recommended", "alone"}
    assert all(seed >= 1000 for seed in tested["seeds"])
    for difference in tested["differences"]:
        other = tested["arms"][difference["than"]]["accuracy"]
        gains = [a - b for a, b in zip(tested["arms"]["recommended"]["accuracy"], other, strict=True)]
        assert difference["mean"] == pytest.approx(sum(gains) / len(gains))


@pytest.mark.slow
def test_a_finished_search_is_shown_again(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, contents, _ = found
    said: list[str] = []
    assert recommend(RECIPE, Wish(out=folder, resume=True), say=said.append).contents == contents
    assert said == [f"{folder}: this search is finished; its result is shown as it is."]
    with pytest.raises(RunError, match=r"holds a search already\. Add --resume"):
        recommend(RECIPE, Wish(out=folder))
    with pytest.raises(RunError, match="the search was begun with another recipe"):
        recommend({**RECIPE, "seed": 5}, Wish(out=folder, resume=True))


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no search was begun there"):
        recommend(RECIPE, Wish(out=tmp_path / "x", resume=True))


def test_a_group_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"no group of factors is called 'trainin'|Did you mean 'training'"):
        recommend(RECIPE, Wish(fix=("trainin",)))


def test_without_a_validation_split(tmp_path: Path) -> None:
    own = {**RECIPE, "data": {**RECIPE["data"], "split": {"valid": 0.0}}}
    with pytest.raises(RunError, match=r"these data have none. Set `data.split.valid`"):
        recommend(own, Wish(out=tmp_path / "x"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "soon"], "expected a time such as 30m, 90s or 1h30m, found 'soon'"),
        (["--trials", "0"], "--trials: expected a number of 1 or more, found 0"),
        (["--evidence", "/no/such"], "--evidence: there is no folder '/no/such'"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "recipe.yaml", *words]) == 2
    assert message in capsys.readouterr().err


def test_evidence_of_ones_own_comes_before_that_of_limbeck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from a checkout a search still learns from what comes with the package."""
    wishes: list[Wish] = []

    def stop(recipe: Any, wish: Wish, **_: Any) -> None:
        wishes.append(wish)
        raise RunError("enough")

    monkeypatch.setattr("limbeck.study.recommend.recommend", stop)
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", "recipe.yaml"]) != 0
    (tmp_path / "evidence").mkdir()
    assert main(["recommend", "recipe.yaml"]) != 0
    (tmp_path / "mine").mkdir()
    assert main(["recommend", "recipe.yaml", "--evidence", "mine"]) != 0
    assert [wish.evidence for wish in wishes] == [place(), Path("evidence"), Path("mine")]
    assert len(read_evidence(place())) > 100
