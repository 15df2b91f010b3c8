"""The shipped studies: every arm fits its recipe, every claim names what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from limbeck.config.load import load_recipe
from limbeck.study.arms import arms_of
from limbeck.study.claims import parse
from limbeck.study.judging import claim_problems, task_of
from tests.coloured import coloured

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
STUDIES = sorted((RECIPES / "studies").glob("*.yaml"))
TABLE = [
    *("kd", "fitnet", "at", "sp", "cc", "vid", "rkd", "pkt", "ab", "ft", "fsp", "nst", "crd", "dkd", "ctkd", "mlkd"),
    *("kd_ls", "dkd_ls", "mlkd_ls"),
]
"""The rows of the CIFAR-100 table."""
PAIRS = sorted((RECIPES / "cifar100").glob("*.yaml"))
ALIKE = {"vgg13_vgg8", "res32x4_res8x4", "res56_res20", "res110_res20", "res110_res32", "wrn40_2_wrn16_2", "wrn40_2_wrn40_1"}
"""Pairs of one family."""


def checked(path: Path, given: Mapping[str, Any] | None = None) -> list[str]:
    """The arms of a study that has no fault."""
    loaded = load_recipe(path, set=given or {})
    found = arms_of(loaded, given or {})
    assert found.problems == []
    assert claim_problems(loaded, found.found, task_of(loaded)) == []
    return [arm.name for arm in found.found]


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_arms_and_claims_of_shipped_studies(path: Path):
    study = load_recipe(path).recipe.study
    assert study is not None
    assert len(checked(path)) >= 2
    assert len(study.claims) >= 2


def test_one_file_of_forty_lines_compares_a_dozen_losses_on_one_pair():
    path = RECIPES / "studies" / "losses.yaml"
    assert len(path.read_text().splitlines()) <= 40
    study = load_recipe(path).recipe.study
    assert study is not None
    assert len(study.arms) == 13
    claimed = {name.arm for text in study.claims for name in parse(text).names()}
    assert claimed <= {*study.arms, "*"}


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_the_columns_of_the_cifar_table_have_all_rows(path: Path):
    """But for the flow between layers, which the collections have for networks of one family only."""
    study = load_recipe(path).recipe.study
    assert study is not None
    assert list(study.arms) == [row for row in TABLE if row != "fsp" or path.stem in ALIKE]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair",
    ["res56_res20", "wrn40_2_wrn16_2", "vgg13_vgg8", "resnet50_mobilenetv2", "res32x4_shufflenetv2"],
)
def test_the_arms_of_a_column_of_the_cifar_table_fit_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: str):
    path = RECIPES / "cifar100" / f"{pair}.yaml"
    arms = checked(path, {"data.args.root": coloured(tmp_path, path, monkeypatch)["data.args.root"]})
    assert arms == [row for row in TABLE if row != "fsp" or pair in ALIKE]


def test_a_cell_of_the_cifar_table_is_one_command():
    """`limbeck run PAIR --set extends=METHOD`."""
    method = RECIPES / "cifar100" / "base" / "dkd.yaml"
    recipe = load_recipe(RECIPES / "cifar100" / "res56_res20.yaml", set={"extends": str(method)}).recipe
    terms = recipe.objective
    assert {label: term.loss for label, term in terms.items()} == {"labels": "cross_entropy", "logits": "dkd"}
    assert terms["labels"].weight == 1
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.select) == (240, 64, "last")
    assert recipe.train.schedule.milestones == [0.625, 0.75, 0.875]
    assert sorted(path.stem for path in method.parent.glob("*.yaml")) == sorted([*TABLE, "table", "vid_four"])


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_boundaries_of_the_cifar_table_are_weighted_as_published(path: Path):
    """The paper's sum over all elements is some hundred times larger, and the learning rates of the table do not go with it."""
    recipe = load_recipe(path, set={"extends": str(path.parent / "base" / "ab.yaml")}).recipe
    boundaries, answers = (recipe.stages[name].objective or {} for name in ("boundaries", "answers"))
    assert boundaries["boundaries"].loss == "ab"
    assert boundaries["boundaries"].options["variant"] == "zoo"
    assert {label: term.weight for label, term in answers.items()} == {"labels": 1}
    assert "distil" not in recipe.stages
