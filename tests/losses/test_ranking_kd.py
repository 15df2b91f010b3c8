"""Distillation of ranks: values by hand, oracles by loops, what the order does not see."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from limbeck.losses.kd import softened_kl
from limbeck.losses.ranking_kd import RankingKD, listwise, pairwise, preferences
from limbeck.types import Signals


def test_listwise_by_hand():
    """The student draws 1/6, 2/6, 3/6; the teacher's order is the last, the first, the second."""
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]).log(), torch.tensor([[0.0, -1.0, 4.0]])
    got = RankingKD()(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx(-math.log(3 / 6) - math.log(1 / 3), rel=1e-5)
    assert listwise(student, teacher, top=1).item() == pytest.approx(-math.log(3 / 6), rel=1e-5)


@pytest.mark.parametrize("top", [1, 3, 5, 9])
def test_listwise_by_loops(draw, top):
    student, teacher = draw(3, 5)
    got = listwise(student, teacher, top=top)
    for i in range(3):
        order = sorted(range(5), key=lambda k: -teacher[i, k].item())
        worth = [math.exp(student[i, k].item()) for k in order]
        expected = sum(math.log(sum(worth[j:]) / worth[j]) for j in range(min(top, 5)))
        assert got[i].item() == pytest.approx(expected, rel=1e-9)


def test_listwise_is_a_likelihood(draw):
    """Over all orders that a teacher may have, the probabilities sum to 1."""
    (student,) = draw(1, 4, count=1)
    orders = torch.tensor(list(itertools.permutations(range(4))), dtype=torch.float64)
    assert (-listwise(student.expand(24, 4), orders, top=4)).exp().sum().item() == pytest.approx(1)


def test_the_first_class_alone_is_cross_entropy(draw):
    student, teacher = draw(4, 6)
    torch.testing.assert_close(
        listwise(student, teacher, top=1), torch.nn.functional.cross_entropy(student, teacher.argmax(-1), reduction="none")
    )
    torch.testing.assert_close(listwise(student, teacher, top=1), softened_kl(student, 1e4 * teacher, temperature=1.0))


def test_pairwise_by_hand():
    """Teacher's order: 0, 1, 2. The student's gaps are 0.5 (0 over 1), -1 (0 over 2) and -1.5 (1 over 2)."""
    student, teacher = torch.tensor([[1.0, 0.5, 2.0]]), torch.tensor([[3.0, 2.0, 1.0]])
    got = RankingKD(form="pairwise", margin=0.75)(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx((0.25 + 1.75 + 2.25) / 3)
    first = RankingKD(form="pairwise", margin=0.75, top=1)(Signals(student), Signals(teacher))
    assert first.item() == pytest.approx(1.75)


@pytest.mark.parametrize("top", [1, 2, 4, 6, 9])
def test_pairwise_by_loops(draw, top):
    student, teacher = draw(3, 6)
    got = pairwise(student, teacher, top=top, margin=0.6)
    for i in range(3):
        s, t = student[i].tolist(), teacher[i].tolist()
        order = sorted(range(6), key=lambda k: -t[k])
        listed, rest = order[:top], order[top:]
        items = [(t[k], s[k]) for k in listed] + ([(max(t[k] for k in rest), max(s[k] for k in rest))] if rest else [])
        pairs = [(a, b) for a in items for b in items if a[0] > b[0]]
        assert got[i].item() == pytest.approx(sum(max(0, 0.6 - (a[1] - b[1])) for a, b in pairs) / len(pairs), rel=1e-9)


def test_pairs_that_the_teacher_does_not_tell_apart_are_left_out():
    student = torch.tensor([[1.0, 3.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
    value = pairwise(student, teacher, top=3, margin=2.0)
    assert value.tolist() == [0.5, 0.0]
    value.sum().backward()
    assert student.grad is not None
    assert student.grad.tolist() == [[-0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]
    tied_with_the_rest = pairwise(student.detach(), teacher, top=1, margin=2.0)
    assert tied_with_the_rest.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
def test_only_the_order_of_the_teacher_counts(draw, form):
    student, teacher = draw(4, 6)
    loss = RankingKD(form=form)
    torch.testing.assert_close(loss(Signals(student), Signals(teacher.exp())), loss(Signals(student), Signals(teacher)))
    in_order = loss(Signals(9 * teacher), Signals(teacher))
    assert (in_order < loss(Signals(-9 * teacher), Signals(teacher))).all()


def test_a_clear_order_costs_nothing():
    teacher = torch.arange(5.0)[None]
    assert RankingKD(form="pairwise")(Signals(teacher), Signals(teacher)).item() == 0
    assert RankingKD()(Signals(1e3 * teacher), Signals(teacher)).item() == pytest.approx(0, abs=1e-6)
    uneven = 37.3 * torch.arange(1.0, 201.0)[None] ** 1.7
    assert listwise(uneven, uneven, top=200).item() == 0  # each class meets its own rivals: nothing large is left to cancel


@pytest.mark.parametrize("form", ["listwise", "pairwise"])
def test_large_logits_and_many_classes(form):
    generator = torch.Generator().manual_seed(0)
    student, teacher = 1e4 * torch.randn(2, 2, 100_000, generator=generator)
    student.requires_grad_()
    value = RankingKD(form=form)(Signals(student), Signals(teacher))
    exact = RankingKD(form=form)(Signals(student.detach().double()), Signals(teacher.double()))
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    value.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [3, 13])
@pytest.mark.parametrize("form", ["listwise", "pairwise", "logistic", "gap"])
def test_half_precision_and_tokens(draw, form, tokens, dtype):
    student, teacher = (x.to(dtype) for x in draw(2, tokens, 12))
    got = RankingKD(form=form)(Signals(student), Signals(teacher))
    assert got.shape == (2, tokens)
    torch.testing.assert_close(got[1], RankingKD(form=form)(Signals(student[1]), Signals(teacher[1])))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, RankingKD(form=form)(Signals(student.float()), Signals(teacher.float())))


@pytest.mark.parametrize("top", [1, 3, 20])
@pytest.mark.parametrize("form", ["logistic", "gap"])
def test_forms_for_a_stored_teacher_by_loops(draw, form, top):
    student, teacher = draw(4, 5)
    p, q = teacher.softmax(-1).tolist(), student.softmax(-1).tolist()
    expected = []
    for i in range(4):
        best = sorted(range(5), key=lambda k: -p[i][k])[:top]
        pairs = [(a, b) for a in best for b in best if p[i][a] > p[i][b]]
        if form == "gap":
            values = [max(0.0, p[i][a] - p[i][b] - (q[i][a] - q[i][b])) for a, b in pairs]
        else:
            values = [math.log1p(math.exp(student[i, b].item() - student[i, a].item())) for a, b in pairs]
        expected.append(sum(values) / max(len(pairs), 1))
    assert RankingKD(form=form, top=top)(Signals(student), Signals(teacher)).tolist() == pytest.approx(expected, rel=1e-9)


def test_pairs_of_a_stored_teacher():
    """Sum and number; a margin of its own; classes of almost no probability are not told apart."""
    student, worth = torch.tensor([[1.0, 0.0, 2.0, 0.0]]), torch.tensor([[0.6, 0.2, 1e-10]])
    index = torch.tensor([[2, 0, 1]])
    q = student.softmax(-1)[0].tolist()
    total, count = preferences(student, worth, index, form="gap", margin=0.9, least=1e-9)
    assert count.tolist() == [1]
    assert total.item() == pytest.approx(0.9 - (q[2] - q[0]))
    total, count = preferences(student, worth, index, form="logistic", margin=None, least=1e-11)
    assert count.tolist() == [3]
    assert total.item() == pytest.approx(2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)))
    smallest = torch.tensor([[0.6, 0.6 - 2e-9, 0.5e-9]], dtype=torch.float64)
    for form in ("logistic", "gap"):
        _, count = preferences(student, smallest, index, form=form, margin=None, least=1e-9)
        assert count.tolist() == [1]


def test_defaults_and_bounds():
    loss = RankingKD()
    assert (loss.form, loss.top, loss.margin) == ("listwise", 10, 1.0)
    with pytest.raises(ValueError, match=r"^RankingKD\.top must be > 0, got 0$"):
        RankingKD(top=0)
    with pytest.raises(ValueError, match=r"^RankingKD\.margin must be >= 0, got -1$"):
        RankingKD(margin=-1)


def test_needs():
    needs = RankingKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.label_kinds) == (True, False, True, "none", ("class",))


@pytest.mark.parametrize("form", ["logistic", "gap"])
def test_where_no_pair_is_ordered_the_value_is_0_and_one_pair_is_divided_by_one(form):
    """A teacher of two classes has one pair, whose value is its own mean."""
    teacher, student = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 3.0], [1.0, 3.0]])
    got = RankingKD(form=form)(Signals(student), Signals(teacher))
    worth, index = teacher.softmax(-1).topk(2)
    total, count = preferences(student, worth, index, form=form, margin=None, least=1e-9)
    assert count.tolist() == [1, 0]
    torch.testing.assert_close(got, torch.stack([total[0], torch.zeros(())]))
