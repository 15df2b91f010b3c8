"""Patches of images and errors on them."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ShapeMismatch
from limbeck.ops.patches import patch_error, patches


def test_order_of_pixels():
    images = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    got = patches(images, 2)
    assert got.shape == (2, 6, 12)
    for n in range(2):
        for row in range(2):
            for column in range(3):
                part = images[n, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                expected = [part[c, y, x].item() for y in range(2) for x in range(2) for c in range(3)]
                assert got[n, 3 * row + column].tolist() == expected


def test_error_by_hand():
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert patch_error(torch.tensor([[[1.0, 2.0, 3.0, 0.0]]]), images, size=2, normalise=False).tolist() == [[16 / 4]]
    normal = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / (5 / 3 + 1e-6) ** 0.5
    assert patch_error(normal.reshape(1, 1, 4), images, size=2, normalise=True).item() == pytest.approx(0, abs=1e-12)
    assert patch_error(torch.zeros(1, 1, 4), images, size=2, normalise=True).item() == pytest.approx(3 / 4, rel=1e-5)
    faint = patch_error(torch.zeros(1, 1, 4).bfloat16(), images.bfloat16() * 2**-10, size=2, normalise=True)
    variance = 5 / 3 * 2.0**-20
    assert faint.item() == pytest.approx(3 / 4 * variance / (variance + 1e-6), rel=1e-5)
    assert faint.dtype == torch.float32


def test_every_patch_is_normalised_by_itself():
    images, guess = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 6, 12, dtype=torch.float64)
    got = patch_error(guess, images, size=2, normalise=True)
    for n in range(2):
        for k, patch in enumerate(patches(images[n : n + 1], 2)[0]):
            expected = ((patch - patch.mean()) / (patch.var() + 1e-6).sqrt() - guess[n, k]).square().mean()
            torch.testing.assert_close(got[n, k], expected)


@pytest.mark.parametrize("sides", [(4, 5), (5, 4)])
def test_mistakes(sides):
    text = rf"^patches of 2 x 2 do not tile images \[1, 1, {sides[0]}, {sides[1]}\]; choose a divisor of both sides\.$"
    with pytest.raises(ShapeMismatch, match=text):
        patches(torch.zeros(1, 1, *sides), 2)
    text = r"^predicted patches \[1, 1, 3\] must have the shape of the images' patches \[1, 1, 4\]\.$"
    with pytest.raises(ShapeMismatch, match=text):
        patch_error(torch.zeros(1, 1, 3), torch.zeros(1, 1, 2, 2), size=2, normalise=False)
