"""What is said of parts of the texts: prompts and answers, each by itself, and what claims may say of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.study.conduct import Wish, plan
from tests.language_runs import recipe
from tests.runs import distill


def both(folder: Path, **more: Any) -> dict[str, Any]:
    given = recipe(folder, **more)
    given["data"]["train_on"] = "all"
    return given


def problems(given: dict[str, Any], claim: str) -> list[str]:
    try:
        plan(load_recipe({**given, "study": {"claims": claim}}), Wish(device="cpu"))
    except RecipeError as error:
        return [problem.message for problem in error.problems]
    return []


def test_answers_and_prompts_are_judged_apart(tmp_path: Path):
    models = distill(both(tmp_path, evaluate={"generations": 0}), out=tmp_path / "run", device="cpu").results["models"]
    for model in ("student", "teacher"):
        found = models[model]["metrics"]
        logs = [math.log(found[name]) for name in ("answers.perplexity", "prompts.perplexity")]
        # Every text has two trained tokens of the prompt and four of the answer, with that of its end.
        assert (4 * logs[0] + 2 * logs[1]) / 6 == pytest.approx(found["nll"], rel=1e-6)


def test_where_only_answers_are_trained_there_are_no_parts(tmp_path: Path):
    done = distill(recipe(tmp_path, evaluate={"generations": 0}), out=tmp_path / "run", device="cpu")
    assert not [name for name in done.results["models"]["student"]["metrics"] if "." in name]


def test_claims_know_of_parts_domains_and_models_that_answer_together(tmp_path: Path):
    assert problems(both(tmp_path), "distilled.prompts.perplexity < teacher.answers.perplexity") == []
    assert (
        "no metric or model of the arm 'distilled' is called 'prompts'" in problems(recipe(tmp_path), "distilled.prompts.perplexity < 9")[0]
    )
    fused = {"fused": {"moved": {"large": "teacher", "experts": {"student": "teacher"}}}}
    assert problems(recipe(tmp_path, evaluate=fused), "moved.nll < teacher.nll") == []
    assert "no arm or model of this study is called 'moved'" in problems(recipe(tmp_path), "moved.nll < teacher.nll")[0]
