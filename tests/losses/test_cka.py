"""CKA: the definition, both kernels, layers, messages."""

from __future__ import annotations

import pytest
import torch

from limbeck.losses.cka import CKA
from limbeck.ops.centred import gaussian_misalignment, linear_misalignment
from limbeck.types import Signals


def test_value_by_hand():
    """Centred kernels of (-1, 1, 0) and (-1, 0, 1): inner product 1, lengths 2 and 2."""
    student, teacher = torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([[4.0], [5.0], [6.0]])
    assert CKA()(Signals.of(student), Signals.of(teacher)).item() == pytest.approx(1 - 1 / 4)


def test_layers_of_any_shape_add_up(draw):
    (a,), (b,), (c,) = draw(5, 3, 2, 2, count=1), draw(5, 4, count=1), draw(5, 2, 3, count=1)
    got = CKA()(Signals.of(a, b), Signals.of(b, c))
    torch.testing.assert_close(got, linear_misalignment(a.flatten(1), b) + linear_misalignment(b, c.flatten(1)))
    got = CKA(kernel="rbf", bandwidth=0.7, chunk=2)(Signals.of(a, b), Signals.of(b, c))
    expected = [gaussian_misalignment(x.flatten(1), y.flatten(1), bandwidth=0.7, chunk=9) for x, y in ((a, b), (b, c))]
    torch.testing.assert_close(got, sum(expected))


def test_defaults_and_mistakes():
    assert (CKA().kernel, CKA().bandwidth, CKA().chunk) == ("linear", 1.0, 512)
    with pytest.raises(ValueError, match=r"^CKA\.kernel must be one of 'linear', 'rbf', got 'poly'$"):
        CKA(kernel="poly")


def test_needs():
    needs = CKA().needs
    assert (needs.logits, needs.labels, needs.teacher, needs.features, needs.match, needs.global_batch) == (
        False,
        False,
        True,
        "many",
        "any",
        True,
    )
