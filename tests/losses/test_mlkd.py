"""Multi-level logit distillation: value by hand, an oracle by loops, identities, the authors' shares, golden numbers."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.losses.mlkd import MLKD, three_levels, unsure_shares
from limbeck.types import Signals


def naive(student, teacher, temperature):
    """The three levels by loops over examples and classes."""
    ours, theirs = ([[math.exp(z / temperature) for z in row] for row in x.tolist()] for x in (student, teacher))
    ours, theirs = [[[v / sum(row) for v in row] for row in x] for x in (ours, theirs)]
    b, c = student.shape
    kl = sum(p * math.log(p / q) for i in range(b) for p, q in zip(theirs[i], ours[i], strict=True)) / b

    def alike(x, i, j):
        return sum(x[i][k] * x[j][k] for k in range(c))

    def together(x, i, j):
        return sum(x[k][i] * x[k][j] for k in range(b))

    rows = sum((alike(ours, i, j) - alike(theirs, i, j)) ** 2 for i in range(b) for j in range(b)) / b
    columns = sum((together(ours, i, j) - together(theirs, i, j)) ** 2 for i in range(c) for j in range(c)) / c
    return temperature**2 * kl, rows, columns


def test_by_hand():
    """One example, two classes: 1/2 and 1/2 against 3/4 and 1/4."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]])
    instance, batch, classes = three_levels(student, teacher, temperature=2.0)
    assert instance.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-5)
    assert batch.item() == pytest.approx((10 / 16 - 1 / 2) ** 2, rel=1e-5)
    assert classes.item() == pytest.approx(((9 / 16 - 4 / 16) ** 2 + 2 * (3 / 16 - 4 / 16) ** 2 + (1 / 16 - 4 / 16) ** 2) / 2, rel=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (2, 9), (9, 2)])
def test_levels_oracle(draw, shape):
    student, teacher = draw(*shape)
    got = three_levels(student, teacher, temperature=3.0)
    assert [x.item() for x in got] == pytest.approx(naive(student, teacher, 3.0), rel=1e-9)


def test_the_sum_over_temperatures_and_levels(draw):
    student, teacher = draw(4, 6)
    weights = {"instance_weight": 0.5, "batch_weight": 3.0, "class_weight": 7.0}
    got = MLKD(temperatures=(2.0, 5.0), **weights)(Signals(student), Signals(teacher))  # pyright: ignore[reportArgumentType]
    parts = [naive(student, teacher, temperature) for temperature in (2.0, 5.0)]
    assert got.item() == pytest.approx(sum(0.5 * a + 3 * b + 7 * c for a, b, c in parts), rel=1e-9)


def test_official_scales_by_the_shares(draw):
    student, teacher = draw(5, 7)
    weights = {"instance_weight": 0.5, "batch_weight": 3.0, "class_weight": 7.0}
    got = MLKD(temperatures=(2.0, 5.0), variant="official", **weights)(Signals(student), Signals(teacher))
    parts = [naive(student, teacher, temperature) for temperature in (2.0, 5.0)]
    assert got.item() == pytest.approx(sum(3 / 5 * (0.5 * a + 3 * b) + 4 / 7 * 7 * c for a, b, c in parts), rel=1e-9)


def test_shares_by_hand():
    """Confidences .9 .6 .6 .5 with median .6: three of four. Sums of the classes 1.9 1.2 .9: two of three."""
    p = torch.tensor([[0.9, 0.05, 0.05], [0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.35, 0.45]]).double()
    examples, classes = unsure_shares(p.log())
    assert examples.item() == pytest.approx(0.75)
    assert classes.item() == pytest.approx(2 / 3)


def test_half_of_an_even_number_is_unsure(draw):
    (teacher,) = draw(6, 4, count=1)
    assert [x.item() for x in unsure_shares(teacher)] == [0.5, 0.5]
    assert all(x.dtype == torch.float32 for x in unsure_shares(teacher.bfloat16()))


def test_tokens_are_examples(draw):
    student, teacher = draw(2, 3, 6)
    flat = MLKD()(Signals(student.flatten(0, 1)), Signals(teacher.flatten(0, 1)))
    torch.testing.assert_close(MLKD()(Signals(student), Signals(teacher)), flat)


def test_equal_predictions_give_exactly_zero(draw):
    (logits,) = draw(64, 10, count=1)
    for x in (logits.float(), logits.T.float()):
        assert [v.item() for v in three_levels(x, x.clone(), temperature=2.0)] == [0, 0, 0]


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_a_hundred_thousand_classes_and_one_example(variant):
    student = (1e4 * torch.randn(1, 100_000)).requires_grad_()
    value = MLKD(variant=variant)(Signals(student), Signals(1e4 * torch.randn(1, 100_000)))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


def test_defaults_and_mistakes():
    loss = MLKD()
    assert (loss.temperatures, loss.variant) == ((4.0, 3.0, 5.0, 2.0, 6.0), "paper")
    assert (loss.instance_weight, loss.batch_weight, loss.class_weight) == (1.0, 1.0, 1.0)
    for bad in ((), (4.0, 0.0)):
        with pytest.raises(ValueError, match=r"^MLKD\.temperatures must be one or more numbers > 0, got \(.*\)$"):
            MLKD(temperatures=bad)
    for name in ("instance_weight", "batch_weight", "class_weight"):
        with pytest.raises(ValueError, match=rf"^MLKD\.{name} must be >= 0, got -1$"):
            MLKD(**{name: -1})  # pyright: ignore[reportArgumentType]


def test_small_temperatures_are_allowed():
    assert MLKD(temperatures=(0.5,)).temperatures == (0.5,)


def test_needs():
    needs = MLKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, False, True, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), True)


def test_golden():
    check_parity("mlkd", "logit_std_mlkd")


def test_confidence_is_the_largest_probability():
    """The rows .6 .2 .2 (twice) and .4 .3 .3: the median .6 is the largest; of the least probabilities it would be the smaller of two."""
    p = torch.tensor([[0.6, 0.2, 0.2], [0.6, 0.2, 0.2], [0.4, 0.3, 0.3]]).double()
    assert unsure_shares(p.log())[0].item() == 1


def test_a_class_counts_by_its_probabilities():
    """The third class is certain once, though its logits are the lowest on average; the first two are alike."""
    logits = torch.tensor([[0.0, 0.0, 3.0, 1.0], [0.0, 0.0, -10.0, 1.0]])
    assert unsure_shares(logits)[1].item() == 0.5


def test_half_precision_is_divided_in_float32(draw):
    student, teacher = (x.half() for x in draw(3, 5))
    got = three_levels(student, teacher, temperature=3.0)
    torch.testing.assert_close(got, three_levels(student.float(), teacher.float(), temperature=3.0))
    assert all(value.dtype == torch.float32 for value in got)
