"""Hidden states: values by hand, layers, first token, identities, defaults."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.losses.cosine import cosine_distance
from limbeck.losses.hidden_states import HiddenStates
from limbeck.types import Signals

STUDENT = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
TEACHER = torch.tensor([[[4.0, 3.0], [2.0, 0.0]]])


@pytest.mark.parametrize(
    ("form", "tokens", "expected"),
    [
        ("mse", "all", (1 + 4) / 2),
        ("mse", "first", 1.0),
        ("cosine", "all", (0.04 + 1) / 2),
        ("cosine", "first", 0.04),
        ("direction", "all", (0.08 + 2) / 2),
        ("direction", "first", 0.08),
    ],
)
def test_by_hand(form, tokens, expected):
    got = HiddenStates(form=form, tokens=tokens)(Signals.of(STUDENT), Signals.of(TEACHER))
    assert got.tolist() == pytest.approx([expected])


def test_layers_are_summed(draw):
    a, b, c, d = draw(3, 4, 5, count=4)
    loss = HiddenStates()
    both = loss(Signals.of(a, b), Signals.of(c, d))
    torch.testing.assert_close(both, loss(Signals.of(a), Signals.of(c)) + loss(Signals.of(b), Signals.of(d)))
    assert both.shape == (3,)


def test_directions_are_twice_cosines(draw):
    student, teacher = draw(3, 4, 5)
    signals = Signals.of(student), Signals.of(teacher)
    torch.testing.assert_close(HiddenStates(form="direction")(*signals), 2 * HiddenStates(form="cosine")(*signals))
    torch.testing.assert_close(HiddenStates(form="cosine")(*signals), cosine_distance(student, teacher))


def test_positions_of_maps_are_tokens(draw):
    student, teacher = draw(2, 3, 4, 4)
    signals = Signals.of(student), Signals.of(teacher)
    torch.testing.assert_close(HiddenStates()(*signals), (student - teacher).square().mean((1, 2, 3)))
    torch.testing.assert_close(HiddenStates(form="cosine")(*signals), cosine_distance(student, teacher))


@pytest.mark.parametrize("form", ["mse", "cosine", "direction"])
def test_shapes_must_be_equal(form):
    with pytest.raises(ShapeMismatch, match=r"student \[1, 2, 2\] and teacher \[1, 1, 2\] must have the same shape here"):
        HiddenStates(form=form)(Signals.of(STUDENT), Signals.of(TEACHER[:, :1]))


def test_defaults():
    assert (HiddenStates().form, HiddenStates().tokens) == ("mse", "all")
    needs = HiddenStates().needs
    assert (needs.features, needs.match, needs.padding, needs.logits) == ("many", "full", True, False)
