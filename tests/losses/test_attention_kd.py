"""Attention distillation: values by hand, heads, masked scores, needs."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.padded import MASK, by_example
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.attention_kd import AttentionKD, attention_divergence, attention_errors, one_map
from limbeck.types import Signals


def test_scores_by_hand():
    student = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 1.0]]]])
    teacher = torch.zeros(1, 2, 2, 2)
    signals = Signals.of(student), Signals.of(teacher)
    assert AttentionKD()(*signals).tolist() == [31 / 8]
    assert AttentionKD(heads="sum")(*signals).tolist() == [(1 + 4 + 9 + 25) / 4]
    assert AttentionKD(heads="mean")(*signals).tolist() == [39 / 16]


def test_attention_by_hand():
    """Two queries: (1/4, 3/4) against (1/2, 1/2), and the same."""
    student = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    teacher = torch.tensor([[[[0.0, math.log(3)], [2.0, 2.0]]]])
    got = AttentionKD(form="kl")(Signals.of(student), Signals.of(teacher))
    assert got.tolist() == pytest.approx([(0.25 * math.log(0.5) + 0.75 * math.log(1.5)) / 2])


def test_the_mean_over_the_layers(draw):
    a, b, c, d = draw(3, 2, 4, 4, count=4)
    for form in ("mse", "kl"):
        loss = AttentionKD(form=form)
        both = loss(Signals.of(a, b), Signals.of(c, d))
        torch.testing.assert_close(both, (loss(Signals.of(a), Signals.of(c)) + loss(Signals.of(b), Signals.of(d))) / 2)
        assert both.shape == (3,)


def test_one_map(draw):
    (scores,) = draw(2, 3, 4, 5, count=1)
    assert one_map(scores, "each") is scores
    torch.testing.assert_close(one_map(scores, "mean"), scores.mean(1))
    torch.testing.assert_close(one_map(scores, "sum"), scores.sum(1))
    assert one_map(scores[:, 0], "mean").shape == (2, 4, 5)
    assert one_map(scores.half(), "each").dtype == torch.float32


def test_masked_scores():
    """Minus infinity on both sides costs nothing in either form."""
    student = torch.tensor([[[[1.0, -math.inf], [2.0, 0.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[3.0, -math.inf], [1.0, 1.0]]]])
    even = math.log(0.5 * (1 + math.exp(-2))) + math.log(0.5 * (1 + math.exp(2)))
    for loss, expected in ((AttentionKD(), (4 + 1 + 1) / 4), (AttentionKD(form="kl"), 0.5 * even / 2)):
        value = loss(Signals.of(student), Signals.of(teacher))
        assert value.item() == pytest.approx(expected)
        (found,) = torch.autograd.grad(value.sum(), student)
        assert found.isfinite().all()
        assert found[0, 0, 0, 1] == 0


def test_what_textbrewer_takes_for_masked():
    """Scores of at most -0.001 count as 0, and the teacher's have no probability."""
    student, teacher = torch.tensor([[[[-1.0, 2.0]]]]), torch.tensor([[[[0.5, -1e-3]]]])
    loss = AttentionKD(variant="textbrewer")
    assert loss(Signals.of(student), Signals.of(teacher)).item() == pytest.approx((0.25 + 4) / 2)
    assert AttentionKD()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx((2.25 + 2.001**2) / 2)
    p, q = teacher.softmax(-1)[0, 0, 0, 0].item(), student.softmax(-1)[0, 0, 0, 0].item()
    got = AttentionKD(form="kl", variant="textbrewer")(Signals.of(student), Signals.of(teacher))
    assert got.item() == pytest.approx(p * math.log(p / q))


def test_scores_around_0_count_for_textbrewer():
    student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[5e-4, 0.0]]]])
    got = AttentionKD(form="kl", variant="textbrewer")(Signals.of(student), Signals.of(teacher))
    torch.testing.assert_close(got, AttentionKD(form="kl")(Signals.of(student), Signals.of(teacher)))
    assert got.item() > 0.1


def test_a_score_of_the_least_does_not_count():
    student, teacher, keys = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, 1.0]]]]), torch.ones(1, 1, 1, 2)
    p = teacher.softmax(-1)[..., 1]
    for given in (keys, None):
        got = attention_divergence(student, teacher, heads="each", least=0.5, kind="forward", keys=given)
        torch.testing.assert_close(got, p * (2 * p).log())


def test_keys_that_do_not_count(draw):
    student, teacher = draw(2, 3, 4, 4)
    keys = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1]]).reshape(2, 1, 1, 4)
    got = attention_divergence(student, teacher, heads="each", least=-math.inf, kind="forward", keys=keys)
    p, q = teacher.softmax(-1), student.softmax(-1)
    torch.testing.assert_close(got, (p * (p / q).log() * keys).sum(-1))
    entropy = attention_divergence(student, teacher, heads="each", least=-math.inf, kind="cross_entropy", keys=keys)
    torch.testing.assert_close(entropy, -(p * q.log() * keys).sum(-1))
    few = attention_divergence(student, teacher, heads="each", least=0.5, kind="forward", keys=keys)
    torch.testing.assert_close(few, (p * (p / q).log() * keys * (teacher > 0.5)).sum(-1))


def test_shapes_must_agree():
    for function in (
        lambda a, b: attention_errors(a, b, heads="each", least=0, counted=None),
        lambda a, b: attention_divergence(a, b, heads="each", least=0, kind="forward", keys=None),
    ):
        with pytest.raises(ShapeMismatch, match=r"student \[1, 2, 3, 3\] and teacher \[1, 4, 3, 3\] must have the same shape"):
            function(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3))


def test_defaults():
    assert (AttentionKD().form, AttentionKD().heads, AttentionKD().variant) == ("mse", "each", "paper")


def test_needs():
    needs = AttentionKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (False, False, True, "many", "full")


def test_golden():
    check_parity("textbrewer_att_mse", "textbrewer_att_mse_sum", "textbrewer_att_ce", "textbrewer_att_ce_mean")


@pytest.mark.parametrize("form", ["mse", "kl"])
@pytest.mark.parametrize("heads", ["each", "mean", "sum"])
def test_padding_of_attention(draw, form, heads):
    student, teacher = draw(2, 3, 4, 4)
    loss = AttentionKD(form=form, heads=heads)
    got = by_example(loss, student, teacher, MASK)
    torch.testing.assert_close(got[:1], by_example(loss, student[:1, :, :2, :2], teacher[:1, :, :2, :2], None))
    torch.testing.assert_close(got[1:], by_example(loss, student[1:], teacher[1:], None))


@pytest.mark.parametrize("form", ["mse", "kl"])
def test_what_stands_at_the_padding_is_not_read(draw, form):
    student, teacher = draw(2, 3, 4, 4)
    loss = AttentionKD(form=form)
    expected = by_example(loss, student, teacher, MASK)
    for scores, value in ((student, 1e4), (teacher, -1e4)):
        scores[0, :, :, 2:] = value
        scores[0, :, 2:] = value
    traced = student.clone().requires_grad_()
    found = by_example(loss, traced, teacher, MASK)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert not traced.grad[0, :, 2:].any()
    assert not traced.grad[0, :, :, 2:].any()
    assert traced.grad[0, :, :2, :2].all()
    nothing = by_example(loss, student, teacher, torch.zeros(2, 4, dtype=torch.int64))
    assert nothing.isfinite().all()


def test_a_text_of_one_token(draw):
    student, teacher = draw(1, 1, 2, 2)
    loss = AttentionKD(form="mse", heads="mean")
    assert loss.needs.padding
    found = by_example(loss, student, teacher, torch.tensor([[1, 0]]))
    torch.testing.assert_close(found, (student[:, 0, 0, 0] - teacher[:, 0, 0, 0]).square())
