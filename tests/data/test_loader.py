"""Epoch plans and loaders."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.data.loader import EpochPlan, eval_loader, train_loader
from limbeck.errors import DataError


@pytest.fixture(scope="module")
def digits():
    return load_data(DataRequest("sklearn:digits", transforms=["flip", {"crop": {"padding": 1}}, "noise"]), kind=None, labels="class")


def update_sets(size, world, accumulate, **options):
    plans = [EpochPlan(size, accumulate=accumulate, rank=rank, world=world, **options) for rank in range(world)]
    lists = [plan.micro_batches() for plan in plans]
    for plan, mine in zip(plans, lists, strict=True):
        assert len(mine) == plan.updates * accumulate
    return [
        sorted(i for mine in lists for part in mine[update * accumulate : (update + 1) * accumulate] for i in part)
        for update in range(plans[0].updates)
    ]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 200), batch=st.integers(1, 40), world=st.integers(1, 4), accumulate=st.integers(1, 4), epoch=st.integers(0, 3))
def test_updates_are_the_same_for_every_division(size, batch, world, accumulate, epoch):
    options = {"batch_size": batch, "seed": 5, "epoch": epoch}
    single = update_sets(size, 1, 1, **options)
    if min(size, batch) < world * accumulate:
        with pytest.raises(DataError, match=r"Lower train\.accumulate"):
            EpochPlan(size, accumulate=accumulate, world=world, **options)
        return
    assert update_sets(size, world, accumulate, **options) == single
    assert len(single) == (size // batch or 1)
    seen = [i for update in single for i in update]
    assert len(seen) == len(set(seen))


def test_shares_are_as_even_as_possible():
    parts = [len(part) for rank in range(2) for part in EpochPlan(11, batch_size=11, accumulate=2, rank=rank, world=2).micro_batches()]
    assert sorted(parts) == [2, 3, 3, 3]


def test_start_update_is_the_tail():
    plan = EpochPlan(100, batch_size=10, accumulate=2)
    assert plan.micro_batches(3) == plan.micro_batches()[6:]
    assert plan.micro_batches(10) == []


def test_order_changes_with_epoch_and_seed():
    orders = {str(EpochPlan(50, batch_size=10, seed=seed, epoch=epoch).micro_batches()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert EpochPlan(4, batch_size=2, shuffle=False).micro_batches() == [[0, 1], [2, 3]]


def test_empty_data_is_an_error():
    with pytest.raises(DataError, match="training split is empty"):
        EpochPlan(0, batch_size=4)


def test_global_random_state_is_untouched(digits):
    state = torch.get_rng_state()
    for workers in (0, 2):
        view = digits.train.augmented(0, 0)
        list(train_loader(view, EpochPlan(40, batch_size=20), workers=workers))
        list(eval_loader(digits.test, batch_size=200, workers=workers))
    assert torch.equal(state, torch.get_rng_state())


def test_workers_change_nothing(digits):
    view = digits.train.augmented(3, 1)
    plan = EpochPlan(len(view), batch_size=200, seed=3, epoch=1)
    alone, helped = (list(train_loader(view, plan, workers=workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == plan.updates
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.index, other.index)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_reads_every_example_once(digits, world):
    index = [batch.index for rank in range(world) for batch in eval_loader(digits.test, batch_size=64, rank=rank, world=world)]
    assert sorted(torch.cat(index).tolist()) == list(range(len(digits.test)))


def test_a_loader_can_be_read_twice(digits):
    loader = eval_loader(digits.test, batch_size=100)
    assert [b.index.tolist() for b in loader] == [b.index.tolist() for b in loader]
    assert len(loader) == len(list(loader))
