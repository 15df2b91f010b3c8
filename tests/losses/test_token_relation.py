"""Token relations: value by hand, an oracle by loops, invariances, both ways of computing it, golden numbers."""

from __future__ import annotations

import pytest
import torch
from tests.losses.padded import check_padding
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.token_relation import TokenRelation, relation_gap
from limbeck.types import Signals


def test_value_by_hand():
    """Student: two tokens at a right angle, products (1, 0, 0, 4). Teacher: equal tokens, all products 1, in a space of any width."""
    student, teacher = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[1.0], [1.0]]])
    assert TokenRelation()(Signals.of(student), Signals.of(teacher)).tolist() == pytest.approx([1 - 5 / (17**0.5 * 2)])
    assert TokenRelation(normalise=True)(Signals.of(student), Signals.of(teacher)).tolist() == pytest.approx([1 - 2 / (2**0.5 * 2)])


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("tokens", "widths"), [(3, (2, 4)), (4, (2, 4)), (5, (2, 4)), (9, (3, 3))])
def test_oracle(draw, normalise, tokens, widths):
    (s,), (t,) = (draw(2, tokens, width, count=1, seed=width + i) for i, width in enumerate(widths))
    got = TokenRelation(normalise=normalise)(Signals.of(s), Signals.of(t))
    assert got.shape == (2,)

    def products(rows):
        rows = rows.tolist()
        if normalise:
            rows = [[v / sum(x * x for x in row) ** 0.5 for v in row] for row in rows]
        return [sum(a * b for a, b in zip(p, q, strict=True)) for p in rows for q in rows]

    for i in range(2):
        a, b = products(s[i]), products(t[i])
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5
        assert got[i].item() == pytest.approx(1 - cosine, rel=1e-9)


@pytest.mark.parametrize("tokens", [3, 9])
def test_rotation_and_scale_do_not_matter(draw, tokens):
    (s,), (t,), (q,) = draw(2, tokens, 4, count=1), draw(2, tokens, 5, count=1, seed=4), draw(4, 4, count=1, seed=5)
    moved = 7 * s @ torch.linalg.qr(q).Q
    torch.testing.assert_close(relation_gap(moved, t, normalise=False), relation_gap(s, t, normalise=False))


@pytest.mark.parametrize("tokens", [2, 9])
@pytest.mark.parametrize("normalise", [False, True])
def test_zero_tokens_are_finite(tokens, normalise):
    student = torch.zeros(1, tokens, 3, requires_grad=True)
    value = relation_gap(student, torch.ones(1, tokens, 3), normalise=normalise)
    value.sum().backward()
    assert value.item() == pytest.approx(0.5)
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert relation_gap(torch.ones(1, tokens, 3), student, normalise=normalise).item() == pytest.approx(0.5)


@pytest.mark.parametrize("tokens", [3, 9])
def test_magnitudes_and_autocast(tokens):
    s, t = torch.randn(2, 2, tokens, 4, generator=torch.Generator().manual_seed(0)).unbind()
    expected = relation_gap(s, t, normalise=False)
    torch.testing.assert_close(relation_gap(1e15 * s, 1e-15 * t, normalise=False), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(relation_gap(s, t, normalise=False), expected)


def test_the_larger_matrix_is_not_formed():
    """Many positions of few channels: what is kept for the gradient is of order positions times channels."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        relation_gap(torch.randn(1, 3, 32, 32, requires_grad=True), torch.randn(1, 4, 32, 32), normalise=True)
    assert max(sizes) <= 1024 * 4


@pytest.mark.parametrize("widths", [(2, 64), (64, 2)])
def test_nor_is_that_of_the_channels_where_they_are_more(widths):
    sizes = []
    s, t = (torch.randn(1, 8, width, requires_grad=True) for width in widths)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
        relation_gap(s, t, normalise=False)
    assert max(sizes) <= 8 * 64


def test_defaults_needs_and_mistakes():
    assert TokenRelation().normalise is False
    needs = TokenRelation().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "one",
        "space",
        False,
    )
    text = r"^student \[2, 3, 4\] and teacher \[2, 4, 4\] must have as many tokens here; tap layers with the same tokens\.$"
    with pytest.raises(ShapeMismatch, match=text):
        TokenRelation()(Signals.of(torch.zeros(2, 3, 4)), Signals.of(torch.zeros(2, 4, 4)))


def test_golden():
    check_parity("../language/llava_kd_relation")


def test_padding(draw):
    for loss in (TokenRelation(), TokenRelation(normalise=True)):
        check_padding(loss, *draw(2, 4, 6))
