"""Null spaces, and principal directions that are learned batch by batch."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.subspace import centred_scores, follow_subspaces, unseen


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_unseen_by_hand():
    rows, weight = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 5.0, 0.0]])
    torch.testing.assert_close(unseen(rows, weight), torch.tensor([[1.0, 0.0, 3.0]]))


@pytest.mark.parametrize("outputs", [1, 3, 6, 9])
def test_unseen_is_the_projection_of_the_pseudo_inverse(outputs):
    rows, weight = draw(5, 6), draw(outputs, 6, seed=1)
    expected = rows - rows @ (torch.linalg.pinv(weight) @ weight).T
    torch.testing.assert_close(unseen(rows, weight), expected, rtol=1e-7, atol=1e-10)


def test_unseen_of_a_map_with_equal_outputs():
    """Rank one: four of five dimensions stay."""
    rows, row = draw(4, 5), draw(1, 5, seed=1)
    torch.testing.assert_close(unseen(rows, row.repeat(3, 1)), unseen(rows, row))
    assert torch.equal(unseen(rows, torch.zeros(2, 5).double()), rows)


def test_what_counts_as_unseen():
    """A singular value below eps times the larger side is rounding; one above is not."""
    eps = torch.finfo(torch.float64).eps
    for size, left in ((5 * eps, [[0.0, 1.0]]), (20 * eps, [[0.0, 0.0]])):
        weight = torch.zeros(8, 2, dtype=torch.float64)
        weight[0, 0], weight[1, 1] = 1.0, size
        torch.testing.assert_close(unseen(torch.ones(1, 2, dtype=torch.float64), weight), torch.tensor(left, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(6))
def test_directions_keep_their_signs(seed):
    basis = torch.linalg.qr(draw(2, 5, 3, seed=seed)).Q
    state = torch.zeros(2, 5).double(), basis, torch.ones(2, 3).double()
    _, new, _ = follow_subspaces(draw(7, 5, seed=seed + 9), torch.full((7, 2), 0.5).double(), *state, torch.tensor([0.3, 0.6]).double())
    assert ((new * basis).sum(1) > 0).all()


def test_scores():
    rows, means, basis = draw(4, 5), draw(2, 5, seed=1), draw(2, 5, 3, seed=2)
    got = centred_scores(rows, means, basis)
    for n in range(4):
        for g in range(2):
            torch.testing.assert_close(got[n, g], (rows[n] - means[g]) @ basis[g])


def start(groups, channels, directions):
    basis = torch.linalg.qr(draw(groups, channels, directions, seed=8)).Q
    return torch.zeros(groups, channels).double(), basis, torch.zeros(groups, directions).double()


def test_one_step_oracle():
    rows, shares, rate = draw(7, 5), draw(7, 2, seed=1).softmax(-1), torch.tensor([0.3, 1.0]).double()
    means, basis, spread = draw(2, 5, seed=2), torch.linalg.qr(draw(2, 5, 3, seed=3)).Q, draw(2, 3, seed=4).abs()
    got = follow_subspaces(rows, shares, means, basis, spread, rate)
    for g, r in enumerate(rate.tolist()):
        weights = shares[:, g] / shares[:, g].sum()
        mean = (1 - r) * means[g] + r * (weights @ rows)
        covariance = sum(w * torch.outer(x - mean, x - mean) for w, x in zip(weights, rows, strict=True))
        mixed = (1 - r) * basis[g] @ torch.diag(spread[g]) + r * covariance @ basis[g]
        torch.testing.assert_close(got[0][g], mean)
        new = got[1][g]
        torch.testing.assert_close(new.T @ new, torch.eye(3).double())
        torch.testing.assert_close(new @ new.T @ mixed, mixed)  # the same subspace, in the order of Gram and Schmidt
        assert ((new * basis[g]).sum(0) > 0).all()
        torch.testing.assert_close(got[2][g], (new.T @ mixed).diagonal().abs())


def test_finds_the_principal_directions_of_every_group():
    scales = torch.tensor([5.0, 3.0, 1.0, 0.3, 0.1]).double()
    turns = [torch.linalg.qr(draw(5, 5, seed=seed)).Q for seed in (5, 6)]
    rows = torch.cat([draw(400, 5, seed=seed + 10) * scales @ turn.T + 10 * seed for seed, turn in enumerate(turns)])
    shares = torch.eye(2).double().repeat_interleave(400, 0)
    means, basis, spread = start(2, 5, 2)
    for _ in range(60):
        means, basis, spread = follow_subspaces(rows, shares, means, basis, spread, torch.ones(2).double())
    for g in range(2):
        own = rows[400 * g : 400 * (g + 1)]
        values, vectors = torch.linalg.eigh(torch.cov(own.T, correction=0))
        torch.testing.assert_close(means[g], own.mean(0))
        torch.testing.assert_close(spread[g], values.flip(0)[:2])
        torch.testing.assert_close((basis[g] * vectors.flip(1)[:, :2]).sum(0).abs(), torch.ones(2).double())


def test_a_batch_without_a_group_and_of_one_example_is_finite():
    means, basis, spread = start(2, 5, 3)
    for rows in (draw(1, 5), draw(4, 5), torch.zeros(2, 5).double()):
        shares = torch.tensor([[1.0, 0.0]]).double().expand(len(rows), -1)
        found = follow_subspaces(rows, shares, means, basis, spread, torch.tensor([1.0, 0.0]).double())
        assert all(x.isfinite().all() for x in found)


def test_float32_inside_autocast():
    rows, weight = draw(4, 6).float(), draw(2, 6, seed=1).float()
    basis = torch.linalg.qr(draw(2, 6, 3, seed=3).float()).Q
    arguments = rows, draw(4, 2, seed=4).float().softmax(-1), torch.zeros(2, 6), basis, torch.ones(2, 3), torch.ones(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = unseen(rows, weight), *follow_subspaces(*arguments)
    torch.testing.assert_close(values, (unseen(rows, weight), *follow_subspaces(*arguments)))
    assert unseen(rows.bfloat16(), weight.bfloat16()).dtype == torch.float32
