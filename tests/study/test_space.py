"""The space: what the check accepts for a pair, what it rejects with the reason, and how a pipeline is mended."""

from __future__ import annotations

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
    assert found.adapters["rkd"] == ("auto",)
    assert "linear" in found.adapters["hint"]


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
    space = Space({}, {}, {"hint": ("c > d", "a > b")}, {"hint": ("auto", "linear")})
    assert space.mended(Pipeline("kd", features="hint", taps="x > y", adapter="conv1x1")) == Pipeline("kd", features="hint", taps="c > d")
    fine = Pipeline("kd", features="hint", taps="a > b", adapter="linear")
    assert space.mended(fine) == fine
    assert space.mended(Pipeline("kd", taps="a > b", adapter="linear")) == Pipeline("kd")


@pytest.mark.parametrize(("group", "gone"), [("training", {"rate", "average"}), ("losses", {"logits", "features", "target"})])
def test_fixed_groups_are_no_factors(group: str, gone: set[str]) -> None:
    space = Space({name: Choice(("a",)) for name in ("logits", "features", "target", "rate", "average", "share")}, {})
    assert set(space.factors) - set(space.fixed([group]).factors) == gone
