"""The logarithm of a mixture of two distributions."""

import torch

from limbeck.ops.mixture import log_mixture


def test_by_hand():
    a, b = torch.tensor([[0.5, 0.5, 0.0]]).clamp_min(1e-30).log() + 3, torch.tensor([[0.1, 0.2, 0.7]]).log() - 1
    torch.testing.assert_close(log_mixture(a, b, torch.tensor([0.25])).exp(), torch.tensor([[0.2, 0.275, 0.525]]))


def test_the_ends_are_the_two():
    a, b = torch.randn(2, 5), torch.randn(2, 5)
    found = log_mixture(a, b, torch.tensor([1.0, 0.0]))
    assert found.isfinite().all()
    torch.testing.assert_close(found, torch.stack([a[0].log_softmax(0), b[1].log_softmax(0)]))


def test_extreme_logits_and_half_precision():
    a, b = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    torch.testing.assert_close(log_mixture(a, b, torch.tensor([0.5])).exp(), torch.tensor([[0.5, 0.5]]))
    for share in (torch.tensor([0.5]), torch.tensor([0.5], dtype=torch.float64)):
        assert log_mixture(a.bfloat16(), b.bfloat16(), share).dtype == torch.float32
