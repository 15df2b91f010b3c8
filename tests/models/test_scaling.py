"""A model of scaled changes: value by hand, what learns, what is left at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs import PLAIN, SMALL, distill
from torch import nn

from limbeck.config.load import load_recipe
from limbeck.errors import ModelError
from limbeck.models.scaling import Scaled, Sources, add_scales, begin, fill, merge_scales, plain_names
from limbeck.preflight import preflight


def net() -> Any:
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))


def scaled(how: Sources, sources: dict[str, nn.Module], first: nn.Module) -> Any:
    model = net()
    add_scales(model, how, "net")
    begin(model, first.state_dict(), "first")
    fill(model, {name: source.state_dict() for name, source in sources.items()})
    return model


def scales_of(model: nn.Module) -> list[nn.Parameter]:
    return list({id(part.scales): part.scales for part in model.modules() if isinstance(part, Scaled)}.values())


@pytest.mark.parametrize(("scales", "shapes"), [("channel", [(2, 3), (2, 4)]), ("layer", [(2, 1), (2, 1)]), ("model", [(2, 1)])])
def test_layers_are_a_beginning_and_scaled_changes(scales: Any, shapes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    first, one, two = net(), net(), net()
    model = scaled(Sources(("one", "two"), scales), {"one": one, "two": two}, first)
    own = scales_of(model)
    assert [tuple(value.shape) for value in own] == shapes
    for value in own:
        assert value.mean().item() == pytest.approx(1.0, abs=0.01)  # 2 / K
        assert value.std().item() < 0.01
        with torch.no_grad():
            value.copy_(torch.arange(value.numel()).reshape(value.shape) / 4)
    for number in (0, 3):
        layer, base, a, b = (m[number] for m in (model, first, one, two))
        omega = own[0 if scales == "model" or number == 0 else 1]
        width = [-1] + [1] * (base.weight.ndim - 1)
        expected = base.weight + omega[0].view(width) * (a.weight - base.weight) + omega[1].view(width) * (b.weight - base.weight)
        torch.testing.assert_close(layer.weight, expected)
    bias = first[0].bias + own[0][0] * (one[0].bias - first[0].bias) + own[0][1] * (two[0].bias - first[0].bias)
    torch.testing.assert_close(model[0].bias, bias)
    torch.testing.assert_close(model[5].weight, first[5].weight)


def test_one_source_with_the_scale_1_is_that_source() -> None:
    torch.manual_seed(1)
    first, one = net(), net()
    model = scaled(Sources(("one", "still"), "layer"), {"one": one, "still": first}, first)
    with torch.no_grad():
        for value in scales_of(model):
            value.fill_(1.0)
        one[5].load_state_dict(first[5].state_dict())
    x = torch.randn(5, 1, 3, 3)
    torch.testing.assert_close(model(x), one(x))
    before = model.eval()(x)
    merge_scales(model)
    torch.testing.assert_close(model(x), before)
    assert list(model.state_dict()) == list(net().state_dict())
    assert type(model[3]) is nn.Linear


def test_only_scales_and_the_head_learn() -> None:
    model = net()
    frozen = add_scales(model, Sources(("one", "two")), "net")
    learn = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learn == {"0.parametrizations.weight.0.scales", "3.parametrizations.weight.0.scales", "5.weight", "5.bias"}
    assert frozen == {name for name, _ in model.named_parameters()} - learn
    assert set(plain_names(model)) == set(net().state_dict())


def test_dropout_of_scales_is_for_training() -> None:
    torch.manual_seed(0)
    like = torch.zeros(6, 2)
    part = Scaled(like, nn.Parameter(torch.ones(3, 6)), 0.5)
    part.changes.fill_(1.0)
    assert set(part(like).flatten().tolist()) <= {0.0, 2.0, 4.0, 6.0}
    assert len(set(part(like).flatten().tolist())) > 1
    assert part.eval()(like).unique().tolist() == [3.0]


def test_what_cannot_be_scaled() -> None:
    with pytest.raises(ModelError, match="net: Sequential has no linear or convolutional layer beside its head"):
        add_scales(nn.Sequential(nn.Linear(2, 2)), Sources(("a", "b")), "net")
    model = net()
    add_scales(model, Sources(("a", "b")), "net")
    with pytest.raises(ModelError, match=r"the model 'a' has no 0\.weight of shape \(3, 1, 2, 2\)"):
        fill(model, {"a": nn.Linear(2, 2).state_dict()})


LABELS = {"labels": "cross_entropy"}
RECIPE: dict[str, Any] = {
    **SMALL,
    "teacher": None,
    "teachers": {"trunk": PLAIN, "one": PLAIN, "two": PLAIN},
    "student": {**PLAIN, "sources": {"models": ["one", "two"]}},
    "objective": LABELS,
    "baseline": True,
    "stages": {
        "trunk": {"learner": "trunk", "objective": LABELS, "train": {"steps": 2}},
        "one": {"learner": "one", "start": "trunk", "objective": LABELS, "train": {"steps": 3}},
        "two": {"learner": "two", "start": "trunk", "objective": LABELS, "train": {"steps": 4}},
        "scales": {"start": "trunk", "train": {"steps": 3}},
    },
}


def test_a_run_learns_scales_and_leaves_an_ordinary_model(tmp_path: Path) -> None:
    run = distill(RECIPE, out=tmp_path / "run", device="cpu")
    kept = load_file(run.folder / "checkpoints" / "models.safetensors")
    student = load_file(run.folder / "student" / "model.safetensors")
    name = "hidden1.linear.weight"
    base, one, two = (kept[f"{model}/{name}"] for model in ("trunk", "one", "two"))
    assert torch.equal(kept["student/hidden1.linear.parametrizations.weight.original"], base)
    omega = kept["student/hidden1.linear.parametrizations.weight.0.scales"]
    torch.testing.assert_close(student[name], base + omega[0, :, None] * (one - base) + omega[1, :, None] * (two - base))
    assert omega.std() > 0.003  # they have learnt
    results = json.loads((run.folder / "results.json").read_text())["models"]
    assert results["alone"]["cost"]["parameters"] == sum(value.numel() for value in student.values())
    assert run.student.state_dict().keys() == student.keys()


def test_the_check_names_what_is_missing() -> None:
    def told(**sources: Any) -> list[str]:
        changes = {"student.sources": sources}
        return [str(problem) for problem in preflight(load_recipe(RECIPE, set=changes), allow_code=False).problems]

    assert "student.sources: expected two or more models of the recipe (trunk, one, two), found one." in told(models=["one"])[0]
    assert "found one, thre." in told(models=["one", "thre"])[0]
    other = {"teachers.two": {"model": "mlp", "args": {"hidden": [8]}}, "stages.two.start": "fresh"}
    (problem,) = preflight(load_recipe(RECIPE, set=other), allow_code=False).problems
    assert "the model 'two' has no hidden1.linear.weight of shape" in str(problem)
