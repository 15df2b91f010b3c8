"""Runs with losses that ask for classifiers, rotated images and the index of each example, and keep what they learn of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from limbeck.engine.checkpoint import latest, load
from limbeck.errors import RecipeError
from tests.engine.test_doors import ROOT, _killed_is_whole, _last
from tests.processes import pair
from tests.runs import PLAIN, SMALL, distill

BANK: dict[str, Any] = {
    **SMALL,
    "student": PLAIN,
    "teacher": {"model": "mlp", "args": {"hidden": [24]}, "weights": "random"},
    "objective": {"labels": "cross_entropy", "bank": {"loss": "tests.engine.asking:Bank"}},
    "train": {**SMALL["train"], "epochs": 3, "optimizer": {"name": "sgd", "lr": 0.05}, "checkpoint_every": 2},
}


def state(run: Path) -> dict[str, torch.Tensor]:
    newest = latest(run / "checkpoints")
    assert newest is not None
    groups, _ = load(newest)
    return {f"{group}/{name}": value for group, own in groups.items() for name, value in own.items()}


def test_a_bank_has_a_row_for_every_example_and_learns(tmp_path: Path) -> None:
    run = distill(BANK, set={"train.steps": 2, "train.epochs": 1}, out=tmp_path / "run", device="cpu").folder
    past, scale = (next(value for name, value in state(run).items() if name.endswith(end)) for end in ("bank.past", "bank.scale"))
    touched = (past != 0.1).any(-1)
    assert past.shape[1] == 10
    assert past.shape[0] >= touched.sum() == 64
    torch.testing.assert_close(past.sum(-1), torch.ones(len(past)))
    assert not torch.equal(scale, torch.ones(10)), "parameters of a loss are trained"

    assert not any("past" in name or "scale" in name for name in load_file(run / "student" / "model.safetensors"))


def test_classifiers_and_rotated_views_reach_the_loss(tmp_path: Path) -> None:
    """The loss checks them itself, of the learner and of the frozen teacher, whose batch normalisations may be folded."""
    objective = {"labels": "cross_entropy", "own": {"loss": "tests.engine.asking:Classifiers", "student": "head:input"}}
    plain = {"student": {"model": "convnet", "args": {"channels": [4, 8]}}}
    for fold in (True, False):
        recipe = {**SMALL, **plain, "objective": objective, "teacher": {**SMALL["teacher"], "fold": fold}}
        run = distill(recipe, set={"train.steps": 2, "train.epochs": 1}, out=tmp_path / f"run{fold}", device="cpu")
        assert run.results["stages"][0]["name"] == "distil"


def test_a_loss_on_layers_and_logits_has_both(tmp_path: Path) -> None:
    """Where the only term names an early layer, the forward goes on to the logits that it reads as well."""
    objective = {"own": {"loss": "tests.engine.asking:LayerAndLogits", "student": "stage1", "teacher": "stage1"}}
    wanted = {**SMALL, "objective": objective, "train": {**SMALL["train"], "log_every": 1}}
    distill(wanted, set={"train.steps": 2, "train.epochs": 1}, out=tmp_path / "run", device="cpu")
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    own = [line["values"]["own"] for line in logged if line["kind"] == "train"]
    assert len(own) == 2
    assert all(value > 0 for value in own)


@pytest.mark.slow
def test_a_bank_survives_a_kill(tmp_path: Path) -> None:
    _killed_is_whole(tmp_path, BANK, 4)
    kept = _last(tmp_path / "run")
    assert any(name.endswith("bank.past") for name in kept), list(kept)


@pytest.mark.slow
def test_a_bank_spans_two_processes(tmp_path: Path) -> None:
    """Indices are gathered with the signals, so both processes write the same rows as one process does."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(BANK, sort_keys=False))
    one = distill(BANK, out=tmp_path / "one", device="cpu")
    done = pair("run", "recipe.yaml", "--out", "two", "--device", "cpu", "--allow-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    mine, theirs = _last(one.folder), _last(tmp_path / "two")
    names = [name for name in mine if "bank" in name]
    assert len(names) >= 2
    for name in names:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_a_mask_that_the_data_do_not_give_ends_before_the_run(tmp_path: Path) -> None:
    recipe = {**SMALL, "objective": {"labels": "cross_entropy", "dense": {"loss": "tests.engine.asking:Masked"}}}
    with pytest.raises(RecipeError, match=r"objective\.dense: .*a loss needs the signal 'mask', which the data do not give"):
        distill(recipe, out=tmp_path / "run", device="cpu")
