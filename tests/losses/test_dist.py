"""DIST: value by hand, an oracle by loops, invariances, dense predictions, golden numbers."""

from __future__ import annotations

import statistics

import pytest
import torch
from tests.losses.parity import check_parity

from limbeck.errors import ShapeMismatch
from limbeck.losses.dist import DIST
from limbeck.types import Signals


def probabilities(logits: torch.Tensor, temperature: float) -> list[list[float]]:
    return (logits / temperature).softmax(-1).tolist()


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_oracle(draw, temperature, variant):
    student, teacher = draw(4, 5)
    got = DIST(beta=0.3, gamma=0.7, temperature=temperature, variant=variant)(Signals(student), Signals(teacher))
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    inter = 1 - statistics.fmean(statistics.correlation(a, b) for a, b in zip(p, q, strict=True))
    intra = 1 - statistics.fmean(statistics.correlation(a, b) for a, b in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True))
    assert got.item() == pytest.approx(temperature**2 * (0.3 * inter + 0.7 * intra), rel=1e-5 if variant == "official" else 1e-9)


def test_by_hand():
    """Two classes, two examples: every correlation is 1 or -1, here 1 and -1 between the classes, and -1 between the examples."""
    student, teacher = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    assert DIST(gamma=0.0, beta=1.0)(Signals(student), Signals(teacher)).item() == pytest.approx(1)
    assert DIST(gamma=1.0, beta=0.0)(Signals(student), Signals(teacher)).item() == pytest.approx(2)


def test_an_affine_image_of_the_teacher_is_as_good(draw):
    """What the paper calls a relaxed match: probabilities mixed with the even ones keep all relations."""
    (teacher,) = draw(6, 5, count=1)
    mixed = (0.4 * teacher.softmax(-1) + 0.6 / 5).log()
    assert DIST()(Signals(mixed), Signals(teacher)).item() == pytest.approx(0, abs=1e-12)


def test_dense_predictions_are_examples(draw):
    student, teacher = draw(2, 3, 4, 5)
    got = DIST()(Signals(student), Signals(teacher))
    rows = (x.permute(0, 2, 3, 1).reshape(40, 3) for x in (student, teacher))
    torch.testing.assert_close(got, DIST()(*(Signals(x) for x in rows)))


def test_tokens_are_examples(draw):
    student, teacher = draw(2, 3, 5)
    torch.testing.assert_close(DIST()(Signals(student), Signals(teacher)), DIST()(Signals(student.view(6, 5)), Signals(teacher.view(6, 5))))


def test_zero_at_equality_with_many_classes():
    """The number by which the authors' code guards a correlation is larger than the deviations here."""
    logits = torch.randn(4, 100_000, generator=torch.Generator().manual_seed(0))
    paper, official = (DIST(variant=v)(Signals(logits), Signals(logits.clone())) for v in ("paper", "official"))
    assert paper.item() == 0
    assert official.item() > 1


def test_a_batch_of_one(draw):
    """Between the examples there is nothing to compare; the authors' code counts that as no correlation."""
    student, teacher = draw(1, 5)
    student.requires_grad_()
    values = [DIST(variant=v, beta=0.0)(Signals(student), Signals(teacher)) for v in ("paper", "official")]
    assert [x.item() for x in values] == [0, 2]
    full = DIST()(Signals(student), Signals(teacher))
    full.backward()
    assert student.grad.isfinite().all()
    assert full > 0


def test_defaults_bounds_and_mistakes():
    loss = DIST()
    assert (loss.beta, loss.gamma, loss.temperature, loss.variant) == (2.0, 2.0, 1.0, "paper")
    for field in ("beta", "gamma"):
        with pytest.raises(ValueError, match=rf"^DIST\.{field} must be >= 0, got -1$"):
            DIST(**{field: -1})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^DIST\.temperature must be > 0, got 0$"):
        DIST(temperature=0)
    with pytest.raises(ShapeMismatch, match=r"student \[4, 2\] and teacher \[4, 3\] must have the same shape"):
        loss(Signals(torch.zeros(4, 2)), Signals(torch.zeros(4, 3)))


def test_half_precision_is_divided_in_float32():
    student, teacher = torch.tensor([[60000.0, 0.0], [0.0, 1.0]]).half(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).half()
    got = DIST(temperature=0.5)(Signals(student), Signals(teacher))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, DIST(temperature=0.5)(Signals(student.float()), Signals(teacher.float())))


def test_needs():
    needs = DIST().needs
    assert (needs.logits, needs.labels, needs.features, needs.label_kinds, needs.global_batch) == (True, False, "none", ("class",), True)


def test_golden():
    check_parity("dist", "dist_seg")
