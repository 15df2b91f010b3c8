"""Cosine distance: value by hand, invariance to length, maps and tokens."""

from __future__ import annotations

import math

import pytest
import torch
from tests.losses.padded import check_padding

from limbeck.errors import ShapeMismatch
from limbeck.losses.cosine import Cosine, cosine_distance
from limbeck.types import Signals


def test_values_by_hand():
    """Same direction 0, right angle 1, opposite 2, 60 degrees 1/2."""
    student = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    teacher = torch.tensor([[5.0, 0.0], [0.0, 3.0], [-2.0, -2.0], [0.5, math.sqrt(0.75)]])
    torch.testing.assert_close(cosine_distance(student, teacher), torch.tensor([0.0, 1.0, 2.0, 0.5]))


def test_lengths_do_not_matter(draw):
    student, teacher = draw(4, 6)
    torch.testing.assert_close(cosine_distance(3 * student, teacher), cosine_distance(student, 0.1 * teacher))


def test_maps_by_loops(draw):
    student, teacher = draw(2, 3, 2, 4)
    got = Cosine()(Signals.of(student), Signals.of(teacher))
    for i in range(2):
        total = 0.0
        for y in range(2):
            for x in range(4):
                s, t = student[i, :, y, x].tolist(), teacher[i, :, y, x].tolist()
                total += 1 - sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t)
        assert got[i].item() == pytest.approx(total / 8, rel=1e-9)


def test_tokens_compare_their_last_dimension(draw):
    student, teacher = draw(2, 3, 5)
    got = Cosine()(Signals.of(student), Signals.of(teacher))
    expected = torch.stack([cosine_distance(student[:, k], teacher[:, k]) for k in range(3)]).mean(0)
    torch.testing.assert_close(got, expected)


def test_a_zero_vector_has_no_direction():
    student = torch.zeros(1, 3, requires_grad=True)
    value = cosine_distance(student, torch.ones(1, 3))
    value.sum().backward()
    assert value.item() == 1
    assert student.grad.tolist() == [[0.0, 0.0, 0.0]]  # pyright: ignore[reportOptionalMemberAccess]


def test_shapes_must_agree():
    """A vector of one channel would broadcast."""
    for student, teacher in ((torch.ones(2, 3), torch.ones(2, 1)), (torch.ones(2, 1), torch.ones(2, 3))):
        text = rf"^student \[2, {student.shape[1]}\] and teacher \[2, {teacher.shape[1]}\] must have the same shape here"
        with pytest.raises(ShapeMismatch, match=text):
            Cosine()(Signals(student), Signals(teacher))
        with pytest.raises(ShapeMismatch, match=text):
            Cosine()(Signals.of(student), Signals.of(teacher))


def test_needs():
    needs = Cosine().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match) == (True, False, True, "optional", "full")


def test_golden_sum_over_pixels_of_several_layers(check_golden):
    """That code sums over pixels and layers; each layer here is a mean over its pixels."""

    class Summed(torch.nn.Module):
        def forward(self, student, teacher, labels):
            layers = zip(student.features.values(), teacher.features.values(), strict=True)
            return torch.stack([s[0, 0].numel() * cosine_distance(s, t).sum() for s, t in layers]).sum()

    check_golden("skt_cosine", lambda h: (Summed(), h["lambda_cos"]))


def test_padding(draw):
    for loss in (Cosine(),):
        check_padding(loss, *draw(2, 4, 6))
