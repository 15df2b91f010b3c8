"""Scores and choices of every method, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.data.selection import SELECTIONS
from limbeck.data.selection.base import Amount, Evidence, Selection
from limbeck.data.selection.confidence import Confidence
from limbeck.data.selection.el2n import EL2N
from limbeck.data.selection.forgetting import Forgetting
from limbeck.data.selection.grand import GraNd
from limbeck.data.selection.herding import Herding, herd
from limbeck.data.selection.per_class import PerClass
from limbeck.data.selection.random import Random
from limbeck.data.selection.uncertainty import Uncertainty
from limbeck.errors import DataError
from limbeck.types import IGNORE


def evidence(labels: list[int], logits: Any = None, features: Any = None, history: Any = None) -> Evidence:
    def tensor(value: Any, dtype: torch.dtype | None = None) -> Tensor | None:
        return None if value is None else torch.tensor(value, dtype=dtype)

    index = torch.arange(len(labels)) + 10
    return Evidence(index, torch.tensor(labels), tensor(logits), tensor(features), tensor(history, torch.bool))


LOG = [
    [math.log(0.6), math.log(0.3), math.log(0.1)],
    [math.log(0.2), math.log(0.2), math.log(0.6)],
    [math.log(0.4), math.log(0.3), math.log(0.3)],
]


def test_el2n_by_hand():
    scores = EL2N().scores(evidence([0, 0, 1], LOG))
    expected = [math.sqrt(0.16 + 0.09 + 0.01), math.sqrt(0.64 + 0.04 + 0.36), math.sqrt(0.16 + 0.49 + 0.09)]
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)
    assert EL2N().scores(evidence([1, 0], [[99.0, 0.0], [99.0, 0.0]])).tolist() == pytest.approx([math.sqrt(2), 0.0], abs=1e-6)


def test_grand_is_the_gradient_of_the_last_layer():
    torch.manual_seed(1)
    features, labels, layer = torch.randn(4, 5), torch.tensor([0, 2, 1, 1]), nn.Linear(5, 3)
    known = Evidence(torch.arange(4), labels, layer(features).detach(), features)
    expected = []
    for row, label in zip(features, labels, strict=True):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(layer(row)[None], label[None]), list(layer.parameters()))
        expected.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    assert GraNd().scores(known).tolist() == pytest.approx(expected, rel=1e-5)


def test_uncertainty_by_hand():
    known = evidence([IGNORE] * 3, LOG)
    entropy = [-sum(p * math.log(p) for p in row) for row in ((0.6, 0.3, 0.1), (0.2, 0.2, 0.6), (0.4, 0.3, 0.3))]
    assert Uncertainty().scores(known).tolist() == pytest.approx(entropy, rel=1e-6)
    assert Uncertainty(measure="least_confidence").scores(known).tolist() == pytest.approx([0.4, 0.4, 0.6])
    assert Uncertainty(measure="margin").scores(known).tolist() == pytest.approx([0.7, 0.6, 0.9])
    assert Uncertainty().scores(evidence([0], [[1000.0, 0.0]])).tolist() == [0.0]


def test_confidence_is_the_largest_probability():
    assert Confidence().scores(evidence([IGNORE] * 3, LOG)).tolist() == pytest.approx([0.6, 0.6, 0.4])


def test_forgetting_counts_falls_from_right_to_wrong():
    history = [[1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 1]]
    assert Forgetting().scores(evidence([0] * 4, history=history)).tolist() == [2.0, 1.0, 4.0, 0.0]


def test_herding_by_hand():
    features = torch.tensor([[0.0], [10.0], [4.0], [6.0]], dtype=torch.float64)
    # mean 5: 4 and 6 are as near, the first is taken; then (4 + 6) / 2 = 5; then 10 / 3 or 20 / 3, as near again: the first
    assert herd(features).tolist() == [2, 3, 0, 1]
    chosen, scores = Herding().choose(evidence([IGNORE] * 4, features=features.float().tolist()), Amount(fraction=0.5))
    assert chosen.tolist() == [2, 3]
    assert scores.tolist() == [2.0, 1.0, 4.0, 3.0]


def test_herding_keeps_the_sum_and_not_the_mean_of_what_is_chosen():
    features = torch.tensor([[0.0], [1.0], [2.0], [9.0]], dtype=torch.float64)
    # mean 3: 2; then (2 + h) / 2 nearest 3: 1 gives 1.5, 9 gives 5.5, so 1; then (3 + h) / 3: 9 gives 4, 0 gives 1
    assert herd(features).tolist() == [2, 1, 3, 0]


def test_herding_by_class():
    known = evidence([0, 1, 0, 1, 0, 1], features=[[0.0], [100.0], [1.0], [101.0], [5.0], [102.0]])
    chosen, _ = Herding(balanced=True).choose(known, Amount(top=2))
    assert chosen.tolist() == [2, 3]


def test_per_class_takes_the_surest_of_every_predicted_class():
    logits = [[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 4.0]]
    known = evidence([IGNORE] * 5, logits)
    assert PerClass().choose(known, Amount(top=1))[0].tolist() == [1, 4]
    assert PerClass().choose(known, Amount(top=2))[0].tolist() == [0, 1, 3, 4]
    assert PerClass().choose(known, Amount(top=3))[0].tolist() == [0, 1, 2, 3, 4]
    assert PerClass().choose(known, Amount(fraction=0.8))[0].tolist() == [0, 1, 3, 4], "4 of 5 are two of each of two classes"
    assert PerClass().choose(known, Amount(fraction=0.1))[0].tolist() == [1, 4], "at least one of each"
    assert PerClass().choose(known, Amount(top=1))[1].tolist() == pytest.approx(torch.tensor(logits).softmax(1).amax(1).tolist())


def test_random_is_nested_and_a_function_of_seed_and_place():
    known = evidence([0] * 50)
    few, scores = Random().choose(known, Amount(fraction=0.2))
    many, _ = Random().choose(known, Amount(fraction=0.5))
    assert (len(few), len(many)) == (10, 25)
    assert set(few.tolist()) < set(many.tolist())
    assert not torch.equal(scores, Random(seed=1).choose(known, Amount(fraction=0.2))[1])
    part = known.of(torch.tensor([3, 40]))
    assert torch.equal(Random().scores(part), scores[[3, 40]])


def test_balanced_choices_are_in_proportion():
    known = evidence([0] * 30 + [1] * 10 + [IGNORE] * 20)
    chosen, scores = Random(balanced=True).choose(known, Amount(fraction=0.2))
    assert [(known.labels[chosen] == name).sum().item() for name in (0, 1, IGNORE)] == [6, 2, 4]
    assert torch.equal(scores, Random().scores(known))
    assert chosen.tolist() == sorted(chosen.tolist())


def test_the_first_of_equals_is_kept():
    assert Confidence().choose(evidence([0] * 4, [[1.0, 0.0]] * 4), Amount(top=2))[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("amount", "count"), [(Amount(0.25), 3), (Amount(1.0), 10), (Amount(0.01), 1), (Amount(top=4), 4), (Amount(top=40), 10)]
)
def test_amounts(amount: Amount, count: int):
    assert amount.of(10) == (2 if amount.fraction == 0.25 else count)


def test_an_amount_is_needed():
    with pytest.raises(DataError, match="needs a fraction of the examples"):
        Amount().of(5)


def test_labels_that_are_missing_are_told():
    with pytest.raises(DataError, match=r"the selection 'el2n' reads labels, and 2 of 3 candidates have none\. Use another method"):
        EL2N().scores(evidence([0, IGNORE, IGNORE], LOG))


@pytest.mark.parametrize("name", SELECTIONS.names())
def test_every_method_keeps_what_it_is_asked_for(name: str):
    torch.manual_seed(0)
    known = Evidence(
        torch.arange(40), torch.arange(40) % 4, torch.randn(40, 4), torch.randn(40, 6), torch.rand(3, 40) > 0.5, torch.rand(2, 40)
    )
    method: Selection = SELECTIONS.get(name)()
    chosen, scores = method.choose(known, Amount(fraction=0.25))
    assert len(chosen) == 10 if name != "per_class" else len(chosen) <= 10
    assert scores.shape == (40,)
    assert scores.isfinite().all()
    if name not in ("per_class", "herding", "random"):
        assert scores[chosen].min() >= scores.sort(descending=True).values[9]
