"""The virtual teacher: value by hand, an oracle by loops, limiting cases, the authors' softening."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import SignalMissing
from limbeck.losses.tf_kd import TFKD, virtual_logits
from limbeck.types import IGNORE, Signals

LABELS = torch.tensor([0, 3, 5, 2])


def test_by_hand():
    """Two classes, a = 9/10, T = 2: the virtual teacher says 3/4 and 1/4, the student 1/2 and 1/2."""
    got = TFKD(correct=0.9, temperature=2.0)(Signals(torch.zeros(1, 2)), Signals(), torch.tensor([0]))
    assert got.tolist() == pytest.approx([0.75 * math.log(1.5) + 0.25 * math.log(0.5)], rel=1e-5)


def test_official_by_hand():
    """It takes 9/10 and 1/10 for logits, and the mean over the two classes."""
    p = 1 / (1 + math.exp(-0.4))
    got = TFKD(correct=0.9, temperature=2.0, variant="official")(Signals(torch.zeros(1, 2)), Signals(), torch.tensor([0]))
    assert got.tolist() == pytest.approx([(p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))) / 2], rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_oracle(draw, variant):
    (logits,) = draw(4, 6, count=1)
    got = TFKD(correct=0.95, temperature=3.0, variant=variant)(Signals(logits), Signals(), LABELS)
    for i, y in enumerate(LABELS.tolist()):
        virtual = [0.95 if k == y else 0.05 / 5 for k in range(6)]
        virtual = [p ** (1 / 3) if variant == "paper" else math.exp(p / 3) for p in virtual]
        own = [math.exp(z / 3) for z in logits[i].tolist()]
        p, q = [x / sum(virtual) for x in virtual], [x / sum(own) for x in own]
        value = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert got[i].item() == pytest.approx(value / (1 if variant == "paper" else 6), rel=1e-5)


def test_a_student_like_the_virtual_teacher_has_no_loss():
    logits = virtual_logits(LABELS, classes=6, correct=0.9)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(4))
    assert logits.exp()[0].tolist() == pytest.approx([0.9, *[0.02] * 5])
    assert TFKD(correct=0.9)(Signals(logits), Signals(), LABELS).abs().max() < 1e-6


def test_one_class_and_tokens(draw):
    assert virtual_logits(torch.zeros(2, dtype=torch.long), classes=1, correct=0.9).shape == (2, 1)
    (logits,) = draw(2, 2, 6, count=1)
    got = TFKD()(Signals(logits), Signals(), LABELS.view(2, 2))
    torch.testing.assert_close(got, TFKD()(Signals(logits.flatten(0, 1)), Signals(), LABELS).view(2, 2))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_unlabelled_is_zero(draw, variant):
    (logits,) = draw(4, 6, count=1)
    labels = LABELS.clone()
    labels[1] = IGNORE
    got, full = (TFKD(variant=variant)(Signals(logits), Signals(), y) for y in (labels, LABELS))
    assert got.tolist() == [full[0], 0, full[2], full[3]]
    assert not virtual_logits(labels, classes=6, correct=0.9)[1].any()


def test_defaults_and_mistakes():
    loss = TFKD()
    assert (loss.correct, loss.temperature, loss.variant) == (0.99, 20.0, "paper")
    assert loss.teaches
    with pytest.raises(ValueError, match=r"^TFKD\.correct must be < 1, got 1$"):
        TFKD(correct=1)
    with pytest.raises(ValueError, match=r"^TFKD\.correct must be > 0, got 0$"):
        TFKD(correct=0)
    with pytest.raises(ValueError, match=r"^TFKD\.temperature must be > 0, got 0$"):
        TFKD(temperature=0)
    with pytest.raises(SignalMissing, match="this loss needs labels"):
        loss(Signals(torch.zeros(1, 3)), Signals())


def test_needs():
    needs = TFKD().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features) == (True, True, False, "none")
    assert (needs.label_kinds, needs.global_batch) == (("class",), False)
