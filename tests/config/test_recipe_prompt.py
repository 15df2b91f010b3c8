"""What a recipe says of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.assemble import located, model_request
from limbeck.config.json_schema import recipe_schema
from limbeck.config.load import load_recipe
from limbeck.models.prompt import Prompt


@pytest.mark.parametrize(
    ("short", "found"),
    [
        (4, Prompt(length=4)),
        ({}, Prompt(20, "prefix", 0.0, 1.0, None, None)),
        ({"length": 3, "kind": "prefix", "dropout": 0.1, "spread": 0.5, "head": False}, Prompt(3, "prefix", 0.1, 0.5, False, None)),
        (None, None),
    ],
)
def test_forms_of_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Any, found: Prompt | None):
    (tmp_path / "texts.csv").write_text("text,label\na,b\n")
    monkeypatch.chdir(tmp_path)
    model = {"model": "hf:gpt2", "weights": "pretrained", "prompt": short}
    recipe = {"task": "text_classification", "data": {"source": "csv:texts.csv"}, "student": model, "teacher": model}
    loaded = load_recipe({**recipe, "objective": {"kd": "kd"}})
    assert loaded.recipe.teacher is not None
    assert model_request(loaded.recipe.student).prompt == found
    assert model_request(loaded.recipe.teacher).prompt == found


def test_the_prompt_of_a_run_is_found_from_the_recipe(tmp_path: Path):
    (tmp_path / "texts.csv").write_text("text,label\na,b\n")
    (tmp_path / "source.safetensors").write_bytes(b"")
    (tmp_path / "r.yaml").write_text(
        "task: text_classification\ndata: csv:texts.csv\n"
        "student: {model: hf:gpt2, weights: pretrained, prompt: {weights: source.safetensors}}\n"
        "objective: {labels: cross_entropy}\n"
    )
    prompt = located(load_recipe(tmp_path / "r.yaml")).student.prompt
    assert prompt is not None
    assert prompt.weights == str(tmp_path / "source.safetensors")


def test_the_schema_admits_the_short_form():
    definitions = recipe_schema()["$defs"]
    for model in ("ModelSpec", "TeacherSpec", "PlayerSpec"):
        assert {"type": "integer"} in definitions[model]["properties"]["prompt"]["anyOf"]
