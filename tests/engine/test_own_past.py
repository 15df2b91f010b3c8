"""A student that is taught by its own past: what it said of every example survives a kill and spans two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.engine.test_doors import _killed_is_whole, _last
from tests.engine.test_resume import lines
from tests.processes import pair
from tests.runs import SMALL, distill

PAST: dict[str, Any] = {
    **SMALL,
    "data": {**SMALL["data"], "label_fraction": 0.5, "transforms": [{"noise": {"std": 0.1}}]},
    "student": {"model": "mlp", "args": {"hidden": [16], "dropout": 0.2}},
    "objective": {"own_past": {"loss": "ps_kd", "alpha": {"schedule": "linear", "start": 0, "end": 0.8}}},
    "train": {**SMALL["train"], "epochs": 5, "log_every": 1, "checkpoint_every": 3},
}
TABLE = ("losses.own_past.past", "losses.own_past.seen")


def table(run: Path) -> list[torch.Tensor]:
    """The predictions of every example, and which examples were seen."""
    kept = _last(run)
    return [next(value for name, value in kept.items() if name.endswith(own)) for own in TABLE]


def past_only(values: list[dict[str, Any]]) -> list[float]:
    return [line["values"]["own_past"] for line in values if line["kind"] == "train"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [9, 20])
def test_a_run_that_is_killed_goes_on_with_its_table(tmp_path: Path, count: int) -> None:
    """Killed in the second epoch, when the table is half new, and in the middle: weights, table and every logged loss are the same."""
    _killed_is_whole(tmp_path, PAST, count)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    past, seen = table(tmp_path / "run")
    assert seen.all()
    torch.testing.assert_close(past.sum(1), torch.ones(len(past)))


def test_the_table_teaches(tmp_path: Path) -> None:
    """Without a share of the past the same run goes another way from the second epoch on, and not before."""
    still = {"own_past": {"loss": "ps_kd", "alpha": 0.0}}
    one = distill({**PAST, "train": {**PAST["train"], "epochs": 2}}, out=tmp_path / "one", device="cpu")
    two = distill({**PAST, "objective": still, "train": {**PAST["train"], "epochs": 2}}, out=tmp_path / "two", device="cpu")
    mine, theirs = past_only(lines(one.folder)), past_only(lines(two.folder))
    half = len(mine) // 2
    assert mine[:half] == theirs[:half]
    assert mine[half:] != theirs[half:]


@pytest.mark.slow
def test_two_processes_keep_one_table(tmp_path: Path) -> None:
    """Rows and predictions are gathered, so both processes hold the table of one process, with every example of both."""
    recipe = {
        **PAST,
        "data": {**SMALL["data"], "label_fraction": 0.5},
        "student": {"model": "mlp", "args": {"hidden": [16]}},
        "train": {**PAST["train"], "optimizer": {"name": "sgd", "lr": 0.05}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    one = distill(recipe, out=tmp_path / "one", device="cpu")
    done = pair("run", "recipe.yaml", "--out", "two", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for mine, theirs in zip(table(one.folder), table(tmp_path / "two"), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(past_only(lines(one.folder)), past_only(lines(tmp_path / "two")), rtol=1e-4, atol=1e-5)
