"""The association test: by hand, exact p-values, symmetry, draws."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.evaluate.association import association_test, associations

A, B = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
X = torch.tensor([[2.0, 0.0], [3.0, 4.0]])
Y = torch.tensor([[0.0, 5.0], [4.0, 3.0]])


def test_by_hand():
    """s is 1 and -0.2 in X, -1 and 0.2 in Y."""
    assert associations(torch.cat([X, Y]), A, B).tolist() == pytest.approx([1, -0.2, -1, 0.2])
    found = association_test(X, Y, A, B)
    spread = ((1 + 0.04 + 1 + 0.04) / 3) ** 0.5
    assert found.effect == pytest.approx(0.8 / spread)
    # Sums of the six pairs: 0.8, 0, 1.2, -1.2, 0, -0.8.
    assert (found.p_value, found.exact) == (pytest.approx(2 / 6), True)


def test_sides_and_scales():
    found = association_test(X, Y, A, B)
    assert association_test(Y, X, A, B).effect == pytest.approx(-found.effect)
    assert association_test(X, Y, B, A).effect == pytest.approx(-found.effect)
    assert association_test(3 * X, Y, 7 * A, B).effect == pytest.approx(found.effect)
    same = association_test(X, X, A, B)
    assert same.effect == 0
    assert association_test(A, A, A, B).effect == 0
    assert association_test(A, A, A, B).p_value == 1


def test_the_largest_effect():
    near, far = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)
    found = association_test(near, far, A, B)
    assert found.p_value == pytest.approx(1 / 70)
    assert found.effect == pytest.approx(2 * (7 / 8) ** 0.5)


def test_draws_are_near_the_exact_share():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(7, 5, generator=generator) + 0.2, torch.randn(7, 5, generator=generator)
    a, b = torch.randn(3, 5, generator=generator) + 0.2, torch.randn(3, 5, generator=generator)
    exact, drawn = association_test(x, y, a, b), association_test(x, y, a, b, divisions=3000)
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.03)
    assert drawn.p_value > 0
    assert drawn == association_test(x, y, a, b, divisions=3000)
    assert drawn != association_test(x, y, a, b, divisions=3000, seed=1)


def test_shapes():
    with pytest.raises(ShapeMismatch) as error:
        association_test(X, Y[:0], A, B)
    assert str(error.value) == (
        "an association test takes four sets (words, channels) of the same channels, Y is not: X (2, 2), Y (0, 2), A (1, 2), B (1, 2)."
    )
