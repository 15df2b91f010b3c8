"""What a request names, read, its labels encoded, and cut into parts; the inputs are not yet encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..types import IGNORE, DataInfo, LabelKind, labelled
from .base import DataRequest
from .groups import cut_groups, groups_of
from .hiding import check_wrong
from .joint import DatasetRequest, Joint, cut_joint, only_of, read_joint
from .labels import Labels, encode_labels
from .narrow import of_classes
from .opening import read_source
from .pools import join, pool_rows, size_of
from .selected import read_selected
from .sources.base import Kind, Pool, Wanted
from .split import cut, labelled_rows, limit_rows
from .standardise import standardise_share, standardises


@dataclass(frozen=True)
class Prepared:
    """A source, read and cut; its inputs are not yet encoded."""

    pool: Pool
    labels: Labels
    parts: dict[str, NDArray[np.int64]]
    known: NDArray[np.bool_]
    """Which rows have a label in the source."""
    kept: NDArray[np.int64]
    """Training rows that keep their label."""
    measured: NDArray[np.int64]
    """Rows from which statistics are taken: the training rows of the source itself, before any selection."""
    candidates: NDArray[np.int64]
    """Rows among which a selection chooses: these, then those of the pool."""
    share: float
    """Share of the candidates that is kept."""
    notes: list[str]
    joint: Joint | None = None
    """The data sets, where they are several."""


def prepare(request: DataRequest, kind: Kind | None, labels: LabelKind, *, allow_code: bool, preview: bool) -> Prepared:
    """The source of a request, read and cut.

    Args:
        request: where the examples come from and how they are cut.
        kind: the kind of data that the task needs; None takes what the source gives.
        labels: what the labels mean.
        allow_code: run a source that is local code.
        preview: shapes and names are enough.

    Raises:
        DataError: anything about the data that the user can mend.
        UnknownName: no such source or name.
    """
    wanted = Wanted(kind, labels, _largest(request), preview, _arrays(request), request.group)
    joint: Joint | None = None
    if request.datasets:
        joint = read_joint(request.datasets, partial(_read_one, wanted, allow_code))
        pool, encoded = joint.pool, joint.labels
    else:
        pool = read_source(request.source, request.args, wanted, allow_code=allow_code)
        encoded = encode_labels(pool.labels, labels, names=pool.names, where=request.source)
    if kind is not None and pool.kind != kind:
        raise DataError(f"{request.source} gives {pool.kind} data, the task needs {kind} data. Choose another source or task.")
    check_wrong(request.wrong, labels)
    known = labelled(encoded.values).numpy()
    classes = joint.strata() if joint is not None else encoded.values.numpy() if labels == "class" else None
    notes = list(pool.notes)
    if joint is not None:
        joint, parts = _joint_parts(request, joint, known, notes)
        encoded = joint.labels
    else:
        parts = _parts(request, pool, encoded, labels, notes)
    train = parts["train"]
    if missing := int((~known[train]).sum()):
        notes.append(f"{missing} training examples have no (complete) label in the source; they count as unlabelled.")
    if request.limit is not None:
        train = limit_rows(train, classes, request.limit, seed=request.split_seed)
    kept = labelled_rows(train, classes, known, request.label_fraction, seed=request.split_seed)
    measured = candidates = train
    if request.pool is not None:
        more = read_source(
            request.pool.source, request.pool.args, replace(wanted, arrays=(), group=None), allow_code=allow_code, where="data.pool"
        )
        used = pool_rows(more, request.pool.limit, request.split_seed)
        candidates = np.concatenate([train, used + len(known)])
        pool, encoded, known = _with_pool(pool, more, encoded, known, request.pool.source)
        notes.append(f"{len(used)} examples of {request.pool.source} are added without labels.")
    chosen, kept = _chosen(request, candidates, kept, notes)
    train = chosen if request.unlabelled else kept
    if len(train) == 0:
        why = "data.label_fraction is 0" if request.select is None else "the selection keeps none that has a label"
        raise DataError(f"no training example is left: {why} and data.unlabelled is false. Raise one of them.")
    share = len(chosen) / len(candidates)
    return Prepared(pool, encoded, {**parts, "train": train}, known, kept, measured, candidates, share, notes, joint)


def _shares(request: DataRequest) -> dict[str, Any]:
    """How much of the data is held out."""
    names = {"valid": request.valid, "test": request.test, "seed": request.split_seed}
    return {**names, "folds": request.folds, "fold": request.fold}


def _read_one(wanted: Wanted, allow_code: bool, request: DatasetRequest, where: str) -> Pool:
    """All rows of one of several data sets."""
    return read_source(request.source, request.args, replace(wanted, labels=request.labels), allow_code=allow_code, where=f"{where}.source")


def _joint_parts(
    request: DataRequest, joint: Joint, known: NDArray[np.bool_], notes: list[str]
) -> tuple[Joint, dict[str, NDArray[np.int64]]]:
    """Several data sets with the targets that are to be standardised, and the rows of every part."""
    own = _judged(joint.pool.parts, known, notes, request.source)
    divide = partial(cut, **_shares(request))
    parts = cut_joint(joint, own, divide)
    for name, share in joint.shares.items():
        mine = {part: rows[joint.owner[rows] == share.number] for part, rows in parts.items()}
        if share.labels == "class":
            _check_classes(joint.classes(share), mine, share.names, request.datasets[name].source)
        if standardises(request.datasets[name].args):
            joint = standardise_share(joint, name, mine["train"][known[mine["train"]]], notes)
    return joint, only_of(joint, parts, request.only) if request.only else parts


def _parts(request: DataRequest, pool: Pool, encoded: Labels, labels: LabelKind, notes: list[str]) -> dict[str, NDArray[np.int64]]:
    """The rows of every part, of which training still has all."""
    known = labelled(encoded.values).numpy()
    classes = encoded.values.numpy() if labels == "class" else None
    own = _judged(pool.parts, known, notes, request.source)
    divide = cut if request.group is None else partial(cut_groups, groups_of(pool, request.group, request.source))
    parts = divide(own, classes, known, **_shares(request))
    if classes is not None:
        _check_classes(classes, parts, encoded.names, request.source)
    return of_classes(parts, classes, request.classes, encoded.names, request.source) if request.classes else parts


def _chosen(
    request: DataRequest, candidates: NDArray[np.int64], kept: NDArray[np.int64], notes: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training rows that a stored selection keeps, and those of them that keep their label."""
    if request.select is None:
        return candidates, kept
    chosen = read_selected(Path(request.select))
    chosen.check_count(len(candidates), request.select)
    train = candidates[list(chosen.indices)]
    notes.append(f"{len(train)} of {len(candidates)} training examples are kept ({Path(request.select).name}).")
    return train, np.intersect1d(kept, train)


def _with_pool(first: Pool, second: Pool, labels: Labels, known: NDArray[np.bool_], where: str) -> tuple[Pool, Labels, NDArray[np.bool_]]:
    """Inputs, labels and their absence, with the rows of a pool after those of the source."""
    pool = join(first, second, where)
    count = size_of(second)
    missing = labels.values.new_full((count, *labels.values.shape[1:]), IGNORE if not labels.values.is_floating_point() else torch.nan)
    values = torch.cat([labels.values, missing])
    return pool, replace(labels, values=values), np.concatenate([known, np.zeros(count, dtype=bool)])


def _judged(
    parts: Mapping[str, NDArray[np.int64]], known: NDArray[np.bool_], notes: list[str], source: str
) -> dict[str, NDArray[np.int64]]:
    """The source's own parts; of those that judge a model, only the labelled rows."""
    own = dict(parts)
    for name in ("valid", "test"):
        if name in own and not known[own[name]].all():
            dropped = int((~known[own[name]]).sum())
            own[name] = own[name][known[own[name]]]
            notes.append(f"{dropped} examples of the {name} part have no (complete) label and were left out.")
            if len(own[name]) == 0:
                raise DataError(f"{source}: no example of its {name} part has a label.")
    return own


def _check_classes(classes: NDArray[np.int64], parts: Mapping[str, NDArray[np.int64]], names: tuple[str, ...], source: str) -> None:
    """Every class that is judged must have been seen in training."""
    trained = set(np.unique(classes[parts["train"]]).tolist())
    for part in ("valid", "test"):
        unseen = set(np.unique(classes[parts[part]]).tolist()) - trained if part in parts else set()
        if unseen:
            listed = ", ".join(repr(names[i]) for i in sorted(unseen)[:5])
            raise DataError(f"{source}: the {part} part has classes that the training part lacks: {listed}. Add training examples of them.")


def _largest(request: DataRequest) -> int | None:
    """The size at which images are read: the largest that is asked for, so that a larger view is not made from a smaller one."""
    sizes = [view.size for view in request.views.values() if view.size is not None]
    return None if request.size is None else max([request.size, *sizes])


def _arrays(request: DataRequest) -> tuple[str, ...]:
    return tuple(dict.fromkeys(view.array for view in request.views.values() if view.array is not None))


def info_of(prepared: Prepared, labels: LabelKind, shape: tuple[int, ...]) -> DataInfo:
    """What models need to know of the data, whose encoded inputs have this shape."""
    names = prepared.labels.names
    shares = prepared.joint.shares if prepared.joint is not None else {}
    return DataInfo(prepared.pool.kind, labels, len(names), shape, names, shares=shares)
