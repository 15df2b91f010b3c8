"""Students ranked without training: what is compared, what is left out, and that nothing is trained."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from limbeck.cli.main import main
from limbeck.errors import RunError
from limbeck.evaluate.diswot import Glance, classifier_gradient, diswot
from limbeck.study.students import Limits, last_layers, rank_students

RECIPE: dict[str, Any] = {
    "task": "classification",
    "data": {"source": "sklearn:digits"},
    "teacher": {"model": "convnet", "args": {"channels": [8, 16]}},
    "student": {"model": "convnet", "args": {"channels": [4, 8]}},
    "train": {"epochs": 1},
    "stages": {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}}, "distil": {"objective": {"logits": "kd"}}},
}


def test_the_teachers_own_architecture_is_the_best_student() -> None:
    found, by = rank_students(RECIPE, ["convnet channels=[8,16]", "mlp hidden=[16]"], draws=2, batch=24)
    assert found[0].name == "convnet channels=[8,16]"
    assert found[0].score == 0.0  # the same weights are drawn for the same architecture
    assert found[1].score is not None
    assert found[1].score < 0
    assert by == "channels"


def test_of_several_widths_classes_are_compared_and_the_score_is_that_of_the_formula() -> None:
    found, by = rank_students(RECIPE, ["convnet channels=[4,8]", "convnet channels=[2,4]"], draws=1, batch=16)
    assert by == "classes"
    assert found[0].deviation is None
    assert {item.name for item in found} == {"convnet channels=[4,8]", "convnet channels=[2,4]"}
    assert found[0].score >= found[1].score  # type: ignore[operator]
    assert (found[0].bytes, found[0].parameters) != (found[1].bytes, found[1].parameters)


def test_what_is_too_large_or_wrong_is_left_out_with_the_reason() -> None:
    texts = ["convnet channels=[4,8]", "convnet channels=[64,64]", "convnet chanels=[3]", "resnet depth=9"]
    found, _ = rank_students(RECIPE, texts, Limits(bytes=20_000), draws=1, batch=16)
    notes = {item.name: item.note for item in found}
    assert notes["convnet channels=[4,8]"] == ""
    assert notes["convnet channels=[64,64]"].endswith("bytes are more than 20,000")
    assert "Did you mean 'channels'?" in notes["convnet chanels=[3]"]
    assert "depth must be one of" in notes["resnet depth=9"]
    assert found[0].name == "convnet channels=[4,8]"


def test_nobody_is_left() -> None:
    with pytest.raises(RunError, match=r"no candidate is left: mlp hidden=\[16\]: [\d,]+ FLOPs are more than 10"):
        rank_students(RECIPE, ["mlp hidden=[16]"], Limits(flops=10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "regression", "data": {"source": "sklearn:diabetes"}}, "it is for one class an example"),
        ({"teacher": None}, "the recipe names no `teacher`"),
    ],
)
def test_where_it_means_nothing(change: dict[str, Any], message: str) -> None:
    own = {**RECIPE, **change, "stages": {"distil": {"objective": {"labels": {"loss": "mse", "target": "labels"}}}}}
    own["student"] = {"model": "mlp"}
    if "task" not in change:
        own |= {"stages": {"distil": {"objective": {"labels": "cross_entropy"}}}}
    own = {key: value for key, value in own.items() if value is not None} | (
        {"teacher": {"model": "mlp", "weights": "random"}} if "task" in change else {}
    )
    with pytest.raises(RunError, match=message):
        rank_students(own, draws=1)


def test_the_last_layers_of_a_model_without_stages() -> None:
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    assert last_layers(layer) == ["head:input"]


def test_the_score_by_hand() -> None:
    torch.manual_seed(1)
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    logits, labels = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    glances = [Glance(f, classifier_gradient(f, logits, labels)) for f in (one, other)]
    found = diswot(glances[0], glances[1])

    def relations(f: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(f @ f.T, dim=1)

    assert found.relation == pytest.approx((relations(one) - relations(other)).square().sum().item() / 16, rel=1e-5)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(RECIPE))
    assert main(["students", str(file), "--draws", "1", "--batch", "16", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [set(item) >= {"name", "score", "flops", "bytes"} for item in said["students"]] == [True] * 6
    assert main(["students", str(file), "--candidates", "mlp hidden=[8]", "convnet hidden=[1]", "--draws", "1"]) == 0
    out = capsys.readouterr().out
    assert "1  mlp hidden=[8]" in out
    assert "left out: convnet hidden=[1]" in out
    assert main(["students", str(file), "--budget-flops", "many"]) == 2
    assert "--budget-flops: expected a number above zero" in capsys.readouterr().err
    assert main(["students", str(file), "--draws", "0"]) == 2
