"""Cuts, limits and label fractions."""

import numpy as np
import pytest

from limbeck.data.hashing import mix, permutation, uniform
from limbeck.data.split import cut, labelled_rows, limit_rows
from limbeck.errors import DataError
from limbeck.types import IGNORE


def classes_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def whole(count):
    return {"train": np.arange(count)}


def test_hash_is_splitmix64():
    """The first two outputs of SplitMix64 from state 0, as published with the reference code."""
    assert mix(0)[0] == 0xE220A8397B1DCDAF
    assert mix(0x9E3779B97F4A7C15)[0] == 0x6E789E6AA1B965F4


def test_permutation_is_fixed_for_ever():
    assert permutation(8, 0, 0).tolist() == permutation(8, 0, 0).tolist()
    assert sorted(permutation(1000, 3, 1).tolist()) == list(range(1000))
    assert permutation(1000, 3, 1).tolist() != permutation(1000, 3, 2).tolist()
    assert permutation(1000, -1).tolist() != permutation(1000, 1).tolist()


def test_uniform_is_uniform_and_independent_across_counters():
    a, b = uniform(0, np.arange(20000)), uniform(1, np.arange(20000))
    assert abs(a.mean() - 0.5) < 0.01
    assert abs(a.var() - 1 / 12) < 0.002
    assert a.min() >= 0
    assert a.max() < 1
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.03


def test_parts_are_disjoint_complete_and_stratified():
    classes = classes_of(600, 300, 100)
    parts = cut(whole(1000), classes, np.ones(1000, bool), valid=0.15, test=0.2, seed=0)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(1000))
    assert np.bincount(classes[parts["test"]]).tolist() == [120, 60, 20]
    assert np.bincount(classes[parts["valid"]]).tolist() == [90, 45, 15]


def test_cut_depends_on_the_seed_only():
    classes, known = classes_of(50, 50), np.ones(100, bool)
    first, again, other = (cut(whole(100), classes, known, valid=0.1, test=0.2, seed=seed) for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["test"] != other["test"]).any()


def test_rare_classes_stay_in_training():
    classes = classes_of(97, 2, 1)
    parts = cut(whole(100), classes, np.ones(100, bool), valid=0.4, test=0.4, seed=0)
    assert set(classes[parts["train"]].tolist()) == {0, 1, 2}


def test_unlabelled_rows_never_judge():
    known = np.arange(100) % 2 == 0
    parts = cut(whole(100), None, known, valid=0.2, test=0.2, seed=0)
    assert known[parts["test"]].all()
    assert known[parts["valid"]].all()
    assert len(parts["test"]) == 10
    assert len(parts["train"]) == 80


def test_own_parts_are_kept():
    own = {"train": np.arange(80), "test": np.arange(80, 100)}
    parts = cut(own, classes_of(50, 50), np.ones(100, bool), valid=0.25, test=0.9, seed=0)
    assert parts["test"].tolist() == list(range(80, 100))
    assert len(parts["valid"]) == 20
    assert parts["valid"].max() < 80


@pytest.mark.parametrize(
    ("valid", "test", "text"), [(0.5, 0.5, "nothing to train on"), (0.1, 0.0, "no test part"), (0.01, 0.2, "data.split.valid 0.01 of 20")]
)
def test_impossible_cuts_say_what_to_change(valid, test, text):
    with pytest.raises(DataError, match=text):
        cut(whole(20), classes_of(10, 10), np.ones(20, bool), valid=valid, test=test, seed=0)


def test_label_fraction_keeps_every_class():
    classes = classes_of(900, 90, 10)
    kept = labelled_rows(np.arange(1000), classes, np.ones(1000, bool), 0.01, seed=0)
    assert np.bincount(classes[kept]).tolist() == [9, 1, 1]
    assert len(labelled_rows(np.arange(1000), classes, np.ones(1000, bool), 0.0, seed=0)) == 0


def test_limit_is_exact_and_keeps_every_class():
    classes = classes_of(900, 90, 5, 5)
    kept = limit_rows(np.arange(1000), classes, 20, seed=0)
    assert len(kept) == 20
    assert set(classes[kept].tolist()) == {0, 1, 2, 3}
    assert limit_rows(np.arange(1000), classes, 5000, seed=0).tolist() == list(range(1000))
    with pytest.raises(DataError, match=r"data\.limit 3 is less than the number of classes \(4\)"):
        limit_rows(np.arange(1000), classes, 3, seed=0)


def test_limit_counts_unlabelled_rows_too():
    classes = np.where(np.arange(100) < 90, IGNORE, np.arange(100) % 2)
    kept = limit_rows(np.arange(100), classes, 10, seed=0)
    assert len(kept) == 10
    assert {0, 1} <= set(classes[kept].tolist())
