"""Distances between Gram matrices."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.gram_gap import gram_gap


def test_by_hand():
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    assert gram_gap(a, b).item() == (5 - 9) ** 2
    assert gram_gap(a.T, b.T).item() == (1 - 9) ** 2 + 2 * (2 - 0) ** 2 + (4 - 0) ** 2


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 6), (6, 1)])
def test_agrees_with_the_formed_matrices(shape):
    a, b = (torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    torch.testing.assert_close(gram_gap(a, b), (a @ a.T - b @ b.T).square().sum())


@pytest.mark.parametrize("shapes", [((4, 3), (4, 5)), ((4, 5), (4, 2)), ((4, 3), (4, 1))])
def test_batches_of_unlike_inner_size(shapes):
    a, b = (torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for shape in shapes)
    torch.testing.assert_close(gram_gap(a, b), (a @ a.mT - b @ b.mT).square().sum((2, 3)))


@pytest.mark.parametrize("shape", [(64, 10), (10, 64), (1000, 2), (2, 1000)])
def test_nothing_cancels_where_they_are_close(shape):
    a = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    assert gram_gap(a, a.clone()).item() == 0
    near = a + 1e-4 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    exact = (near.double() @ near.double().T - a.double() @ a.double().T).square().sum()
    assert gram_gap(near, a).item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.parametrize("shape", [(4, 4000), (4000, 4)])
def test_no_large_matrix(shape):
    """What is kept for the backward pass is of the size of the inputs."""
    sizes = []
    a = torch.randn(*shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        gram_gap(a, torch.randn(*shape))
    assert max(sizes) <= 16000


def test_products_keep_their_precision_under_autocast():
    a, b = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = gram_gap(a, b), gram_gap(a.T, b.T)
    torch.testing.assert_close(values, (gram_gap(a, b), gram_gap(a.T, b.T)))
