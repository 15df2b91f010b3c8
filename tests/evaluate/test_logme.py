"""LogME beside the density that it claims to be, and on features of known worth."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.logme import evidence, logme


@pytest.mark.parametrize("channels", [3, 20])
def test_it_is_the_density_of_the_labels(channels: int) -> None:
    features = torch.randn(12, channels, dtype=torch.float64)
    labels = features[:, 0] * 0.7 + 0.3 * torch.randn(12, dtype=torch.float64)
    left, singular, _ = torch.linalg.svd(features, full_matrices=False)
    value, alpha, beta = evidence(left, singular, labels)
    covariance = torch.eye(12, dtype=torch.float64) / beta + features @ features.T / alpha
    assert value == pytest.approx(MultivariateNormal(torch.zeros(12, dtype=torch.float64), covariance).log_prob(labels).item() / 12)


def test_the_precisions_are_those_of_the_highest_density() -> None:
    features = torch.randn(60, 4, dtype=torch.float64)
    labels = features @ torch.tensor([1.0, -0.5, 0.2, 0.0], dtype=torch.float64) + 0.4 * torch.randn(60, dtype=torch.float64)
    left, singular, _ = torch.linalg.svd(features, full_matrices=False)
    value, alpha, beta = evidence(left, singular, labels)

    def density(a: float, b: float) -> float:
        covariance = torch.eye(60, dtype=torch.float64) / b + features @ features.T / a
        return MultivariateNormal(torch.zeros(60, dtype=torch.float64), covariance).log_prob(labels).item() / 60

    for factor in (0.8, 1.25):
        assert density(alpha * factor, beta) < value
        assert density(alpha, beta * factor) < value


def test_of_classes_it_is_the_mean_over_columns() -> None:
    features, labels = torch.randn(9, 2), torch.tensor([0, 1, 5] * 3)
    columns = torch.stack([(labels == c).double() for c in (0, 1, 5)], 1)
    assert logme(features, labels) == pytest.approx(logme(features, columns))
    assert logme(features, columns) == pytest.approx(sum(logme(features, columns[:, i]) for i in range(3)) / 3)


def test_features_that_tell_the_classes_are_worth_more() -> None:
    labels = torch.arange(4).repeat(25)
    telling = torch.nn.functional.one_hot(labels, 4) + 0.1 * torch.randn(100, 4)
    assert (
        logme(telling, labels)
        > logme(torch.nn.functional.one_hot(labels, 4) + torch.randn(100, 4), labels)
        > logme(torch.randn(100, 4), labels)
    )


def test_maps_are_flattened_and_halves_taken_at_their_word() -> None:
    features, labels = torch.randn(10, 2, 3, 3), torch.arange(2).repeat(5)
    assert logme(features, labels) == pytest.approx(logme(features.flatten(1), labels))
    assert logme(features.bfloat16(), labels) == pytest.approx(logme(features, labels), abs=0.05)


def test_labels_that_are_explained_without_rest_are_finite() -> None:
    labels = torch.arange(3).repeat(4)
    assert logme(torch.nn.functional.one_hot(labels).double(), labels) < 100


def test_what_does_not_belong_together() -> None:
    with pytest.raises(ShapeMismatch, match="two or more examples with targets, found 3 and 2"):
        logme(torch.randn(3, 2), torch.zeros(2))
    with pytest.raises(ShapeMismatch, match="found 1 and 1"):
        logme(torch.randn(1, 2), torch.zeros(1))
