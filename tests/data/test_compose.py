"""Composed batches: what they hold, and that nothing about how they are fetched changes them."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.compose import Composition
from limbeck.data.load import load_data
from limbeck.data.loader import EpochPlan, train_loader
from limbeck.data.mixing.cutmix import CutMix
from limbeck.data.mixing.mixup import Mixup, blend
from limbeck.data.mixing.selfmix import SelfMix
from limbeck.data.mixing.switch import Switch
from limbeck.data.views import ViewRequest
from limbeck.types import Batch


@pytest.fixture(scope="module")
def train():
    request = DataRequest("sklearn:digits", limit=100, transforms=["resized_crop", "noise"])
    return load_data(request, kind=None, labels="class").train


def batches(train, composition, *, epoch=0, start=0, workers=0, **plan) -> list[Batch]:
    order = EpochPlan(len(train), batch_size=plan.pop("batch_size", 30), crops=composition.crops, seed=7, epoch=epoch, **plan)
    return list(train_loader(train, order, start_update=start, workers=workers, composition=composition))


def same(a: list[Batch], b: list[Batch]) -> None:
    """All batches, end to end, however they are divided."""
    for get in (
        lambda batch: batch.inputs,
        lambda batch: batch.labels,
        lambda batch: batch.index,
        lambda batch: torch.as_tensor(batch.epoch),
        lambda batch: batch.mixed.partner if batch.mixed else batch.index,
        lambda batch: batch.mixed.epoch if batch.mixed else batch.index,
        lambda batch: batch.mixed.labels if batch.mixed else batch.index,
        lambda batch: batch.mixed.share if batch.mixed else batch.index,
    ):
        left, right = ([get(batch) for batch in whole] for whole in (a, b))
        assert torch.equal(*(torch.cat([x.reshape(-1) if x.ndim == 0 else x for x in side]) for side in (left, right)))


KINDS = [
    Composition(1, Mixup(alpha=0.4), 5),
    Composition(1, CutMix(per="update"), 5),
    Composition(1, SelfMix(share=0.5), 5, replay=(9, 3)),
    Composition(2, Switch(), 5, replay=(9, 4)),
    Composition(3, None, 5),
]


@pytest.mark.parametrize("composition", KINDS)
def test_division_workers_and_resuming_change_nothing(train, composition):
    whole = batches(train, composition, epoch=2)
    assert len(whole) == (100 // (30 // composition.crops))
    same(whole, batches(train, composition, epoch=2, accumulate=3))
    ranks = [batches(train, composition, epoch=2, world=2, rank=rank) for rank in range(2)]
    same(whole, [batch for pair in zip(*ranks, strict=True) for batch in pair])
    same(whole[1:], batches(train, composition, epoch=2, start=1))
    same(whole, batches(train, composition, epoch=2, workers=2))


def test_epochs_and_seeds_differ(train):
    def first(seed, epoch):
        return batches(train, Composition(1, Mixup(), seed, replay=(1, 1)), epoch=epoch)[0].mixed.share

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))


def shown(train, seed, views, index):
    return torch.cat([train.augmented(seed, int(view)).__getitems__([int(i)]).inputs for view, i in zip(views, index, strict=True)])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_mixed_input_is_made_of_the_two_views_that_are_told(train, accumulate):
    for batch in batches(train, Composition(1, Mixup(alpha=0.4), 5, replay=(9, 2)), epoch=3, accumulate=accumulate):
        mixed = batch.mixed
        own = shown(train, 9, batch.epoch, batch.index)
        other = shown(train, 9, mixed.epoch, mixed.partner)
        torch.testing.assert_close(batch.inputs, blend(own, other, mixed.share), rtol=0, atol=0)
        assert torch.equal(mixed.labels, train.labels[mixed.partner])
        assert torch.equal(batch.labels, train.labels[batch.index])
        assert torch.equal(batch.epoch, torch.full_like(batch.epoch, 1))
        assert torch.equal(mixed.epoch, batch.epoch)


def test_an_update_is_mixed_within_itself(train):
    plain = batches(train, Composition(1, None, 5))
    mixed = batches(train, Composition(1, CutMix(), 5))
    for one, other in zip(plain, mixed, strict=True):
        assert torch.equal(one.index, other.index)
        assert sorted(other.mixed.partner.tolist()) == sorted(other.index.tolist())
        assert one.epoch == 0


def test_what_is_not_mixed_stays_as_it_is(train):
    (batch,) = batches(train, Composition(1, Mixup(share=0.3), 5), batch_size=100)
    own = shown(train, 5, batch.epoch, batch.index)
    untouched = batch.mixed.share == 1
    assert int(untouched.sum()) == 70
    assert torch.equal(batch.inputs[untouched], own[untouched])


def test_per_update_shares_one_draw(train):
    for batch in batches(train, Composition(1, Mixup(per="update"), 5)):
        assert len(batch.mixed.share.unique()) == 1
    shares = {float(batch.mixed.share[0]) for batch in batches(train, Composition(1, Mixup(per="update"), 5))}
    assert len(shares) == 3


@pytest.mark.parametrize("views", [2, 3, 5, None])
def test_selfmix_mixes_two_views_of_one_example(train, views):
    replay = (9, views) if views else None
    seen = set()
    for epoch in range(6):
        for batch in batches(train, Composition(1, SelfMix(), 5, replay=replay), epoch=epoch):
            mixed = batch.mixed
            assert torch.equal(mixed.partner, batch.index)
            assert torch.equal(mixed.labels, batch.labels)
            assert (mixed.epoch != batch.epoch).all()
            assert views is None or (mixed.epoch < views).all()
            own, other = (shown(train, 9 if views else 5, which, batch.index) for which in (batch.epoch, mixed.epoch))
            assert ((batch.inputs == own) | (batch.inputs == other)).all()
            seen |= set(zip(batch.epoch.tolist(), mixed.epoch.tolist(), strict=True))
    assert views is None or len(seen) == views * (views - 1)


def test_several_views_of_each_example_come_in_turn(train):
    composition = Composition(2, None, 5, replay=(9, 8))
    for epoch in range(5):
        for batch in batches(train, composition, epoch=epoch, batch_size=20):
            assert batch.index.tolist() == np.repeat(batch.index[::2], 2).tolist()
            assert len(set(batch.index.tolist())) == 10
            assert batch.epoch.reshape(-1, 2).tolist() == [[2 * epoch % 8, (2 * epoch + 1) % 8]] * 10
            assert torch.equal(batch.inputs, shown(train, 9, batch.epoch, batch.index))
    assert len(batches(train, composition, batch_size=20)) == 10


def test_mixing_of_views_knows_which_view_the_partner_shows(train):
    for batch in batches(train, Composition(2, Mixup(), 5), batch_size=20):
        mixed = batch.mixed
        pairs = sorted(zip(batch.index.tolist(), batch.epoch.tolist(), strict=True))
        assert pairs == sorted(zip(mixed.partner.tolist(), mixed.epoch.tolist(), strict=True))
        assert len(set(mixed.share.tolist())) == 20
        own, other = shown(train, 5, batch.epoch, batch.index), shown(train, 5, mixed.epoch, mixed.partner)
        assert torch.equal(batch.inputs, blend(own, other, mixed.share))


def test_nothing_to_compose_is_the_plain_way(train):
    assert Composition().plain
    for replay, view in ((None, 4), ((9, 3), 1)):
        seed = 5 if replay is None else 9
        for batch in batches(train, Composition(seed=5, replay=replay), epoch=4):
            assert batch.epoch == view
            assert torch.equal(batch.inputs, train.augmented(seed, view).__getitems__(batch.index.tolist()).inputs)


def test_a_batch_moves_with_what_it_was_mixed_of(train):
    (batch, *_) = batches(train, Composition(1, Mixup(), 5))
    moved = batch.to(torch.device("meta"))
    assert moved.mixed.labels.device.type == moved.mixed.share.device.type == "meta"
    assert moved.mixed.partner.device.type == moved.mixed.epoch.device.type == "cpu"


@pytest.fixture(scope="module")
def viewed():
    views = {"clean": ViewRequest(), "large": ViewRequest(size=16), "other": ViewRequest(transforms=["noise"])}
    return load_data(DataRequest("sklearn:digits", limit=60, transforms=["resized_crop"], views=views), kind=None, labels="class").train


def test_every_view_is_mixed_with_the_same_partner_and_share(viewed):
    for batch in batches(viewed, Composition(1, Mixup(alpha=0.4, share=0.5), 5), epoch=1):
        plain = viewed.augmented(5, 1)
        own, other = plain.__getitems__(batch.index), plain.__getitems__(batch.mixed.partner)
        share = batch.mixed.share
        assert 0 < int((share < 1).sum()) < len(share)
        assert torch.equal(batch.inputs, blend(own.inputs, other.inputs, share))
        assert batch.views.keys() == {"clean", "large", "other"}
        for name, seen in batch.views.items():
            assert torch.equal(seen, blend(own.views[name], other.views[name], share))


def test_the_rectangle_is_in_the_same_place_of_a_larger_view(viewed):
    (batch,) = batches(viewed, Composition(1, CutMix(per="update"), 3), batch_size=60)
    plain = viewed.augmented(3, 0)
    own, other = plain.__getitems__(batch.index), plain.__getitems__(batch.mixed.partner)

    def middle(mixed: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        cut = ((mixed == second) & (mixed != first)).any(0).any(0).nonzero().double()
        return (cut.amin(0) + cut.amax(0) + 1) / 2 / mixed.shape[-1]

    small = middle(batch.views["clean"], own.views["clean"], other.views["clean"])
    large = middle(batch.views["large"], own.views["large"], other.views["large"])
    assert (small - large).abs().max() <= 1.5 / 8


def test_further_views_are_divided_and_fetched_alike(viewed):
    composition = Composition(2, Switch(), 5, replay=(9, 4))
    whole, parts = (batches(viewed, composition, **how) for how in ({}, {"workers": 2, "accumulate": 3}))
    for name in ("clean", "large", "other"):
        assert torch.equal(*(torch.cat([batch.views[name] for batch in side]) for side in (whole, parts)))
