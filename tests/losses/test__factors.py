"""Stacks of convolutions, the autoencoder of the teacher, distances of normalised factors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbeck.errors import ShapeMismatch
from limbeck.losses._factors import Paraphraser, convolutions, factor_gap


def layers(stack):
    return [type(layer).__name__ for layer in stack]


def test_convolutions_keep_height_and_width():
    like = torch.zeros(2, 3, 4, 5)
    plain = convolutions([3, 4, 2], like, norm=False, activation=nn.ReLU())
    assert layers(plain) == ["Conv2d", "ReLU", "Conv2d", "ReLU"]
    assert plain(like).shape == (2, 2, 4, 5)
    assert [tuple(p.shape) for p in plain.parameters()] == [(4, 3, 3, 3), (4,), (2, 4, 3, 3), (2,)]
    normed = convolutions([3, 4], like, norm=True, activation=nn.ReLU(), transposed=True)
    assert layers(normed) == ["ConvTranspose2d", "BatchNorm", "ReLU"]
    assert normed(like).shape == (2, 4, 4, 5)


@pytest.mark.parametrize(("dtype", "device"), [(torch.bfloat16, "cpu"), (torch.float64, "cpu"), (torch.float32, "meta")])
def test_device_and_precision(dtype, device):
    like = torch.zeros(2, 3, 4, 4, dtype=dtype, device=device)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    for module in (convolutions([3, 4], like, norm=True, activation=nn.ReLU()), Paraphraser(3, 2, like)):
        assert all((p.dtype, p.device.type) == (wanted, device) for p in module.parameters())


def test_paraphraser():
    like = torch.randn(2, 6, 4, 4)
    paraphraser = Paraphraser(6, 3, like)
    code = paraphraser.encoder(like)
    assert code.shape == (2, 3, 4, 4)
    assert paraphraser.decoder(code).shape == like.shape
    assert layers(paraphraser.encoder) == ["Conv2d", "LeakyReLU"] * 3
    assert layers(paraphraser.decoder) == ["ConvTranspose2d", "LeakyReLU"] * 3
    assert [layer.out_channels for layer in paraphraser.encoder[::2]] == [6, 3, 3]
    assert [layer.out_channels for layer in paraphraser.decoder[::2]] == [3, 6, 6]
    assert paraphraser.encoder[1].negative_slope == 0.1


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("q", [1.0, 2.0, 3.0])
def test_gap_oracle(draw, p, q):
    s, t = draw(2, 3, 2, 2)
    got = factor_gap(s, t, p=p, q=q)
    for i in range(2):
        x, y = s[i].flatten().tolist(), t[i].flatten().tolist()
        a, b = (sum(abs(v) ** q for v in row) ** (1 / q) for row in (x, y))
        expected = sum(abs(v / a - w / b) ** p for v, w in zip(x, y, strict=True)) ** (1 / p)
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_gap_of_dead_equal_and_half_factors(draw):
    for p in (1.0, 2.0, 3.0):
        zeros = torch.zeros(2, 3, requires_grad=True)
        for teacher in (torch.ones(2, 3), torch.zeros(2, 3)):
            value = factor_gap(zeros, teacher, p=p, q=2)
            value.sum().backward()
            assert value.isfinite().all()
            assert zeros.grad.isfinite().all()
    s, t = (x.bfloat16() for x in draw(2, 5))
    torch.testing.assert_close(factor_gap(s, t, p=1, q=2), factor_gap(s.float(), t.float(), p=1, q=2))
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3\] and teacher \[2, 4\] must have the same shape here"):
        factor_gap(torch.zeros(2, 3), torch.zeros(2, 4), p=1, q=2)
