"""Singular directions: numpy's up to sign, the sign fixed, gradients right and finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.ops.spectral import singular_directions

SHAPES = [(5, 3), (3, 5), (4, 4), (1, 6), (6, 1)]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 9])
def test_values_and_vectors(shape, count):
    x = draw(2, *shape)
    values, vectors = singular_directions(x, count)
    expected = min(count, *shape)
    assert (values.shape, vectors.shape) == ((2, expected), (2, shape[1], expected))
    for i in range(2):
        _, s, right = np.linalg.svd(x[i].numpy(), full_matrices=False)
        np.testing.assert_allclose(values[i], s[:expected], rtol=1e-9)
        sign = np.where(x[i].numpy().sum(0) @ right[:expected].T < 0, -1, 1)
        np.testing.assert_allclose(vectors[i], right[:expected].T * sign, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(shape):
    torch.autograd.gradcheck(lambda x: singular_directions(x, 3)[1], (draw(2, *shape).requires_grad_(),))


def test_the_sign_is_that_of_the_rows():
    x = draw(4, 3)
    for flipped in (x, -x):
        _, vectors = singular_directions(flipped, 3)
        assert ((flipped @ vectors).sum(0) >= 0).all()


@pytest.mark.parametrize(("shape", "side"), [((3, 5), 0), ((5, 3), 1), ((4, 4), 1)])
def test_the_shorter_side_is_decomposed(monkeypatch, shape, side):
    x, seen = draw(*shape), []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda products: seen.append(products) or eigh(products))
    singular_directions(x, 1)
    y = (x if side == 0 else x.T) / x.abs().max()
    torch.testing.assert_close(seen, [y @ y.T])


def test_close_values_keep_unit_lengths():
    """Rounding, divided by the small difference of the values, must not reach the vectors."""
    left, right = (torch.linalg.qr(draw(6, 6, seed=seed)).Q for seed in (1, 2))
    x = (left * torch.tensor([1, 1 - 2e-5, 0.5, 0.4, 0.3, 0.2])) @ right.T
    _, vectors = singular_directions(x.float(), 2)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(2), rtol=0, atol=2e-6)


def test_values_carry_no_gradient_and_scale_does_not_matter():
    x = draw(4, 3).requires_grad_()
    values, vectors = singular_directions(x, 2)
    assert not values.requires_grad
    big_values, big_vectors = singular_directions(1e25 * x.detach().float(), 2)
    torch.testing.assert_close(big_values, 1e25 * values.float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(big_vectors, vectors.detach().float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", [torch.zeros(3, 4), torch.eye(3), torch.ones(4, 2), torch.zeros(4, 2), torch.diag(torch.tensor([2.0, 2, 1]))])
def test_ties_and_missing_ranks_are_finite(x):
    x = x.clone().requires_grad_()
    values, vectors = singular_directions(x, 3)
    vectors.square().sum().backward()
    (vectors * torch.arange(vectors.numel()).reshape(vectors.shape)).sum()
    assert vectors.isfinite().all()
    assert x.grad.isfinite().all()
    lengths = torch.linalg.vector_norm(vectors, dim=0)
    torch.testing.assert_close(lengths, (values > 1e-5).float(), rtol=0, atol=1e-5)


def test_tied_directions_take_no_part_in_each_others_gradient():
    """Of diag(2, 2, 1) the first two directions may turn into each other at no cost; towards the third they turn as usual."""
    x = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)).requires_grad_()
    _, vectors = singular_directions(x, 1)
    towards = torch.eye(3, dtype=torch.float64)[:, 2]
    (gradient,) = torch.autograd.grad((vectors[:, 0] * towards).sum(), x, retain_graph=True)
    place = int(vectors[:, 0].detach().abs().argmax())
    assert gradient[place, 2].abs().item() == pytest.approx(2 / (4 - 1))
    assert gradient[2, place].abs().item() == pytest.approx(1 / (4 - 1))
    other = torch.eye(3, dtype=torch.float64)[:, 1 - place]
    (gradient,) = torch.autograd.grad((vectors[:, 0] * other).sum(), x)
    assert gradient.abs().max() < 1e-12


def two(first, second):
    """A matrix of two singular values, eight times larger than its entries, and the right vectors."""
    waves = torch.tensor([[(-1.0) ** (i & j).bit_count() for j in (1, 2, 4, 8)] for i in range(16)], dtype=torch.float64) / 4
    left, right = waves[:, :2], waves[:, 2:]
    return (left * torch.tensor([first, second], dtype=torch.float64)) @ right.T, right


def coupling(first, second):
    """How strongly the first direction is turned towards the second by changes of the matrix."""
    x, right = two(first, second)
    x.requires_grad_()
    _, vectors = singular_directions(x, 1)
    (gradient,) = torch.autograd.grad((vectors[:, 0] * right[:, 1]).sum(), x)
    return gradient.norm().item()


def test_what_counts_as_a_tie():
    """Differences of squares up to 1e-5 of the largest square are ties; all others turn each other by 1 / difference."""
    for first, ratio, tied in ((7.0, 0.5e-5, True), (7.0, 2e-5, False), (0.2, 0.5e-5, True), (0.2, 2e-5, False), (7.0, 1e-2, False)):
        second = first * (1 - ratio) ** 0.5
        expected = 0 if tied else (first**2 + second**2) ** 0.5 / (first**2 * ratio)
        assert coupling(first, second) == pytest.approx(expected, rel=1e-4, abs=1e-4 / first)


def test_what_counts_as_a_rank():
    """Values up to 1e-5 of the largest are none."""
    for first, ratio, there in ((7.0, 0.5e-5, False), (7.0, 2e-5, True), (0.2, 0.5e-5, False), (0.2, 2e-5, True)):
        values, vectors = singular_directions(two(first, first * ratio)[0], 2)
        assert values[1].item() == pytest.approx(first * ratio * there, rel=1e-3, abs=0)
        assert vectors[:, 1].norm().item() == pytest.approx(float(there))


def test_half_precision_is_widened_and_autocast_ignored():
    x = draw(4, 3).bfloat16()
    assert singular_directions(x, 1)[1].dtype == torch.float32
    expected = singular_directions(x.float(), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(singular_directions(x.float(), 2), expected)
