"""Teachers ranked: probes of features, the smoke test, and what is said of those that cannot be judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from limbeck.cli.main import main
from limbeck.errors import RunError
from limbeck.study.teachers import Judged, Probe, _ordered, rank_teachers

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:iris"},
    "teacher": {"model": "mlp", "args": {"hidden": [16]}},
    "student": {"model": "mlp", "args": {"hidden": [4]}},
    "train": {"epochs": 8, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.02}},
    "stages": {
        "teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}},
        "distil": {"objective": {"labels": "cross_entropy", "logits": "kd"}},
    },
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A teacher that says the same of every flower."""
    state = {"hidden1.linear.weight": torch.zeros(8, 4), "hidden1.linear.bias": torch.ones(8)}
    save_file({**state, "head.weight": torch.zeros(3, 8), "head.bias": torch.tensor([3.0, 0.0, 0.0])}, tmp_path / "dull.safetensors")
    return tmp_path / "dull.safetensors"


@pytest.mark.slow
def test_a_teacher_that_knows_is_before_one_that_does_not(tmp_path: Path, weights: Path) -> None:
    names = [f"mlp hidden=[8] weights={weights}", "mlp hidden=[16]", "mlp hiden=[16]"]
    found = rank_teachers(RECIPE, names, Probe(smoke=0.5, out=tmp_path / "out"))
    assert [item.name for item in found.teachers] == [names[1], names[0], names[2]]
    good, dull, wrong = found.teachers
    assert good.own is not None
    assert dull.own is not None
    assert good.own > dull.own == pytest.approx(1 / 3, abs=0.05)
    assert good.neighbours is not None
    assert dull.neighbours is not None
    assert good.neighbours > 0.8 > dull.neighbours
    assert good.logme is not None
    assert dull.logme is not None
    assert good.logme > dull.logme
    assert "Did you mean 'hidden'?" in wrong.note
    assert (found.by, found.metric) == ("smoke test", "accuracy")
    assert found.alone is not None
    assert found.inputs[""] > 0.8


def test_without_a_smoke_test_the_probes_rank(tmp_path: Path, weights: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text(json.dumps({**RECIPE, "data": {"source": "sklearn:iris", "split": {"seed": 3}}}))
    digits = tmp_path / "digits.yaml"
    digits.write_text(json.dumps({**RECIPE, "data": {"source": "sklearn:digits"}}))
    probe = Probe(smoke=0, targets=(str(file), str(digits)), out=tmp_path / "out")
    found = rank_teachers(RECIPE, [f"mlp hidden=[8] weights={weights}", "mlp hidden=[8] weights=random"], probe)
    assert found.by == "mean rank of neighbours and LogME"
    assert [item.smoke for item in found.teachers] == [None, None]
    assert found.teachers[0].name.endswith("random")
    assert set(found.teachers[0].targets or {}) == {str(file)}  # a flower has not the shape of an image
    assert set(found.inputs) == {"", str(file), str(digits)}


def test_ranks_are_averaged() -> None:
    found = [Judged("a", 0.9, -3.0), Judged("b", 0.8, -1.0), Judged("c", 0.7, -2.0), Judged("d", note="broken")]
    assert [item.name for item in _ordered(found, "", maximize=True)] == ["b", "a", "c", "d"]
    errors = [Judged("a", smoke=3.0), Judged("b", smoke=2.0)]
    assert [item.name for item in _ordered(errors, "smoke test", maximize=False)] == ["b", "a"]
    assert [item.name for item in _ordered(errors, "smoke test", maximize=True)] == ["a", "b"]


def test_a_teacher_without_weights_that_nobody_trains(tmp_path: Path) -> None:
    own = {**RECIPE, "teacher": {"model": "mlp", "weights": "random"}, "stages": {"distil": RECIPE["stages"]["distil"]}}
    found = rank_teachers(own, ["mlp"], Probe(smoke=0, out=tmp_path))
    assert found.teachers[0].note == "it has no weights, and no stage of the recipe trains the teacher."


def test_wrong_wishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="name teachers with --candidates"):
        rank_teachers(RECIPE, [], Probe(out=tmp_path))
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(RECIPE))
    assert main(["teachers", str(file), "--candidates", "mlp", "--smoke", "3"]) == 2
    assert "--smoke: expected a share of the training from 0 to 1, found 3.0" in capsys.readouterr().err
