"""Parts of learned connectors: batch norm of one value, stages, the order of a review."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.errors import SignalMissing
from limbeck.losses._connectors import BatchNorm, Review, Stage, VectorNorm, conv_norm, paired_maps
from limbeck.losses.hcl import context_gap
from limbeck.types import Signals


def test_batch_norm_is_torchs_where_there_is_a_spread():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for x in (torch.randn(2, 3, 1, 1), torch.randn(1, 3, 2, 1)):
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_the_norm_of_vectors_is_torchs_where_there_is_a_spread():
    ours, theirs = VectorNorm(3), nn.BatchNorm1d(3)
    for count in (2, 3, 5):
        x = torch.randn(count, 3)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    one = torch.randn(1, 3)
    torch.testing.assert_close(ours.eval()(one), theirs.eval()(one))


@pytest.mark.parametrize(("kind", "places"), [(BatchNorm, (1, 1)), (VectorNorm, ())])
def test_one_value_a_channel_takes_the_running_statistics(kind: type[BatchNorm] | type[VectorNorm], places: tuple[int, ...]):
    norm = kind(3, eps=0.5)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.fill_(3.5)
    with torch.no_grad():
        norm.weight.fill_(4.0)
        norm.bias.fill_(5.0)
    kept = norm.running_mean.clone()
    got = norm(torch.tensor([2.0, 2.0, 1.0]).reshape(1, 3, *places))
    assert got.flatten().tolist() == pytest.approx([4 / 2 + 5, 5, -8 / 2 + 5])
    assert torch.equal(norm.running_mean, kept)
    got = norm.eval()(torch.full((1, 3, *places), 3.0))
    assert got.flatten().tolist() == pytest.approx([8 / 2 + 5, 4 / 2 + 5, 5])


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_conv_norm(kernel):
    like = torch.zeros(1, dtype=torch.float64)
    block = conv_norm(2, 5, kernel, like)
    assert block[0].weight.shape == (5, 2, kernel, kernel)
    assert block[0].weight.dtype == block[1].weight.dtype == torch.float64
    assert block[0].bias is None
    assert block[0].weight.abs().max() <= (3 / (2 * kernel**2)) ** 0.5  # uniform, of variance 1 / fan-in
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    expected = F.batch_norm(F.conv2d(x, block[0].weight, padding=(kernel - 1) // 2), None, None, training=True)
    torch.testing.assert_close(block(x), expected)
    assert conv_norm(2, 5, kernel, like.float())[0].weight.dtype == torch.float32
    assert conv_norm(2, 5, kernel, like.to("meta"))[1].weight.device.type == "meta"


def test_initial_weights_fill_their_range():
    """Kaiming's uniform for a linear layer: the bound is sqrt(3 / fan-in), not that of a ReLU or of torch's default."""
    weight = conv_norm(300, 100, 1, torch.zeros(1))[0].weight
    assert weight.abs().max().item() == pytest.approx((3 / 300) ** 0.5, rel=1e-2)


class Add(nn.Module):
    def forward(self, own, deeper):
        return own + 2 * deeper


def norm(x):
    return F.batch_norm(x, None, None, training=True)


def test_a_stage_mixes_resizes_and_maps():
    stage = Stage(2, 3, 5, Add(), torch.zeros(1))
    x, deeper = torch.randn(4, 2, 4, 4), torch.randn(4, 3, 2, 2)
    output, carried = stage(x, deeper, (2, 6))
    own = norm(F.conv2d(x, stage.enter[0].weight)) + 2 * deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    own = F.interpolate(own, (2, 6))
    torch.testing.assert_close(carried, own)
    torch.testing.assert_close(output, norm(F.conv2d(own, stage.leave[0].weight, padding=1)))
    assert output.shape == (4, 5, 2, 6)


def test_a_review_runs_from_the_deepest_stage():
    stages = [Stage(2, 3, 5, Add(), torch.zeros(1)), Stage(4, 3, 6, None, torch.zeros(1))]
    maps = [torch.randn(4, 2, 4, 4), torch.randn(4, 4, 2, 2)]
    sizes = [torch.Size((4, 4)), torch.Size((2, 2))]
    targets = [torch.randn(4, channels, *size) for channels, size in zip((5, 6), sizes, strict=True)]
    value = Review(stages)(list(zip(maps, targets, strict=True)))
    deep, carried = stages[1](maps[1], None, sizes[1])
    shallow, _ = stages[0](maps[0], carried, sizes[0])
    torch.testing.assert_close(value, context_gap(shallow, targets[0]) + context_gap(deep, targets[1]))
    assert value.shape == (4,)
    text = r"^the review was set up for 2 layers, found 1; name the same layers\.$"
    with pytest.raises(SignalMissing, match=text):
        Review(stages)([(maps[0], targets[0])])


def test_a_review_keeps_its_precision_under_autocast():
    review, x, t = Review([Stage(2, 3, 5, None, torch.zeros(1))]), torch.randn(4, 2, 4, 4), torch.randn(4, 5, 4, 4)
    expected = review([(x, t)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(review([(x, t)]), expected)


def test_pairs_are_maps(draw):
    (s,), (t,) = draw(2, 3, 4, 4, count=1), draw(2, 5, count=1, seed=1)
    tokens = s.flatten(2).mT
    found = paired_maps(Signals.of(s, tokens), Signals.of(t, t))
    assert all(torch.equal(a, s) and torch.equal(b, t[:, :, None, None]) for a, b in found)
    assert len(found) == 2
