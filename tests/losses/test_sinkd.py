"""Sinkhorn distillation: value by hand, an oracle by loops, limiting cases, memory bound, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity
from tests.ops.test_sinkhorn import naive

from limbeck.losses.sinkd import SinKD, prediction_costs
from limbeck.types import Signals


def test_one_example_by_hand():
    """A batch of one has one way to move: 1/2 and 1/2 against 3/4 and 1/4."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    assert SinKD()(Signals(student), Signals(teacher)).item() == pytest.approx(0.5)
    assert SinKD(variant="official")(Signals(student), Signals(teacher)).item() == pytest.approx(0.0005)


@pytest.mark.parametrize(("variant", "factor"), [("paper", 1 / 4), ("official", 0.001)])
def test_oracle(draw, variant, factor):
    student, teacher = draw(4, 5)
    ours, theirs = ((x / 3).softmax(-1).tolist() for x in (student, teacher))
    cost = torch.tensor([[sum(abs(a - b) for a, b in zip(p, q, strict=True)) for q in theirs] for p in ours], dtype=torch.float64)
    got = SinKD(temperature=3.0, epsilon=0.2, rounds=3, variant=variant)(Signals(student), Signals(teacher))
    assert got.item() == pytest.approx(factor * (naive(cost, 0.2, 3) * cost).sum().item(), rel=1e-9)


def test_no_class_in_common_costs_two_at_most():
    student, teacher = torch.full((3, 4), -50.0), torch.full((3, 4), -50.0)
    student[:, 0], teacher[:, 1] = 50, 50
    assert SinKD()(Signals(student), Signals(teacher)).item() == pytest.approx(2)


def test_equal_and_distinct_predictions_cost_next_to_nothing():
    logits = 100 * torch.eye(5)
    assert SinKD()(Signals(logits), Signals(logits)).item() < 1e-6


def test_only_the_set_of_predictions_counts(draw):
    student, teacher = draw(5, 4)
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = SinKD(rounds=300)
    torch.testing.assert_close(loss(Signals(student[order]), Signals(teacher)), loss(Signals(student), Signals(teacher)))


def test_tokens_are_examples(draw):
    student, teacher = draw(2, 3, 6)
    flat = SinKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)))
    torch.testing.assert_close(SinKD()(Signals(student), Signals(teacher)), flat)


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 6])
def test_chunk_changes_neither_value_nor_gradient(draw, chunk):
    student, teacher = draw(5, 4)
    values = []
    for loss in (SinKD(), SinKD(chunk=chunk)):
        own = student.clone().requires_grad_()
        value = loss(Signals(own), Signals(teacher))
        value.backward()
        values.append((value.detach(), own.grad))
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize(("chunk", "calls"), [(5, 0), (4, 2), (2, 3)])
def test_chunks_are_checkpointed(draw, monkeypatch, chunk, calls):
    seen = []
    monkeypatch.setattr("limbeck.losses.sinkd.checkpoint", lambda f, *args, use_reentrant: (seen.append(use_reentrant), f(*args))[1])
    student, teacher = draw(5, 4)
    costs = prediction_costs(student, teacher, temperature=1.0, chunk=chunk)
    assert seen == [False] * calls
    torch.testing.assert_close(costs, (student.softmax(-1)[:, None] - teacher.softmax(-1)).abs().sum(-1))


def test_costs_keep_their_precision_under_autocast(draw):
    student, teacher = (x.float() for x in draw(5, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        costs = prediction_costs(student, teacher, temperature=1.0, chunk=2)
    torch.testing.assert_close(costs, prediction_costs(student, teacher, temperature=1.0, chunk=2))


def test_sharpest_entropy_at_the_farthest_predictions_is_finite():
    student = (1e4 * torch.eye(4)[[0, 0, 1, 1]]).requires_grad_()
    value = SinKD(epsilon=0.05, rounds=100)(Signals(student), Signals(1e4 * torch.eye(4)[[2, 3, 3, 1]]))
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_defaults_and_bounds():
    loss = SinKD()
    assert (loss.temperature, loss.epsilon, loss.rounds, loss.chunk, loss.variant) == (2.0, 0.1, 20, 256, "paper")
    with pytest.raises(ValueError, match=r"^SinKD\.epsilon must be >= 0\.05, got 0\.04$"):
        SinKD(epsilon=0.04)
    for name in ("rounds", "chunk", "temperature"):
        with pytest.raises(ValueError, match=rf"^SinKD\.{name} must be > 0, got 0$"):
            SinKD(**{name: 0})  # pyright: ignore[reportArgumentType]


def test_needs():
    needs = SinKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)


def test_golden():
    check_parity("../language/sinkd_sinkhorn")
