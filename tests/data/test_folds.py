"""Cross-validation: folds of examples and of groups."""

from __future__ import annotations

import numpy as np
import pytest
from tests.runs import SMALL

from limbeck.config.load import load_recipe
from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.data.split import fold_rows
from limbeck.errors import DataError, RecipeError


def splits(fold: int, folds: int = 5, **changes):
    return load_data(DataRequest("sklearn:digits", folds=folds, fold=fold, **changes), kind=None, labels="class")


@pytest.mark.parametrize("group", [None, "block"])
def test_every_example_is_tested_once(group):
    held = [splits(fold, group=group) for fold in range(1, 6)]
    tests = [part.test.rows.numpy() for part in held]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(1797))
    for part in held:
        assert part.valid is not None
        rows = [own.rows.numpy() for own in (part.train, part.valid, part.test)]
        assert sum(map(len, rows)) == 1797
        assert 1797 * 0.1 < len(rows[1]) < 1797 * 0.2
        if group is not None:
            blocks = [np.unique(own // 100) for own in rows]
            assert len(np.concatenate(blocks)) == 18
            assert len(np.unique(np.concatenate(blocks))) == 18
    sizes = [len(rows) for rows in tests]
    assert max(sizes) - min(sizes) <= (100 if group else 1)


def test_folds_have_the_classes_in_proportion():
    for fold in (1, 5):
        counts = np.bincount(splits(fold).test.labels.numpy(), minlength=10)
        whole = np.bincount(np.concatenate([splits(n).test.labels.numpy() for n in range(1, 6)]), minlength=10)
        assert np.abs(counts - whole / 5).max() < 1.01


def test_folds_by_hand():
    rows = np.array([4, 5, 6, 7, 8, 9])
    classes = np.array([0, 0, 0, 1, 1, 1])
    parts = [fold_rows(rows, classes, 3, fold, seed=0) for fold in (1, 2, 3)]
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    assert all(part[0] < 7 <= part[1] for part in parts)
    other = [fold_rows(rows, classes, 3, fold, seed=1) for fold in (1, 2, 3)]
    assert any(not np.array_equal(a, b) for a, b in zip(parts, other, strict=True))


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(DataError, match=r"data\.split\.fold: expected a number from 1 to 5, found 6"):
        splits(6)
    with pytest.raises(DataError, match=r"18 groups cannot be divided into 19 parts; lower folds"):
        splits(1, 19, group="block")


def problems(split) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe({**SMALL, "data": {"source": "sklearn:digits", "split": split}})
    return str(caught.value)


def test_mistakes_are_found_by_the_check():
    assert "data.split.fold: expected a number from 1 to 5, found 6" in problems({"folds": 5, "fold": 6})
    assert "data.split.test: expected either `test` or `folds`, found both" in problems({"folds": 5, "test": 0.3})
    assert "data.split.fold: expected `folds` beside `fold`" in problems({"fold": 2})
    assert "data.split.folds" in problems({"folds": 1})
    assert "nothing is left to train on" in problems({"folds": 2, "valid": 0.5})
    load_recipe({**SMALL, "data": {"source": "sklearn:digits", "split": {"folds": 2, "fold": 2, "valid": 0.4}}})


@pytest.mark.parametrize("split", [{}, {"folds": 4}, {"folds": 4, "fold": 2}])
def test_a_resolved_recipe_with_all_its_defaults_is_read_again(tmp_path, split):
    first = load_recipe({**SMALL, "data": {"source": "sklearn:digits", "split": split}})
    (tmp_path / "again.yaml").write_text(first.resolved(tmp_path))
    assert load_recipe(tmp_path / "again.yaml").recipe == first.recipe
