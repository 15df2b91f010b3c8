"""Groups that are never divided, and some of the classes only."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.data.base import DataRequest
from limbeck.data.groups import cut_groups, take_groups
from limbeck.data.load import load_data
from limbeck.data.narrow import of_classes
from limbeck.errors import DataError, UnknownName


def cut(groups, known=None, parts=None, **fractions):
    groups = np.asarray(groups)
    known = np.ones(len(groups), dtype=bool) if known is None else np.asarray(known)
    return cut_groups(
        groups, parts or {"train": np.arange(len(groups))}, None, known, **{"valid": 0.2, "test": 0.2, "seed": 0, **fractions}
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_parts(seed):
    groups = np.random.default_rng(seed).integers(0, 20, 300)
    parts = cut(groups, seed=seed)
    held = {name: set(groups[rows].tolist()) for name, rows in parts.items()}
    assert not held["train"] & held["test"]
    assert not held["train"] & held["valid"]
    assert not held["valid"] & held["test"]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(300))
    assert all(abs(len(parts[name]) - 60) <= 20 for name in ("valid", "test"))
    assert all((np.diff(rows) > 0).all() for rows in parts.values())


def test_the_seed_decides():
    groups = np.arange(100) // 5
    assert np.array_equal(cut(groups)["test"], cut(groups)["test"])
    assert not np.array_equal(cut(groups)["test"], cut(groups, seed=1)["test"])
    assert not np.array_equal(cut(groups)["test"], cut(groups)["valid"])


def test_about_as_many_as_were_asked_for():
    groups = np.repeat(np.arange(10), 10)
    assert len(take_groups(np.arange(100), groups, 30, seed=0, purpose=1)) == 3
    assert len(take_groups(np.arange(100), groups, 25, seed=0, purpose=1)) == 3
    assert len(take_groups(np.arange(100), groups, 24, seed=0, purpose=1)) == 2
    assert len(take_groups(np.arange(100), groups, 1, seed=0, purpose=1)) == 1
    assert len(take_groups(np.arange(100), groups, 100, seed=0, purpose=1)) == 9


def test_unlabelled_rows_of_a_held_out_group_are_left_out():
    groups = np.repeat(np.arange(10), 10)
    known = np.tile([True, False], 50)
    parts = cut(groups, known)
    assert known[parts["test"]].all()
    assert len(parts["test"]) == 10
    assert set(groups[parts["train"]]) & set(groups[parts["test"]]) == set()
    assert len(parts["train"]) == 60


def test_parts_of_the_source_must_be_apart():
    rows = {"train": np.arange(4), "test": np.arange(4, 6)}
    assert set(cut([0, 0, 1, 2, 3, 3], parts=rows, valid=0.3)) == {"train", "valid", "test"}
    with pytest.raises(DataError, match=r"^data\.split\.group: 1 groups are both in the source's train part and in its test part; leave"):
        cut([0, 0, 1, 2, 2, 3], parts=rows)


def test_too_few_groups():
    with pytest.raises(DataError, match=r"^data\.split\.group: 2 groups cannot be cut into 3 parts; every part needs one of its own\.$"):
        cut([0, 0, 1, 1])
    assert set(cut([0, 0, 1, 1], valid=0.0)) == {"train", "test"}
    with pytest.raises(DataError, match="there is no test part"):
        cut([0, 0, 1, 1], test=0.0)


def load(**fields):
    return load_data(DataRequest(**fields), kind=None, labels="class")


def test_a_column_of_a_table(tmp_path):
    lines = [f"{i % 7},{i % 2},p{i // 4}" for i in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["width,label,patient", *lines]))
    splits = load(source=f"csv:{tmp_path / 't.csv'}", group="patient")
    assert splits.valid is not None
    patients = [set((part.rows // 4).tolist()) for part in (splits.train, splits.valid, splits.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 20
    assert splits.info.input_shape == (1,)  # the patient is no input
    with pytest.raises(DataError, match=r"data\.split\.group: no column is called 'pateint'\. Did you mean 'patient'\?"):
        load(source=f"csv:{tmp_path / 't.csv'}", group="pateint")


def test_digits_come_in_blocks():
    splits = load(source="sklearn:digits", group="block")
    blocks = [set((part.rows // 100).tolist()) for part in (splits.train, splits.test)]
    assert not blocks[0] & blocks[1]
    assert len(blocks[0] | blocks[1]) < 18
    with pytest.raises(DataError, match=r"^data\.split\.group: sklearn:iris has no groups called 'block'; name a column of a table"):
        load(source="sklearn:iris", group="block")


def test_some_classes():
    whole, some = load(source="sklearn:digits"), load(source="sklearn:digits", classes=["7", "2"])
    assert some.valid is not None
    assert set(some.train.labels.tolist()) == set(some.valid.labels.tolist()) == {2, 7}
    assert torch.equal(some.test.labels, whole.test.labels)
    assert some.info.num_outputs == 10
    assert torch.equal(some.train.rows, whole.train.rows[(whole.train.labels == 2) | (whole.train.labels == 7)])


def test_some_classes_with_few_labels():
    splits = load(source="sklearn:digits", classes=["5", "6"], label_fraction=0.05, unlabelled=False)
    assert set(splits.train.labels.tolist()) == {5, 6}
    assert len(splits.train) < 20


def test_classes_that_there_are_not():
    with pytest.raises(UnknownName, match=r"no class is called '12'\..* These are the names that the data give to their classes"):
        load(source="sklearn:digits", classes=["12"])
    with pytest.raises(DataError, match=r"^data\.classes is for labels that are classes; leave it out\.$"):
        load_data(DataRequest("sklearn:diabetes", classes=["1"]), kind=None, labels="real")
    parts = {"train": np.arange(2), "valid": np.arange(2, 3), "test": np.arange(3)}
    with pytest.raises(DataError, match=r"^data\.classes: X has no example of 'a' in its valid part\.$"):
        of_classes(parts, np.array([0, 0, 1]), ["a"], ("a", "b"), "X")
