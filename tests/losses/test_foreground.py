"""Foreground imitation: value by hand, masks from both sources, empty regions, what is learned."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch, SignalMissing
from limbeck.losses.foreground import Foreground, attention_mask, masked_gap, resized_mask
from limbeck.types import Signals


def given(student, mask):
    return Signals(features={"a": student}, extra={"mask": mask})


def test_value_by_hand():
    """Mean squared errors over two channels: 1 and 4 on the object, 9 beside it."""
    student = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]]).reshape(1, 2, 1, 3)
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    got = masked_gap(student, torch.zeros_like(student), mask, background=0.5)
    torch.testing.assert_close(got, torch.tensor([(1 + 4) / 2 + 0.5 * 9]))


def test_soft_masks_weigh():
    student = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    mask = torch.tensor([[[0.75, 0.5]]])
    expected = (0.75 * 1 + 0.5 * 4) / 1.25 + 2 * (0.25 * 1 + 0.5 * 4) / 0.75
    assert masked_gap(student, torch.zeros_like(student), mask, background=2.0).item() == pytest.approx(expected)


def test_an_empty_region_gives_nothing(draw):
    s, t = draw(2, 3, 2, 2)
    error = (s - t).square().mean((1, 2, 3))
    ones = torch.ones(2, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(masked_gap(s, t, ones, background=0.5), error)
    torch.testing.assert_close(masked_gap(s, t, 0 * ones, background=0.5), 0.5 * error)


def test_attention_is_relative_to_the_strongest_position():
    teacher = torch.tensor([[[[1.0, -4.0]], [[-1.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    assert attention_mask(teacher).tolist() == [[[0.5, 1.0]], [[0.0, 0.0]]]


def test_attention_is_the_default_and_layers_add_up(draw):
    (s,), (t,), (u,), (v,) = draw(2, 3, 2, 2, count=1), draw(2, 3, 2, 2)[1:], draw(2, 4, 1, 3, count=1), draw(2, 4, 1, 3)[1:]
    expected = masked_gap(s, t, attention_mask(t), background=0.5) + masked_gap(u, v, attention_mask(v), background=0.5)
    torch.testing.assert_close(Foreground()(Signals.of(s, u), Signals.of(t, v)), expected)


def test_a_given_mask_is_averaged_to_the_size_of_the_layer():
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.uint8)
    got = resized_mask(mask[None], torch.empty(1, 3, 2, 2))
    assert got.dtype == torch.float32
    assert got.tolist() == [[[0.75, 0.0], [0.0, 1.0]]]
    assert torch.equal(resized_mask(mask[None, None].bool(), torch.empty(1, 3, 2, 2)), got)
    wide = resized_mask(mask[None], torch.empty(1, 3, 2, 4, dtype=torch.float64))
    assert (wide.shape, wide.dtype) == ((1, 2, 4), torch.float64)
    assert resized_mask(mask[None], torch.empty(1, 3, 1, 2)).tolist() == [[[0.375, 0.5]]]


def test_a_given_mask_is_used(draw):
    s, t = draw(2, 3, 2, 2)
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    loss = Foreground(mask="given", background=0.0)
    got = loss(given(s, mask), Signals.of(t))
    error = (s - t).square().mean(1)
    torch.testing.assert_close(got, torch.stack([error[0, 0, 0], (error[1, 0, 0] + error[1, 0, 1] + error[1, 1, 0]) / 3]))


def test_learns_the_width_of_the_teacher(draw):
    (s,), (t,) = draw(2, 3, 2, 2, count=1), draw(2, 5, 2, 2, count=1)
    loss = Foreground()
    loss.setup(Signals.of(s), Signals.of(t))
    mapped = loss.projections[0](s)
    assert (mapped < 0).any()
    expected = masked_gap(mapped, t, attention_mask(t), background=0.5)
    torch.testing.assert_close(loss(Signals.of(s), Signals.of(t)), expected)


def test_a_dead_teacher_is_finite():
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    value = Foreground()(Signals.of(student), Signals.of(torch.zeros(1, 2, 2, 2)))
    value.sum().backward()
    assert value.item() == 0
    assert student.grad.isfinite().all()  # pyright: ignore[reportOptionalMemberAccess]


def test_defaults_and_mistakes():
    assert (Foreground().mask, Foreground().background) == ("attention", 0.5)
    with pytest.raises(ValueError, match=r"^Foreground\.mask must be one of 'attention', 'given', got 'boxes'$"):
        Foreground(mask="boxes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^Foreground\.background must be >= 0, got -1$"):
        Foreground(background=-1)
    x = torch.zeros(1, 2, 2, 2)
    with pytest.raises(SignalMissing, match=r"needs the signal 'mask' of the batch, found none"):
        Foreground(mask="given")(Signals.of(x), Signals.of(x))
    with pytest.raises(ShapeMismatch, match=r"student \[1, 2, 2, 2\] and teacher \[1, 2, 1, 1\]"):
        Foreground()(Signals.of(x), Signals.of(x[:, :, :1, :1]))


def test_needs():
    for loss, extra in ((Foreground(), ()), (Foreground(mask="given"), ("mask",))):
        needs = loss.needs
        assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch, needs.extra) == (
            False,
            False,
            True,
            "many",
            "space",
            False,
            extra,
        )
