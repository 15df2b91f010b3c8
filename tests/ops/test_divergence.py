"""Divergences and reductions."""

from __future__ import annotations

import math

import torch

from limbeck.ops.divergence import kl, log_softmax
from limbeck.ops.precision import widen
from limbeck.ops.reduce import example_mean


def test_kl_by_hand():
    p, q = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    torch.testing.assert_close(kl(p, q), torch.tensor([0.75 * math.log(1.5) + 0.25 * math.log(0.5)]))
    torch.testing.assert_close(kl(q, p), torch.tensor([0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)]))
    assert kl(p, p).item() == 0


def test_log_softmax_is_wide():
    assert log_softmax(torch.zeros(2, 4).bfloat16()).dtype == torch.float32
    assert log_softmax(torch.zeros(2, 4).double()).dtype == torch.float64


def test_widen_keeps_what_is_wide():
    x = torch.zeros(2)
    assert widen(x) is x
    assert widen(x.half()).dtype == torch.float32
    assert widen(x.double()).dtype == torch.float64


def test_example_mean():
    assert example_mean(torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]])).tolist() == [3.0, 1.0]
    assert example_mean(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
