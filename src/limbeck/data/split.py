"""Cuts data into training, validation and test parts, by seed and, for class labels, by class.

All choices follow `hashing.permutation`, so that they are the same with every version of NumPy and torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..types import IGNORE
from .hashing import permutation

Rows = NDArray[np.int64]

# Purposes, so that the same seed gives unrelated orders for the cut, the limit and the labels.
_TEST, _VALID, _LIMIT, _LABELS = 1, 2, 3, 4


def allot(counts: NDArray[np.int64], total: int, *, least: int, spare: int) -> NDArray[np.int64]:
    """How many of each class to take so that about `total` are taken in proportion (largest remainder).

    At least `least` of a class are taken and at least `spare` left, where the class has so many; `spare` goes first.
    """
    wanted = counts * (total / max(int(counts.sum()), 1))
    taken = np.floor(wanted).astype(np.int64)
    by_remainder = np.argsort(-(wanted - taken), kind="stable")
    taken[by_remainder[: total - int(taken.sum())]] += 1
    return np.clip(np.maximum(taken, least), 0, np.maximum(counts - spare, 0))


def take(rows: Rows, classes: Rows | None, total: int, *, seed: int, purpose: int, least: int = 0, spare: int = 0) -> tuple[Rows, Rows]:
    """Divides `rows` at random into about `total` taken ones and the rest, both sorted.

    Args:
        rows: the rows to choose from.
        classes: class of each of `rows`, for a stratified choice; None chooses regardless of labels.
        total: how many to take.
        seed: seed of the choice.
        purpose: what the choice is for; the same seed gives another choice for another purpose.
        least: fewest to take of a class.
        spare: fewest to leave of a class.
    """
    order = permutation(len(rows), seed, purpose)
    chosen = np.zeros(len(rows), dtype=bool)
    if classes is None:
        chosen[order[:total]] = True
    else:
        names, counts = np.unique(classes, return_counts=True)
        for name, count in zip(names, allot(counts, total, least=least, spare=spare), strict=True):
            members = order[classes[order] == name]
            chosen[members[:count]] = True
    return rows[chosen], rows[~chosen]


def fold_rows(rows: Rows, classes: Rows | None, folds: int, fold: int, *, seed: int) -> Rows:
    """The rows of one of `folds` parts of about the same size, in proportion by class; sorted.

    Args:
        rows: the rows to divide.
        classes: class of each of `rows`; None divides regardless of labels.
        folds: number of parts; together they hold every row once.
        fold: which of them, from 1.
        seed: seed of the division.
    """
    order = permutation(len(rows), seed, _TEST)
    by_class = order if classes is None else order[np.argsort(classes[order], kind="stable")]
    return np.sort(rows[by_class[fold - 1 :: folds]])


def check_folds(folds: int, fold: int, parts: dict[str, Rows], count: int, what: str) -> None:
    """Refuses folds that there cannot be.

    Raises:
        DataError: where the source has a test part, there is no such fold, or there are more folds than there is to divide.
    """
    if "test" in parts:
        raise DataError("data.split.folds: the source has a test part of its own; leave folds out, or name a source without one.")
    if fold > folds:
        raise DataError(f"data.split.fold: expected a number from 1 to {folds}, found {fold}.")
    if folds > count:
        raise DataError(f"data.split.folds: {count} {what} cannot be divided into {folds} parts; lower folds.")


def cut(
    parts: dict[str, Rows],
    classes: Rows | None,
    known: NDArray[np.bool_],
    *,
    valid: float,
    test: float,
    seed: int,
    folds: int | None = None,
    fold: int = 1,
) -> dict[str, Rows]:
    """Completes the parts that a source has with a validation and a test part held out from training.

    Rows without a label never leave the training part; every class keeps at least one training example.

    Args:
        parts: rows of `train`, and of `valid` and `test` where the source has them.
        classes: class of every row of the source, or None where labels are no classes.
        known: which rows of the source have a label.
        valid: share of the labelled examples (of all, or of the training part where `test` is given) for validation.
        test: share of all labelled examples for the test, where the source has no test part.
        seed: seed of the cut.
        folds: instead of `test`, the number of parts of which one is the test part.
        fold: which of them, from 1.

    Raises:
        DataError: where a fraction leaves a part empty.
    """
    test = test if folds is None else 1 / folds
    if valid + test >= 1 and "test" not in parts:
        raise DataError(f"data.split.valid {valid:g} and data.split.test {test:g} leave nothing to train on; lower them.")
    done = dict(parts)
    train = done["train"]
    total = int(known[train].sum())
    if folds is not None:
        check_folds(folds, fold, parts, total, "labelled examples")
        candidates = train[known[train]]
        done["test"] = fold_rows(candidates, None if classes is None else classes[candidates], folds, fold, seed=seed)
        train = np.setdiff1d(train, done["test"])
    for name, share, purpose in (("test", test, _TEST), ("valid", valid, _VALID)):
        if name in done or share == 0:
            continue
        candidates = train[known[train]]
        strata = None if classes is None else classes[candidates]
        held, _ = take(candidates, strata, round(total * share), seed=seed, purpose=purpose, spare=1)
        if len(held) == 0:
            raise DataError(f"data.split.{name} {share:g} of {total} labelled examples is none; raise it or use more data.")
        train = np.setdiff1d(train, held)
        done[name] = held
    done["train"] = train
    if "test" not in done:
        raise DataError("there is no test part: the source has none and data.split.test is 0. Set data.split.test, such as 0.2.")
    if len(train) == 0:
        raise DataError(f"data.split leaves no training examples of {total}; lower data.split.valid and data.split.test.")
    return done


def limit_rows(rows: Rows, classes: Rows | None, limit: int, *, seed: int) -> Rows:
    """At most `limit` of the training rows, in proportion by class and at least one of each.

    Raises:
        DataError: where there are more classes than `limit`.
    """
    if limit >= len(rows):
        return rows
    picked = None if classes is None else classes[rows]
    if picked is not None and limit < (kinds := len(np.unique(picked[picked != IGNORE]))):
        raise DataError(f"data.limit {limit} is less than the number of classes ({kinds}); every class needs a training example.")
    kept, _ = take(rows, picked, limit, seed=seed, purpose=_LIMIT, least=1)
    if len(kept) > limit:  # `least` overdrew: give back from the largest classes
        kept = _shrink(kept, classes, limit, seed)
    return kept


def _shrink(rows: Rows, classes: Rows | None, limit: int, seed: int) -> Rows:
    keep = np.ones(len(rows), dtype=bool)
    order = permutation(len(rows), seed, _LIMIT)
    while classes is not None and keep.sum() > limit:
        names, counts = np.unique(classes[rows[keep]], return_counts=True)
        largest = names[np.argmax(counts)]
        keep[next(i for i in order if keep[i] and classes[rows[i]] == largest)] = False
    return rows[keep]


def labelled_rows(rows: Rows, classes: Rows | None, known: NDArray[np.bool_], fraction: float, *, seed: int) -> Rows:
    """Those training rows that keep their label: `fraction` of the labelled ones, at least one a class unless it is 0."""
    candidates = rows[known[rows]]
    if fraction >= 1:
        return candidates
    if fraction <= 0:
        return candidates[:0]
    total = max(1, round(len(candidates) * fraction))
    kept, _ = take(candidates, None if classes is None else classes[candidates], total, seed=seed, purpose=_LABELS, least=1)
    return kept
