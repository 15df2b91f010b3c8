"""Kinds of mixing: values by hand, the distribution of the coefficient, who is mixed with whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data.mixing import MIXINGS
from limbeck.data.mixing.base import symmetric_beta
from limbeck.data.mixing.cutmix import CutMix, paste, rectangles
from limbeck.data.mixing.mixup import Mixup, blend
from limbeck.data.mixing.pairs import partners, untouched
from limbeck.data.mixing.selfmix import SelfMix
from limbeck.data.mixing.switch import Switch
from limbeck.data.transforms.base import Draws


def draws(count: int = 4, seed: int = 3, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, np.arange(count), -1)


def images(count: int = 4, size: int = 8, level: float = 0.0) -> torch.Tensor:
    return torch.full((count, 2, size, size + 2), level)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_the_coefficient_has_the_moments_of_beta(alpha):
    """Mean 1/2, variance 1 / (4 (2 a + 1)), fourth central moment 3 / (16 (2 a + 1) (2 a + 3))."""
    centred = symmetric_beta(draws(200_000), 0, alpha) - 0.5
    assert float(centred.mean()) == pytest.approx(0, abs=4e-3)
    assert float((centred**2).mean()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)
    assert float((centred**4).mean()) == pytest.approx(3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)), rel=0.03)


def test_a_coefficient_of_alpha_1_is_uniform():
    values = symmetric_beta(draws(100_000), 0, 1.0).sort().values
    assert float((values - torch.linspace(0, 1, len(values), dtype=torch.float64)).abs().max()) < 0.01


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 1e3])
def test_the_coefficient_stays_in_its_bounds(alpha):
    values = symmetric_beta(draws(10_000), 0, alpha)
    assert values.isfinite().all()
    assert ((values >= 0) & (values <= 1)).all()


def test_mixup_by_hand():
    own, other = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    torch.testing.assert_close(blend(own, other, torch.tensor([0.25, 1.0])), torch.tensor([[4.0, 5.0], [3.0, 4.0]]))
    mixed, share = Mixup(alpha=0.5).apply(own, other, draws(2))
    torch.testing.assert_close(share, symmetric_beta(draws(2), 0, 0.5).float())
    torch.testing.assert_close(mixed, blend(own, other, share))


def test_paste_by_hand():
    own, other = torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4)
    mixed, share = paste(own, other, torch.tensor([[1, 3, 0, 2], [0, 0, 1, 4]]))
    assert mixed[0, 0].tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert not mixed[1].any()
    torch.testing.assert_close(share, torch.tensor([1 - 4 / 12, 1.0]))


@pytest.mark.parametrize("kind", [CutMix(), SelfMix()])
def test_the_share_is_the_area_that_is_left(kind):
    """After rounding and clipping at the edges."""
    mixed, share = kind.apply(images(500), images(500, level=1.0), draws(500))
    torch.testing.assert_close(share, 1 - mixed[:, 0].flatten(1).mean(1))
    assert torch.equal(mixed[:, 0], mixed[:, 1])


def test_rectangles_have_the_size_and_the_place_that_are_drawn():
    count, height, width = 2000, 20, 30
    top, bottom, left, right = rectangles(draws(count), 0, 1.0, height, width).unbind(1)
    side = (1 - symmetric_beta(draws(count), 0, 1.0)).sqrt()
    half_height, half_width = (side * height).long() // 2, (side * width).long() // 2
    row, column = draws(count).integers(2, height), draws(count).integers(3, width)
    assert torch.equal(top, (row - half_height).clamp_min(0))
    assert torch.equal(bottom, (row + half_height).clamp_max(height))
    assert torch.equal(left, (column - half_width).clamp_min(0))
    assert torch.equal(right, (column + half_width).clamp_max(width))


def test_switch_is_one_or_the_other():
    own, other = images(1000), images(1000, level=1.0)
    cut = draws(1000).chance(0, 0.25)
    mixed, share = Switch(switch=0.25).apply(own, other, draws(1000))
    pasted, area = paste(own, other, rectangles(draws(1000), 3, 1.0, 8, 10))
    coefficient = symmetric_beta(draws(1000), 1, 0.8).float()
    assert torch.equal(mixed[cut], pasted[cut])
    assert torch.equal(mixed[~cut], blend(own, other, coefficient)[~cut])
    assert torch.equal(share, torch.where(cut, area, coefficient))
    assert float(cut.double().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(Switch(switch=0.0).apply(own, other, draws(1000))[1], coefficient)


def test_defaults_are_those_of_the_papers():
    assert (Mixup().alpha, CutMix().alpha, SelfMix().alpha) == (1.0, 1.0, 1.0)
    assert (Switch().mixup, Switch().cutmix, Switch().switch) == (0.8, 1.0, 0.5)
    assert [kind for kind in MIXINGS.names() if MIXINGS.get(kind).own_views] == ["selfmix"]
    assert [kind for kind in MIXINGS.names() if "tabular" in MIXINGS.get(kind).kinds] == ["mixup"]


def test_partners_are_an_order_of_all():
    whom = partners(50, 1, 2, 3)
    assert sorted(whom) == list(range(50))
    assert list(whom) != list(partners(50, 1, 2, 4))
    assert list(whom) == list(partners(50, 1, 2, 3))


@pytest.mark.parametrize(("share", "left"), [(1.0, 0), (0.1, 45), (0.25, 38), (0.0, 50)])
def test_as_many_are_mixed_as_asked(share, left):
    positions = untouched(50, 1, share=share, with_replacement=False)
    assert len(positions) == len(set(positions)) == left


def test_with_replacement_more_are_mixed_than_asked():
    """MIX-KD: of 90% that are to stay, 1 - exp(-0.9) do."""
    positions = untouched(10_000, 1, share=0.1, with_replacement=True)
    assert len(positions) == 9000
    assert len(set(positions)) / 10_000 == pytest.approx(1 - np.exp(-0.9), abs=0.01)
    assert len(untouched(10, 1, share=0.15, with_replacement=True)) == 8
    assert len(untouched(10, 1, share=0.9, with_replacement=True)) == 1
