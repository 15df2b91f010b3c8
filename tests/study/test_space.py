"""The space: what the check accepts for a pair, what it rejects with the reason, and how a pipeline is mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limbeck import assemble
from limbeck.config.load import load_recipe
from limbeck.data.load import data_info
from limbeck.models.builtin.convnet import ConvNet
from limbeck.models.builtin.mlp import MLP
from limbeck.study.ground import ground_of
from limbeck.study.pipeline import Pipeline
from limbeck.study.space import Choice, Space, find_space, tap_pairs
from tests.language_data import WORDS, save_tokenizer, write_jsonl

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:iris"},
    "teacher": {"model": "mlp", "weights": "random", "args": {"hidden": [16, 8]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "objective": {"labels": "cross_entropy", "logits": "kd"},
}


def space_of(recipe: dict[str, Any], logits: int, features: int) -> Space:
    loaded = load_recipe(recipe)
    task = assemble.build_task(loaded.recipe, allow_code=False)
    request = assemble.data_request(loaded.recipe.data, loaded.recipe)
    info = data_info(request, kind=task.data_kind, labels=task.labels, language=None, allow_code=False)
    return find_space(ground_of(loaded, task, allow_code=False), info, logits=logits, features=features, allow_code=False)


def options(space: Space, name: str) -> tuple[str, ...]:
    factor = space.factors[name]
    assert isinstance(factor, Choice)
    return factor.options


def test_of_a_table() -> None:
    found = space_of(RECIPE, 3, 5)
    assert options(found, "logits") == ("kd", "dkd", "dist")
    assert options(found, "features") == ("none", "rkd", "hint", "sp", "srd")  # `at` needs maps
    assert "needs maps" in found.rejected["at"]
    assert options(found, "augment") == ("given", "noise")
    assert options(found, "mix") == ("given", "mixup")
    assert all(found.adapters[f"rkd@{taps}"] == ("auto",) for taps in found.layers["rkd"])
    assert all("linear" in found.adapters[f"hint@{taps}"] for taps in found.layers["hint"])


def test_of_texts(tmp_path: Path) -> None:
    """Where layers that cannot be tapped would hide that the losses on others do not fit either."""
    texts = [{"text": " ".join(WORDS[(i + j) % 40] for j in range(6)), "label": i % 3} for i in range(60)]
    sizes = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
    own = {
        **RECIPE,
        "task": "text_classification",
        "data": {"source": write_jsonl(tmp_path / "texts.jsonl", texts), "tokenizer": save_tokenizer(tmp_path / "words"), "max_length": 8},
        "teacher": {"model": "hf:bert", "weights": "random", "args": {**sizes, "hidden_size": 16, "num_hidden_layers": 2}},
        "student": {"model": "hf:bert", "args": {**sizes, "hidden_size": 8, "num_hidden_layers": 1}},
    }
    found = space_of(own, 2, 7)
    assert found.layers["hidden_states"][0].startswith("bert.embeddings > bert.embeddings + bert.encoder.layer.0 > bert.encoder.layer.1")
    assert "at" not in found.layers  # needs maps
    assert found.adapters["hint@head:input > head:input"] == ("auto", "linear", "vector")
    assert found.adapters["hint@bert.encoder.layer.0 > bert.encoder.layer.1"] == ("auto", "linear")
    assert not any("classifier" in taps for own in found.layers.values() for taps in own)  # what it says are the logits


def test_of_numbers() -> None:
    own = {
        **RECIPE,
        "task": "regression",
        "data": {"source": "sklearn:diabetes"},
        "objective": {"labels": {"loss": "mse", "target": "labels"}, "logits": "mse"},
    }
    found = space_of(own, 2, 0)
    assert options(found, "logits")[0] == "mse"
    assert "kd" not in options(found, "logits")
    assert not {"features", "taps", "target", "temperature"} & set(found.factors)


def test_layers_that_lie_equally_deep() -> None:
    with torch.device("meta"):
        pair = [ConvNet(num_outputs=3, input_shape=(1, 8, 8), channels=c) for c in ((4, 8), (8, 16, 32))]
        tables = [MLP(num_outputs=3, input_shape=(4,), hidden=h) for h in ((4,), (8, 8))]
        bare = nn.Sequential(nn.ReLU())
    assert tap_pairs(*pair) == ["stage1 > stage1", "stage2 > stage2", "head:input > head:input"]
    assert tap_pairs(*tables) == ["hidden1 > hidden2", "head:input > head:input"]
    assert tap_pairs(bare, bare) == []


def test_a_pipeline_is_mended() -> None:
    space = Space({}, {}, {"hint": ("c > d", "a > b")}, {"hint@a > b": ("auto", "linear"), "hint@c > d": ("auto", "vector")})
    assert space.mended(Pipeline("kd", features="hint", taps="x > y", adapter="conv1x1")) == Pipeline("kd", features="hint", taps="c > d")
    fine = Pipeline("kd", features="hint", taps="a > b", adapter="linear")
    assert space.mended(fine) == fine
    assert space.mended(replace(fine, taps="c > d")).adapter == "auto"  # which the other pair of layers takes
    assert space.mended(Pipeline("kd", taps="a > b", adapter="linear")) == Pipeline("kd")


@pytest.mark.parametrize(("group", "gone"), [("training", {"rate", "average"}), ("losses", {"logits", "features", "target"})])
def test_fixed_groups_are_no_factors(group: str, gone: set[str]) -> None:
    space = Space({name: Choice(("a",)) for name in ("logits", "features", "target", "rate", "average", "share")}, {})
    assert set(space.factors) - set(space.fixed([group]).factors) == gone
