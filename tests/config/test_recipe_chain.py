"""A chain of teachers: names that are wrong anywhere in it are found by the check, with the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.cli.main import main
from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError
from limbeck.preflight import preflight

CHAIN = Path(__file__).resolve().parents[2] / "recipes" / "classification" / "assistant.yaml"

WRONG = {
    "stages.assistant.learner=asistant": (
        "stages.assistant.learner",
        "no model of this recipe is called 'asistant'. Did you mean 'assistant'?",
    ),
    "stages.assistant.objective.logits.from=techer": (
        "stages.assistant.objective.logits.from",
        "no teacher is called 'techer'. Did you mean 'teacher'?",
    ),
    "stages.distil.objective.logits.from=assistent": (
        "stages.distil.objective.logits.from",
        "no teacher is called 'assistent'. Did you mean 'assistant'?",
    ),
}


def test_the_chain_itself_is_fine():
    found = preflight(load_recipe(CHAIN), allow_code=False)
    assert found.problems == []
    for stage, line in zip(("teacher", "assistant", "alone", "distil"), found.plan, strict=True):
        assert line.startswith(f"stage {stage}"), line


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_name_is_told_with_the_one_that_was_meant(change: str):
    with pytest.raises(RecipeError) as caught:
        load_recipe(CHAIN, set=[change])
    assert [(problem.key, problem.message) for problem in caught.value.problems] == [WRONG[change]]


def test_a_link_that_nobody_trains_is_told(capsys: pytest.CaptureFixture[str]):
    """Without its stage, the assistant has random weights; `limbeck check` says so and how to mend it."""
    assert main(["check", str(CHAIN), "--set", "stages.assistant=null"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "teachers.assistant" in said
    assert "has nothing to teach. Give `weights`, add a stage with `learner: assistant`" in said
