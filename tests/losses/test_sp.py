"""Similarity preserving: value by hand, an oracle by loops, invariances, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import SignalMissing
from limbeck.losses import sp
from limbeck.losses.sp import SP
from limbeck.types import Signals


def similarity_gap(student, teacher, order=2, chunk=100):
    return sp.similarity_gap(student, teacher, order=order, chunk=chunk)


def test_value_by_hand():
    """Student: two equal examples; teacher: two at a right angle. Rows (1, 1)/sqrt 2 against (1, 0) and (0, 1)."""
    student, teacher = torch.tensor([[3.0], [3.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    row = (1 - math.sqrt(0.5)) ** 2 + 0.5
    assert SP()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(2 * row / 4)


def test_oracle(draw):
    (student,), (teacher,) = draw(5, 2, 3, count=1), draw(5, 4, count=1, seed=9)

    def rows(x):
        x = x.flatten(1).tolist()
        gram = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in x] for a in x]
        return [[value / math.hypot(*row) for value in row] for row in gram]

    s, t = rows(student), rows(teacher)
    expected = sum((s[i][j] - t[i][j]) ** 2 for i in range(5) for j in range(5)) / 25
    assert SP()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(expected, rel=1e-9)


def test_layers_add_up(draw):
    a, b, c, d = draw(4, 6, count=4)
    torch.testing.assert_close(SP()(Signals.of(a, b), Signals.of(c, d)), similarity_gap(a, c) + similarity_gap(b, d))


def test_rotation_and_scale_of_an_embedding_do_not_matter(draw):
    (x,), (t,), (q,) = draw(5, 4, count=1), draw(5, 3, count=1, seed=4), draw(4, 4, count=1, seed=5)
    rotation = torch.linalg.qr(q).Q
    torch.testing.assert_close(similarity_gap(7 * x @ rotation, t), similarity_gap(x, t))


def test_a_batch_of_one_is_zero(draw):
    (student,), (teacher,) = draw(1, 4, count=1), draw(1, 3, count=1, seed=4)
    assert similarity_gap(student, teacher).item() == 0


def test_autocast_does_not_touch_the_similarities():
    student, teacher = torch.randn(2, 6, 8).unbind()
    expected = similarity_gap(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(similarity_gap(student, teacher), expected)


def test_needs():
    needs = SP().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "any",
        True,
    )


def test_torchdistill_divides_rows_by_sums():
    """Rows (1, 1)/2 and, of inner products 4 and -2, (2, -1)/3 and (-1, 2)/3: absolute values count."""
    student, teacher = torch.tensor([[3.0], [3.0]]), torch.tensor([[1.0, 1.0], [0.0, -2.0]])
    gram = [[2.0, -2.0], [-2.0, 4.0]]
    rows = [[value / sum(map(abs, row)) for value in row] for row in gram]
    expected = sum((0.5 - value) ** 2 for row in rows for value in row) / 4
    assert SP(variant="torchdistill")(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["paper", "torchdistill"])
@pytest.mark.parametrize("chunk", [1, 2, 4, 5])
def test_chunk_changes_neither_value_nor_gradient(draw, chunk, variant):
    student, teacher = draw(5, 3)
    values = []
    for loss in (SP(variant=variant), SP(variant=variant, chunk=chunk)):
        own = student.clone().requires_grad_()
        value = loss(Signals.of(own), Signals.of(teacher))
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


def test_chunk_bounds_the_memory():
    kept = {}
    for chunk in (8, 64):
        sizes = {}  # by storage: what is kept twice is one tensor
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: (sizes.update({x.data_ptr(): x.numel()}), x)[1], lambda x: x):
            SP(chunk=chunk)(Signals.of(torch.randn(64, 4, requires_grad=True)), Signals.of(torch.randn(64, 4)))
        kept[chunk] = sum(sizes.values())
    assert kept[64] > 64**2
    assert kept[8] < 64**2 / 4


def test_defaults_and_bounds():
    assert (SP().variant, SP().chunk) == ("paper", 1024)
    with pytest.raises(ValueError, match=r"^SP\.chunk must be > 0, got 0$"):
        SP(chunk=0)


def test_as_many_layers_on_both_sides():
    with pytest.raises(SignalMissing, match=r"^features come in pairs, found 1 of the student \['0'\] and 2 of the teacher \['0', '1'\]"):
        SP()(Signals.of(torch.zeros(2, 3)), Signals.of(torch.zeros(2, 3), torch.zeros(2, 3)))


def test_golden():
    check_parity("sp", "sp_torchdistill", "diswot__relation_loss")
