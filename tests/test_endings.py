"""The last epoch beside the best: its weights are kept and judged, and the validation split's word on both stands in the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import SMALL, distill, weights

TRAIN: dict[str, Any] = {**SMALL["train"], "epochs": 3, "schedule": "constant"}  # the accuracy falls from the first epoch on
MLP: dict[str, Any] = {"model": "mlp", "args": {"hidden": [4]}}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same training, of which once the best and once the last weights are handed on."""
    folder = tmp_path_factory.mktemp("endings")
    recipe = {**SMALL, "student": MLP, "teacher": {**MLP, "weights": "random"}, "baseline": True}
    for select in ("best", "last"):
        distill({**recipe, "train": {**TRAIN, "select": select}}, out=folder / select, device="cpu")
    return folder / "best", folder / "last"


def models(run: Path) -> Any:
    return json.loads((run / "results.json").read_text())["models"]


def lines(run: Path, stage: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if (line["stage"], line["kind"]) == (stage, "valid")]


def test_the_last_weights_are_those_that_would_have_been_handed_on(both: tuple[Path, Path]):
    best, last = both
    kept = load_file(best / "checkpoints" / "last-student.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in weights(last).items())
    assert not all(torch.equal(kept[name], value) for name, value in weights(best).items())
    assert models(best)["student"]["last"]["metrics"] == models(last)["student"]["metrics"]
    assert models(best)["student"]["metrics"] != models(last)["student"]["metrics"]
    assert not list((last / "checkpoints").glob("last-*"))
    assert models(last)["student"]["last"] is None


def test_the_validation_split_is_asked_of_both(both: tuple[Path, Path]):
    best, last = both
    values = [line["values"] for line in lines(best, "distil")]
    best_values = max(values, key=lambda found: found["accuracy"])
    assert models(best)["student"]["valid"] == best_values
    assert models(best)["student"]["last"]["valid"] == values[-1] != best_values
    assert models(last)["student"]["valid"] == values[-1]


def test_who_did_not_learn_has_no_ending(both: tuple[Path, Path]):
    assert {"valid", "last"} <= set(models(both[0])["alone"])
    assert not {"valid", "last"} & set(models(both[0])["teacher"])


def test_where_the_best_is_the_last_nothing_is_kept_beside_it(tmp_path: Path):
    recipe = {**SMALL, "student": MLP, "teacher": {**MLP, "weights": "random"}, "train": {**TRAIN, "epochs": 1}}
    found = distill(recipe, out=tmp_path / "run", device="cpu").results["models"]["student"]
    assert found["last"] is None
    assert found["valid"] == lines(tmp_path / "run", "distil")[-1]["values"]
    assert not list((tmp_path / "run" / "checkpoints").glob("last-*"))
