"""Cuts data so that examples of one group (a patient, a speaker, a writer) are never in two parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .hashing import permutation
from .sources.base import Pool
from .split import Rows, check_folds

# Purposes, as in `split`, so that the same seed gives unrelated orders.
_PURPOSES = {"test": 11, "valid": 12}


def groups_of(pool: Pool, name: str, where: str) -> NDArray[np.int64]:
    """Number of the group of every row.

    Raises:
        DataError: where the source does not know such groups.
    """
    if pool.groups is None:
        raise DataError(f"data.split.group: {where} has no groups called {name!r}; name a column of a table, or leave the key out.")
    return np.unique(pool.groups, return_inverse=True)[1].astype(np.int64)


def take_groups(rows: Rows, groups: NDArray[np.int64], total: int, *, seed: int, purpose: int) -> NDArray[np.int64]:
    """Groups at random whose rows are about `total` together: at least one, and never all.

    Args:
        rows: the rows to choose from.
        groups: group of every row of the source.
        total: how many of `rows` the chosen groups should have.
        seed: seed of the choice.
        purpose: what the choice is for; the same seed gives another choice for another purpose.
    """
    names, counts = np.unique(groups[rows], return_counts=True)
    order = permutation(len(names), seed, purpose)
    chosen: list[int] = []
    held = 0
    for i in order[: len(names) - 1].tolist():
        if not chosen or held + counts[i] / 2 <= total:
            chosen.append(i)
            held += int(counts[i])
    return names[chosen]


def fold_of_groups(rows: Rows, groups: NDArray[np.int64], folds: int, fold: int, *, seed: int) -> NDArray[np.int64]:
    """The groups of one of `folds` parts: the largest groups first, each to the part that has the fewest rows so far.

    Args:
        rows: the rows to divide.
        groups: group of every row of the source.
        folds: number of parts; together they hold every group once.
        fold: which of them, from 1.
        seed: decides among groups of the same size.
    """
    names, counts = np.unique(groups[rows], return_counts=True)
    order = permutation(len(names), seed, _PURPOSES["test"])
    held = [0] * folds
    chosen: list[int] = []
    for i in order[np.argsort(-counts[order], kind="stable")].tolist():
        least = held.index(min(held))
        held[least] += int(counts[i])
        chosen += [i] if least == fold - 1 else []
    return names[chosen]


def cut_groups(
    groups: NDArray[np.int64],
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
    """As `split.cut`, by whole groups and regardless of classes. Rows of a held-out group that have no label are left out altogether.

    Raises:
        DataError: where there are too few groups, or the source's own parts share one.
    """
    done = dict(parts)
    _apart(groups, parts)
    train = done["train"]
    total = int(known[train].sum())
    if folds is not None:
        check_folds(folds, fold, parts, len(np.unique(groups[train])), "groups")
        chosen = fold_of_groups(train[known[train]], groups, folds, fold, seed=seed)
        inside = np.isin(groups[train], chosen)
        done["test"], train = train[inside & known[train]], train[~inside]
    wanted = {name: share for name, share in (("test", test), ("valid", valid)) if name not in done and share > 0}
    if len(np.unique(groups[train])) <= len(wanted):
        found = len(np.unique(groups[train]))
        raise DataError(f"data.split.group: {found} groups cannot be cut into {len(wanted) + 1} parts; every part needs one of its own.")
    for name, share in wanted.items():
        chosen = take_groups(train[known[train]], groups, round(total * share), seed=seed, purpose=_PURPOSES[name])
        inside = np.isin(groups[train], chosen)
        done[name] = train[inside & known[train]]
        train = train[~inside]
    done["train"] = train
    if "test" not in done:
        raise DataError("there is no test part: the source has none and data.split.test is 0. Set data.split.test, such as 0.2.")
    return done


def _apart(groups: NDArray[np.int64], parts: dict[str, Rows]) -> None:
    names = list(parts)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if len(shared := np.intersect1d(groups[parts[first]], groups[parts[second]])):
                text = f"{len(shared)} groups are both in the source's {first} part and in its {second} part"
                raise DataError(f"data.split.group: {text}; leave the key out, or cut the source anew.")
