"""Membership inference: scores by hand, against scipy and scikit-learn, and its limits."""

import math

import pytest
import torch
from scipy.stats import norm
from sklearn import metrics as sk

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.membership import attack, class_scores, scaled_confidence, shadow_scores


def test_the_area_and_the_rates_equal_sklearn():
    inside, outside = torch.randn(500) + 0.8, torch.randn(2000)
    truth, scores = [1] * 500 + [0] * 2000, torch.cat([inside, outside]).numpy()
    found = attack(inside, outside)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
    false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    for rate in (0.01, 0.001):
        assert found[f"tpr_at_{rate}"] == pytest.approx(max(t for f, t in zip(false, true, strict=True) if f <= rate))


def test_rates_by_hand():
    # Of 100 others one may be taken for a member, which is the largest: the second largest, 98, is the threshold.
    others = torch.arange(100).float()
    found = attack(torch.tensor([98.0, 98.5, 99.5, 0.0]), others)
    assert found["tpr_at_0.01"] == 0.5
    assert found["tpr_at_0.001"] == 0.25


def test_limits():
    assert attack(torch.ones(5), torch.zeros(5)) == {"auc": 1.0, "tpr_at_0.01": 1.0, "tpr_at_0.001": 1.0}
    assert attack(torch.zeros(5), torch.zeros(5)) == {"auc": 0.5, "tpr_at_0.01": 0.0, "tpr_at_0.001": 0.0}
    with pytest.raises(ShapeMismatch, match=r"scores of members and of others, found \(0,\), \(3,\)"):
        attack(torch.zeros(0), torch.zeros(3))


def test_scaled_confidence():
    logits, labels = torch.randn(20, 5).double(), torch.randint(0, 5, (20,))
    p = logits.softmax(1)[torch.arange(20), labels]
    assert torch.allclose(scaled_confidence(logits, labels), (p / (1 - p)).log())
    assert scaled_confidence(torch.tensor([[100.0, 0.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(100 - math.log(2))


def _population(shift, classes=3, count=900):
    labels = torch.arange(count) % classes
    return torch.randn(count) + 4.0 * labels + shift, labels


def test_classes_of_their_own_level_are_told_apart():
    (inside, a), (outside, b) = _population(1.5), _population(0.0)
    plain = attack(inside, outside)["auc"]
    found = attack(*class_scores(inside, outside, a, b))["auc"]
    assert found > plain + 0.1
    assert found == pytest.approx(norm.cdf(1.5 / math.sqrt(2)), abs=0.03)


def test_nothing_is_found_where_nothing_differs():
    (inside, a), (outside, b) = _population(0.0), _population(0.0)
    assert attack(*class_scores(inside, outside, a, b))["auc"] == pytest.approx(0.5, abs=0.04)


def test_ratios_are_those_of_gaussians_of_the_other_half():
    inside, outside = torch.tensor([2.0, 4.0]), torch.tensor([0.0, 1.0])
    labels = torch.zeros(2, dtype=torch.int64)
    members, others = class_scores(inside, outside, labels, labels, seed=3)
    # Each half has one example, so that the deviation is the least one and the nearer mean wins by far.
    for scores, values in ((members, inside), (others, outside)):
        for score, value in zip(scores.tolist(), values.tolist(), strict=True):
            sides = [-(((value - i) / 1e-6) ** 2) / 2 + ((value - o) / 1e-6) ** 2 / 2 for i in inside.tolist() for o in outside.tolist()]
            assert any(score == pytest.approx(side) for side in sides)
    assert torch.equal(members, class_scores(inside, outside, labels, labels, seed=3)[0])


def test_shadow_models_by_hand():
    shadows = torch.tensor([[3.0, 0.0], [5.0, 1.0], [1.0, 4.0], [-1.0, 6.0]])
    member = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    found = shadow_scores(torch.tensor([4.0, 0.5]), shadows, member)
    inside = math.sqrt((1 + 1 + 1 + 1) / 4)
    outside = math.sqrt((1 + 1 + 0.25 + 0.25) / 4)
    expected = [norm.logpdf(4, 4, inside) - norm.logpdf(4, 0, outside), norm.logpdf(0.5, 5, inside) - norm.logpdf(0.5, 0.5, outside)]
    assert found.tolist() == pytest.approx(expected)


def test_shadow_models_must_have_both_sides():
    with pytest.raises(ShapeMismatch, match="trained with it, and one that was not"):
        shadow_scores(torch.zeros(2), torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ShapeMismatch, match=r"found \(2,\), \(3, 1\) and \(3, 1\)"):
        shadow_scores(torch.zeros(2), torch.zeros(3, 1), torch.ones(3, 1, dtype=torch.bool))
