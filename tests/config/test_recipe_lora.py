"""What a recipe says of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.assemble import model_request
from limbeck.config.json_schema import recipe_schema
from limbeck.config.load import load_recipe
from limbeck.models.lora import Lora


@pytest.mark.parametrize(
    ("short", "found"),
    [
        (4, Lora(rank=4)),
        ({}, Lora(8, 16.0, 0.0, (), None)),
        ({"targets": "q_proj"}, Lora(targets=("q_proj",))),
        ({"rank": 2, "alpha": 1, "dropout": 0.1, "targets": ["a", "b"], "head": True}, Lora(2, 1.0, 0.1, ("a", "b"), True)),
        (None, None),
    ],
)
def test_forms_of_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: Any, found: Lora | None):
    (tmp_path / "texts.csv").write_text("text,label\na,b\n")
    monkeypatch.chdir(tmp_path)
    model = {"model": "hf:gpt2", "weights": "pretrained", "lora": short}
    recipe = {"task": "text_classification", "data": {"source": "csv:texts.csv"}, "student": model, "teacher": model}
    loaded = load_recipe({**recipe, "objective": {"kd": "kd"}})
    assert loaded.recipe.teacher is not None
    assert model_request(loaded.recipe.student).lora == found
    assert model_request(loaded.recipe.teacher).lora == found


def test_the_schema_admits_the_short_forms():
    definitions = recipe_schema()["$defs"]
    assert {"type": "integer"} in definitions["ModelSpec"]["properties"]["lora"]["anyOf"]
    assert {"type": "string"} in definitions["LoraSpec"]["properties"]["targets"]["anyOf"]
