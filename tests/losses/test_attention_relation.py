"""Self-attention relations: values by hand, MiniLM's formulas written out, identities, messages."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.padded import check_padding

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.attention_relation import AttentionRelation, relation_divergence, relation_scores
from limbeck.types import Signals


def test_scores_by_hand():
    first = torch.tensor([[[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, 2.0, 0.0]]])
    second = torch.tensor([[[1.0, 0.0, 1.0, 1.0], [3.0, 1.0, 0.0, 2.0]]])
    got = relation_scores(first, second, heads=2)
    assert got.shape == (1, 2, 2, 2)
    torch.testing.assert_close(got[0] * math.sqrt(2), torch.tensor([[[1.0, 5.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 0.0]]]))
    assert relation_scores(first, second, heads=1)[0, 0, 0, 0].item() == pytest.approx(2 / 2)


def written_out(q: torch.Tensor, k: torch.Tensor, heads: int) -> torch.Tensor:
    """Scores of every example, head, query and key, one by one."""
    width = q.shape[-1] // heads
    rows = [
        [
            [[(q[b, i, a : a + width] @ k[b, j, a : a + width]) / width**0.5 for j in range(q.shape[1])] for i in range(q.shape[1])]
            for a in at
        ]
        for b, at in enumerate([range(0, q.shape[-1], width)] * len(q))
    ]
    return torch.tensor(rows, dtype=q.dtype)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_value_relation_of_minilm(draw, heads):
    student, teacher = draw(2, 3, 8)
    p, q = (written_out(x, x, heads).softmax(-1) for x in (teacher, student))
    expected = (p * (p / q).log()).sum((1, 2, 3)) / (heads * 3)
    torch.testing.assert_close(AttentionRelation(heads=heads)(Signals.of(student), Signals.of(teacher)), expected)


def test_queries_and_keys_are_the_attention(draw):
    q, k, tq, tk = draw(2, 3, 8, count=4)
    ours, theirs = written_out(q, k, 2), written_out(tq, tk, 2)
    signals = Signals.of(q, k), Signals.of(tq, tk)
    p, r = theirs.softmax(-1), ours.softmax(-1)
    torch.testing.assert_close(AttentionRelation(heads=2, relation="pair")(*signals), (p * (p / r).log()).sum((1, 2, 3)) / 6)
    scores = AttentionRelation(heads=2, relation="pair", form="mse")(*signals)
    torch.testing.assert_close(scores, (ours - theirs).square().mean((1, 2, 3)))


def test_relations_and_layers_are_summed(draw):
    a, b, c, d = draw(2, 3, 8, count=4)
    single = AttentionRelation(heads=2)
    alone = single(Signals.of(a), Signals.of(c)) + single(Signals.of(b), Signals.of(d))
    torch.testing.assert_close(single(Signals.of(a, b), Signals.of(c, d)), alone)
    double = AttentionRelation(heads=2, relation="pair")
    layers = double(Signals.of(a, b, b, d), Signals.of(c, d, a, c))
    torch.testing.assert_close(layers, double(Signals.of(a, b), Signals.of(c, d)) + double(Signals.of(b, d), Signals.of(a, c)))


def test_widths_need_not_agree(draw):
    (student,), (teacher,) = draw(2, 3, 4, count=1), draw(2, 3, 10, count=1)
    assert AttentionRelation(heads=2)(Signals.of(student), Signals.of(teacher)).shape == (2,)


def test_half_precision_is_widened(draw):
    student, teacher = (x.bfloat16() for x in draw(2, 3, 8))
    with torch.autocast("cpu", torch.bfloat16):
        got = AttentionRelation(heads=2)(Signals.of(student), Signals.of(teacher))
    torch.testing.assert_close(got, AttentionRelation(heads=2)(Signals.of(student.float()), Signals.of(teacher.float())))


def test_messages(draw):
    a, b, c = draw(2, 3, 8, count=3)
    with pytest.raises(SignalMissing) as missing:
        AttentionRelation(relation="pair")(Signals.of(a, b, c), Signals.of(a, b, c))
    assert str(missing.value) == "relation: pair takes layers two by two, such as queries and keys; found 3."
    with pytest.raises(ShapeMismatch) as shape:
        AttentionRelation(heads=3)(Signals.of(a), Signals.of(b))
    assert str(shape.value) == "8 channels cannot be divided among 3 heads; choose another number of heads."
    loss = AttentionRelation()
    assert (loss.heads, loss.relation, loss.form) == (1, "self", "kl")
    assert (loss.needs.features, loss.needs.match, loss.needs.padding) == ("many", "space", True)


def test_padding(draw):
    for loss in (AttentionRelation(heads=2), AttentionRelation(heads=3, form="mse")):
        check_padding(loss, *draw(2, 4, 6))


def test_what_is_compared_must_be_of_one_shape():
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 3, 4\] and teacher \[1, 3, 4\] must have the same shape"):
        relation_scores(torch.ones(2, 3, 4), torch.ones(1, 3, 4), heads=2)
    with pytest.raises(ShapeMismatch, match=r"^student \[2, 1, 3, 3\] and teacher \[1, 1, 3, 3\] must have the same shape"):
        relation_divergence(torch.ones(2, 1, 3, 3), torch.ones(1, 1, 3, 3), None)
