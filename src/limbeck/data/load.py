"""From a request to splits: read the source, encode the labels, cut, encode the inputs, measure the training part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import DataInfo, LabelKind, LanguageKind
from .base import DataRequest, Examples, Splits
from .hiding import hidden_labels, wrong_labels
from .language.load import check_no_tokens, language_info, load_language
from .opening import read_source
from .prepare import Prepared, info_of, prepare
from .selected import read_selected
from .sources.base import Kind, Pool
from .standardise import standardise, standardises
from .statistics import moments
from .stores import Store
from .transforms._parse import parse_transforms
from .transforms.base import Transform
from .views import View, check_transforms_fit, lane_of, scaled, view_store


def load_data(
    request: DataRequest,
    *,
    kind: Kind | None,
    labels: LabelKind,
    language: LanguageKind | None = None,
    allow_code: bool = False,
    told: Callable[[str], None] | None = None,
) -> Splits:
    """The splits of a data set, ready for training.

    Args:
        request: where the examples come from and how they are cut.
        kind: the kind of data that the task needs; None takes what the source gives.
        labels: what the labels mean.
        language: what a language model learns from texts; None for other tasks.
        allow_code: run a source (or transform) that is local code.
        told: is told how far it is, where the tokens of texts take long.

    Raises:
        DataError: anything about the data that the user can mend.
        UnknownName: no such source, transform or name.
    """
    if language is not None:
        return load_language(request, language, partial(read_source, request.source, request.args, allow_code=allow_code), told)
    check_no_tokens(request)
    transforms = tuple(parse_transforms(request.transforms, allow_code=allow_code))
    prepared = prepare(request, kind, labels, allow_code=allow_code, preview=False)
    pool = prepared.pool
    check_transforms_fit(request.source, transforms, request.transforms, pool.kind)
    store, notes = _encode_inputs(pool, request, prepared.measured)
    if request.select is not None:
        candidates = Examples(store, torch.from_numpy(prepared.candidates), torch.from_numpy(prepared.candidates))
        read_selected(Path(request.select)).check_content(candidates.fingerprint(), request.select)
    values = prepared.labels.values
    if standardises(request.args):
        values, note = standardise(values, prepared.kept, labels, prepared.labels.names, request.source)
        notes.append(note)
    hidden = hidden_labels(values, prepared.candidates, prepared.kept, labels)
    if request.wrong:
        hidden, note = wrong_labels(hidden, prepared.kept, request.wrong, len(prepared.labels.names), request.split_seed)
        notes.append(note)
    mean, std = moments(store, torch.from_numpy(prepared.measured), pool.kind)
    views, seen = _views(prepared, request, store, allow_code=allow_code)
    shift = tuple(parse_transforms(request.test_transforms, allow_code=allow_code))
    check_transforms_fit(request.source, shift, request.test_transforms, pool.kind)

    examples = _Examples(prepared, store, values, views)
    test = examples.judged("test", shift)
    info = replace(info_of(prepared, labels, store.shape), mean=mean, std=std, views=_measured(prepared, labels, views, seen))
    return Splits(
        examples.training(transforms, hidden),
        examples.judged("valid", shift) if "valid" in prepared.parts else None,
        test.augmented(request.split_seed, 0) if shift else test,
        info,
        tuple(prepared.notes + notes),
        prepared.share,
        len(prepared.candidates) - len(prepared.measured),
    )


@dataclass(frozen=True)
class _Examples:
    """What the parts of a data set have in common."""

    prepared: Prepared
    store: Store
    values: Tensor
    """Label of every row."""
    views: Mapping[str, View]

    def training(self, transforms: tuple[Transform, ...], hidden: Tensor) -> Examples:
        """The training part with the labels that it shows."""

        def shown(rows: Tensor, among: Examples | None = None) -> Examples:
            return Examples(self.store, hidden[rows], rows, transforms, self.views, self._groups(rows), among)

        rows, every = torch.from_numpy(self.prepared.parts["train"]), torch.from_numpy(self.prepared.candidates)
        return shown(rows) if torch.equal(rows, every) else shown(rows, shown(every))

    def judged(self, part: str, transforms: tuple[Transform, ...]) -> Examples:
        """A part that is judged, whose views are shown as they are."""
        rows = torch.from_numpy(self.prepared.parts[part])
        plain = {name: replace(view, transforms=()) for name, view in self.views.items()}
        return Examples(self.store, self.values[rows], rows, transforms, plain, self._groups(rows))

    def _groups(self, rows: Tensor) -> Tensor | None:
        joint = self.prepared.joint
        return None if joint is None else torch.from_numpy(joint.owner)[rows]


def data_info(
    request: DataRequest, *, kind: Kind | None, labels: LabelKind, language: LanguageKind | None = None, allow_code: bool = False
) -> DataInfo:
    """Shapes and names without statistics: no image of a folder is decoded, and of texts at most a few are tokenised.

    Raises:
        DataError: as `load_data`.
    """
    if language is not None:
        return language_info(request, language, partial(read_source, request.source, request.args, allow_code=allow_code))
    check_no_tokens(request)
    prepared = prepare(request, kind, labels, allow_code=allow_code, preview=True)
    inputs = prepared.pool.inputs
    if prepared.pool.kind == "text":
        own = info_of(prepared, labels, (request.max_length,))
        return replace(own, views=dict.fromkeys(request.views, own))
    store = inputs if isinstance(inputs, Store) else _encode_inputs(prepared.pool, request, prepared.measured)[0]
    store = _resized(store, prepared.pool.kind, request.size)
    views, kinds = _views(prepared, request, store, allow_code=allow_code)
    own = info_of(prepared, labels, store.shape)
    return replace(own, views={name: replace(own, kind=kinds[name], input_shape=view.store.shape) for name, view in views.items()})


def _views(prepared: Prepared, request: DataRequest, store: Store, *, allow_code: bool) -> tuple[dict[str, View], dict[str, Kind]]:
    """The further views, and the kind of data that each shows."""
    views: dict[str, View] = {}
    kinds: dict[str, Kind] = {}
    for name, asked in request.views.items():
        kinds[name], own = view_store(name, asked, prepared.pool, store, request.size)
        transforms = tuple(parse_transforms(asked.transforms, allow_code=allow_code))
        check_transforms_fit(f"data.views.{name}", transforms, asked.transforms, kinds[name])
        views[name] = View(own, transforms, lane_of(name, asked))
    return views, kinds


def _measured(prepared: Prepared, labels: LabelKind, views: Mapping[str, View], kinds: Mapping[str, Kind]) -> dict[str, DataInfo]:
    """What models need to know of every view."""
    rows = torch.from_numpy(prepared.measured)
    found: dict[str, DataInfo] = {}
    for name, view in views.items():
        mean, std = moments(view.store, rows, kinds[name])
        found[name] = replace(info_of(prepared, labels, view.store.shape), kind=kinds[name], mean=mean, std=std)
    return found


def _encode_inputs(pool: Pool, request: DataRequest, train: NDArray[np.int64]) -> tuple[Store, list[str]]:
    """The inputs as a store, and what should be said of it."""
    inputs = pool.inputs
    if isinstance(inputs, Store):
        return _resized(inputs, pool.kind, request.size), []
    if isinstance(inputs, Mapping):
        from .tabular import encode_columns

        return encode_columns(inputs, train, categorical=pool.categorical, ordinal=pool.ordinal, where=request.source)
    from .text import tokenise

    return tokenise(cast("list[Any]", inputs), request.tokenizer, request.max_length), []


def _resized(store: Store, kind: Kind, size: int | None) -> Store:
    return scaled(store, size) if kind == "image" and size is not None else store
