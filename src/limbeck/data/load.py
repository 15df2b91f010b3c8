"""From a request to splits: read the source, encode the labels, cut, encode the inputs, measure the training part."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, LimbeckError, UnknownName
from ..types import IGNORE, DataInfo, LabelKind, LanguageKind, labelled
from .arguments import build
from .base import DataRequest, Examples, Splits
from .groups import cut_groups, groups_of
from .joint import DatasetRequest, Joint, cut_joint, only_of, read_joint
from .labels import Labels, encode_labels
from .language.load import check_no_tokens, language_info, load_language
from .narrow import of_classes
from .pools import join, pool_rows, size_of
from .selected import read_selected
from .sources import SOURCES
from .sources.base import Kind, Pool, Source, Wanted
from .split import cut, labelled_rows, limit_rows
from .statistics import moments
from .stores import Store
from .transforms._parse import parse_transforms
from .views import View, check_transforms_fit, lane_of, scaled, view_store


@dataclass(frozen=True)
class _Prepared:
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
        return load_language(request, language, partial(_read, request.source, request.args, allow_code=allow_code), told)
    check_no_tokens(request.tokens)
    transforms = tuple(parse_transforms(request.transforms, allow_code=allow_code))
    prepared = _prepare(request, kind, labels, allow_code=allow_code, preview=False)
    pool, parts = prepared.pool, prepared.parts
    check_transforms_fit(request.source, transforms, request.transforms, pool.kind)
    store, notes = _encode_inputs(pool, request, prepared.measured)
    if request.select is not None:
        candidates = Examples(store, torch.from_numpy(prepared.candidates), torch.from_numpy(prepared.candidates))
        read_selected(Path(request.select)).check_content(candidates.fingerprint(), request.select)
    values = prepared.labels.values
    if build_source_standardises(request):
        values, note = _standardise(values, prepared, labels, request.source)
        notes.append(note)
    mean, std = moments(store, torch.from_numpy(prepared.measured), pool.kind)
    hidden = values.clone()
    without = torch.from_numpy(np.setdiff1d(prepared.candidates, prepared.kept))
    if labels == "joint":
        hidden[without, 1:] = torch.nan  # which data set an example comes from stays known
    else:
        hidden[without] = IGNORE if labels == "class" else torch.nan

    views, seen = _views(prepared, request, store, allow_code=allow_code)
    shift = tuple(parse_transforms(request.test_transforms, allow_code=allow_code))
    check_transforms_fit(request.source, shift, request.test_transforms, pool.kind)

    groups = torch.from_numpy(prepared.joint.owner) if prepared.joint is not None else None

    def training(rows: Tensor, among: Examples | None = None) -> Examples:
        return Examples(store, hidden[rows], rows, transforms, views, groups[rows] if groups is not None else None, among)

    def split(name: str) -> Examples:
        rows = torch.from_numpy(parts[name])
        if name == "train":
            every = torch.from_numpy(prepared.candidates)
            return training(rows) if torch.equal(rows, every) else training(rows, training(every))
        plain = {view: replace(own, transforms=()) for view, own in views.items()}
        examples = Examples(store, values[rows], rows, shift, plain, groups[rows] if groups is not None else None)
        return examples.augmented(request.split_seed, 0) if name == "test" and shift else examples

    info = replace(_info(prepared, labels, store.shape), mean=mean, std=std, views=_measured(prepared, labels, views, seen))
    return Splits(
        split("train"),
        split("valid") if "valid" in parts else None,
        split("test"),
        info,
        tuple(prepared.notes + notes),
        prepared.share,
        len(prepared.candidates) - len(prepared.measured),
    )


def data_info(
    request: DataRequest, *, kind: Kind | None, labels: LabelKind, language: LanguageKind | None = None, allow_code: bool = False
) -> DataInfo:
    """Shapes and names without statistics: no image of a folder is decoded, and of texts at most a few are tokenised.

    Raises:
        DataError: as `load_data`.
    """
    if language is not None:
        return language_info(request, language, partial(_read, request.source, request.args, allow_code=allow_code))
    check_no_tokens(request.tokens)
    prepared = _prepare(request, kind, labels, allow_code=allow_code, preview=True)
    inputs = prepared.pool.inputs
    if prepared.pool.kind == "text":
        own = _info(prepared, labels, (request.max_length,))
        return replace(own, views=dict.fromkeys(request.views, own))
    store = inputs if isinstance(inputs, Store) else _encode_inputs(prepared.pool, request, prepared.measured)[0]
    store = _resized(store, prepared.pool.kind, request.size)
    views, kinds = _views(prepared, request, store, allow_code=allow_code)
    own = _info(prepared, labels, store.shape)
    return replace(own, views={name: replace(own, kind=kinds[name], input_shape=view.store.shape) for name, view in views.items()})


def _views(prepared: _Prepared, request: DataRequest, store: Store, *, allow_code: bool) -> tuple[dict[str, View], dict[str, Kind]]:
    """The further views, and the kind of data that each shows."""
    views: dict[str, View] = {}
    kinds: dict[str, Kind] = {}
    for name, asked in request.views.items():
        kinds[name], own = view_store(name, asked, prepared.pool, store, request.size)
        transforms = tuple(parse_transforms(asked.transforms, allow_code=allow_code))
        check_transforms_fit(f"data.views.{name}", transforms, asked.transforms, kinds[name])
        views[name] = View(own, transforms, lane_of(name, asked))
    return views, kinds


def _measured(prepared: _Prepared, labels: LabelKind, views: Mapping[str, View], kinds: Mapping[str, Kind]) -> dict[str, DataInfo]:
    """What models need to know of every view."""
    rows = torch.from_numpy(prepared.measured)
    found: dict[str, DataInfo] = {}
    for name, view in views.items():
        mean, std = moments(view.store, rows, kinds[name])
        found[name] = replace(_info(prepared, labels, view.store.shape), kind=kinds[name], mean=mean, std=std)
    return found


def is_local_code(source: str) -> bool:
    """Whether a source is `module:callable` rather than a source of Limbeck or of an installed package."""
    return ":" in source and source.partition(":")[0] not in SOURCES.names()


def build_source(source: str, args: Mapping[str, Any], *, allow_code: bool = False, where: str = "data.source") -> tuple[Source, str]:
    """A source by its reference, its arguments checked, and the location that it is to read.

    Raises:
        UnknownName: no such source.
        DataError: an argument that the source does not take.
        CodeNotAllowed: local code that the user has not allowed.
    """
    name, colon, location = source.partition(":")
    if name in SOURCES.names():
        return build(SOURCES.get(name), args, f"{where} {name!r}"), location
    if colon and _importable(name):
        from .sources._code import CodeSource

        return CodeSource(reference=source, args=dict(args), allow_code=allow_code), location
    hint = "A source is written `csv:data.csv`." if colon else f"A source is written NAME:WHERE, such as csv:{name}."
    raise UnknownName("data source", name, SOURCES.names(), hint)


def build_source_standardises(request: DataRequest) -> bool:
    """Whether the source's arguments ask for standardised targets."""
    return request.args.get("standardise_target") is True


def _importable(module: str) -> bool:
    top = module.partition(".")[0]
    if not top.isidentifier():
        return False
    return (Path.cwd() / top).is_dir() or (Path.cwd() / f"{top}.py").is_file() or importlib.util.find_spec(top) is not None


def _read(source: str, args: Mapping[str, Any], wanted: Wanted, *, allow_code: bool, where: str = "data.source") -> Pool:
    """All rows of a source."""
    reader, location = build_source(source, args, allow_code=allow_code, where=where)
    try:
        return reader.read(location, wanted)
    except (OSError, MemoryError) as error:
        raise DataError(f"{source}: cannot be read: {error}") from error


def _prepare(request: DataRequest, kind: Kind | None, labels: LabelKind, *, allow_code: bool, preview: bool) -> _Prepared:
    wanted = Wanted(kind, labels, _largest(request), preview, _arrays(request), request.group)
    joint: Joint | None = None
    if request.datasets:
        joint = read_joint(request.datasets, partial(_read_one, wanted, allow_code))
        pool, encoded = joint.pool, joint.labels
    else:
        pool = _read(request.source, request.args, wanted, allow_code=allow_code)
        encoded = encode_labels(pool.labels, labels, names=pool.names, where=request.source)
    if kind is not None and pool.kind != kind:
        raise DataError(f"{request.source} gives {pool.kind} data, the task needs {kind} data. Choose another source or task.")
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
        more = _read(
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
    return _Prepared(pool, encoded, {**parts, "train": train}, known, kept, measured, candidates, share, notes, joint)


def _shares(request: DataRequest) -> dict[str, Any]:
    """How much of the data is held out."""
    names = {"valid": request.valid, "test": request.test, "seed": request.split_seed}
    return {**names, "folds": request.folds, "fold": request.fold}


def _read_one(wanted: Wanted, allow_code: bool, request: DatasetRequest, where: str) -> Pool:
    """All rows of one of several data sets."""
    return _read(request.source, request.args, replace(wanted, labels=request.labels), allow_code=allow_code, where=f"{where}.source")


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
        if request.datasets[name].args.get("standardise_target") is True:
            joint = _standardise_share(joint, name, mine["train"][known[mine["train"]]], notes)
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


def _largest(request: DataRequest) -> int | None:
    """The size at which images are read: the largest that is asked for, so that a larger view is not made from a smaller one."""
    sizes = [view.size for view in request.views.values() if view.size is not None]
    return None if request.size is None else max([request.size, *sizes])


def _arrays(request: DataRequest) -> tuple[str, ...]:
    return tuple(dict.fromkeys(view.array for view in request.views.values() if view.array is not None))


def _resized(store: Store, kind: Kind, size: int | None) -> Store:
    return scaled(store, size) if kind == "image" and size is not None else store


def _standardise(values: Tensor, prepared: _Prepared, kind: LabelKind, source: str) -> tuple[Tensor, str]:
    if kind != "real":
        raise LimbeckError(f"{source}: standardise_target is for regression.")
    return _standardised(values, values[torch.from_numpy(prepared.kept)], prepared.labels.names, source)


def _standardise_share(joint: Joint, name: str, train: NDArray[np.int64], notes: list[str]) -> Joint:
    """The targets of a data set by all its labelled training examples, so that all stages and teachers have the same units."""
    share, where = joint.shares[name], f"data.datasets.{name}"
    if share.labels != "real":
        raise DataError(f"{where}: standardise_target is for labels of kind 'real'.")
    values = joint.labels.values.clone()
    rows, columns = values[:, 0] == share.number, slice(1, 1 + share.outputs)
    values[rows, columns], note = _standardised(values[rows, columns], values[torch.from_numpy(train), columns], share.names, where)
    notes.append(f"{name}: {note}")
    return replace(joint, labels=replace(joint.labels, values=values))


def _standardised(values: Tensor, known: Tensor, names: tuple[str, ...], source: str) -> tuple[Tensor, str]:
    """Targets in units of the deviation of the known ones."""
    known = known.double()
    if len(known) == 0:
        raise DataError(f"{source}: standardise_target needs labelled training examples; raise data.label_fraction.")
    mean, std = known.mean(0), known.std(0, unbiased=False)
    std = torch.where(std > 0, std, torch.ones_like(std))
    told = "; ".join(f"{n}: mean {m:.6g}, deviation {s:.6g}" for n, m, s in zip(names, mean.tolist(), std.tolist(), strict=True))
    return ((values.double() - mean) / std).float(), f"targets are standardised by the labelled training examples ({told})."


def _info(prepared: _Prepared, labels: LabelKind, shape: tuple[int, ...]) -> DataInfo:
    names = prepared.labels.names
    shares = prepared.joint.shares if prepared.joint is not None else {}
    return DataInfo(prepared.pool.kind, labels, len(names), shape, names, shares=shares)
