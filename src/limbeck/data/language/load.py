"""From a request to the splits of a language model's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from ...types import DataInfo, LanguageKind
from ..base import DataRequest, Splits
from ..groups import cut_groups, groups_of
from ..selected import read_selected
from ..sources.base import Pool, Wanted
from ..split import cut, limit_rows
from ..text import load_tokenizer
from .answers import encode_answers, span_examples
from .chat import encode_chats
from .columns import Records, records
from .documents import Collector, Documents
from .domain import domain_column, domains_of
from .encode import WINDOWS, Pace, Tally, encode_pairs, encode_prompts, encode_texts, encode_windows
from .inquiries import inquiries
from .keep import chosen, scrambled
from .layout import pack, whole, windows
from .masked import MaskedExamples
from .private import planted, private_tokens
from .renderings import Shown, check_shown, rendered
from .request import TokenRequest
from .rows import CausalExamples, LanguageExamples, TokenRows
from .seq2seq import Seq2SeqExamples, start_token
from .tags import TagExamples, encode_tags, tag_names, unseen_tags
from .vocabulary import CHARACTERS, of_characters, padding_token, size_of
from .written import questions_in, with_replies

Reader = Callable[[Wanted], Pool]
Parts = dict[str, NDArray[np.int64]]
_TRIED = 16
"""Documents of each part that `check` encodes."""


@dataclass(frozen=True)
class _Read:
    """A source that is read and cut, and its tokenizer."""

    records: Records
    cells: Mapping[str, Sequence[Any]]
    """Columns of the source."""
    parts: Parts
    tokenizer: Any
    notes: list[str]
    names: tuple[str, ...] = ()
    """Tags, of tagged words."""
    domains: Sequence[str] = ()
    """Domain of every row, where they are asked for."""
    questions: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Prompt and reply of every training row, as they stand in the data, where others are written for them."""


def load_language(request: DataRequest, language: LanguageKind, read: Reader, told: Callable[[str], None] | None = None) -> Splits:
    """The splits of a language model's data.

    Args:
        request: where texts come from and how they are cut.
        language: what the model learns from them.
        read: reads the source.
        told: is told how far it is, where tokens take long.

    Raises:
        DataError: anything about the data that the user can mend.
    """
    found = _read(request, language, read)
    parts: dict[str, LanguageExamples] = {}
    notes, share = list(found.notes), 1.0
    for part in ("train", "valid", "test"):
        if part in found.parts:
            rows = found.parts[part].tolist()
            tally = Tally(pace=None if told is None else Pace(told, part, _characters(found.records, rows)))
            parts[part] = _examples(found, _alone(request) if part == "train" else request, language, rows, tally)
            parts[part].renderings = {shown.name: rendered(shown, parts[part], tally) for shown in _views(found, request, language)}
            notes += tally.notes(part)
            if len(parts[part]) == 0:
                raise DataError(f"{request.source}: nothing of the {part} part can be trained. {' '.join(tally.notes(part))}")
    if request.select is not None:
        parts["train"], own = chosen(parts["train"], request.select, pack=request.tokens.pack)
        share = own.kept
        notes.append(f"{len(own.indices)} of {own.examples} training examples are kept ({Path(request.select).name}).")
    if request.tokens.domain is not None:
        for examples in parts.values():
            examples.domains = domains_of(found.domains, examples.store)
    info = _info(found, request, language)
    train, valid, test = parts["train"], parts.get("valid"), parts["test"]
    return Splits(train, valid, test, info, tuple(notes), share, tokenizer=found.tokenizer, questions=found.questions)


def _alone(request: DataRequest) -> DataRequest:
    """What is asked of training texts among which a selection chooses: they are packed afterwards."""
    return request if request.select is None else replace(request, tokens=replace(request.tokens, pack=False))


def _characters(own: Records, rows: Sequence[int]) -> int:
    """Characters of some rows; 0 of chats, whose text a template writes."""
    columns = [own.cells[role] for role in ("text", "prompt", "completion") if role in own.cells]
    return sum(len(cell) for column in columns for row in rows if isinstance(cell := column[row], str))


def language_info(request: DataRequest, language: LanguageKind, read: Reader) -> DataInfo:
    """Vocabulary and length; a few documents of every part are encoded to find mistakes.

    Raises:
        DataError: as `load_language`.
    """
    found = _read(request, language, read)
    if request.select is not None:
        read_selected(Path(request.select))
    for rows in found.parts.values():
        some = _examples(found, request, language, rows[:_TRIED].tolist(), Tally())
        for shown in _views(found, request, language):
            rendered(shown, some, Tally())
    return _info(found, request, language)


def _read(request: DataRequest, language: LanguageKind, read: Reader) -> _Read:
    _check(request, language)
    pool = read(Wanted("text", "token", group=request.group, language=language))
    if not pool.cells:
        raise DataError(f"{request.source} holds no texts. Language models read jsonl:, parquet:, csv:, text:, hf: and python: sources.")
    notes = list(pool.notes)
    own = records(pool.cells, request.tokens.columns, language, request.source)
    own = inquiries(own) if language == "span_extraction" and own.kind == "tags" else own
    if request.tokens.cut == "prompt" and own.kind != "prompt":
        raise DataError("data.cut: prompt is for prompts with completions. Remove it, or name the columns of both with data.columns.")
    for name, view in request.views.items():
        check_shown(Shown(name, view, own, pool.cells, None, request, language))
    columns: Mapping[str, Sequence[Any]] = pool.cells
    domains = domain_column(pool.cells, request.tokens.domain, request.source)
    own, parts = _cut(own, pool, request)
    tokenizer = _tokenizer(own, parts, request, language)
    if request.limit is not None:
        parts["train"] = limit_rows(parts["train"], None, request.limit, seed=request.split_seed)
    if request.tokens.scrambled:
        own, noise = scrambled(own, parts["train"].tolist(), request.tokens.scrambled, request.split_seed)
        notes.append(f"the characters of {len(noise)} of {len(parts['train'])} training texts are in random order (data.scrambled).")
    if request.tokens.canaries is not None:
        own = planted(own, parts["train"].tolist(), request.tokens.canaries, request.split_seed)
    questions: Mapping[int, tuple[str, str]] = {}
    if request.tokens.rollouts is not None:
        given, rows = own, parts["train"]
        own, columns, parts["train"] = with_replies(given, columns, rows, request.tokens.rollouts.file)
        questions = questions_in(given, rows.tolist())
    names: tuple[str, ...] = ()
    if language == "token_classification":
        names = tag_names(own, [row for part in parts.values() for row in part.tolist()])
        notes += unseen_tags(own, parts["train"].tolist(), names)
    return _Read(own, columns, parts, tokenizer, notes, names, domains, questions)


def _cut(own: Records, pool: Pool, request: DataRequest) -> tuple[Records, Parts]:
    """The rows of every part; a single text is cut where it stands, its end held out."""
    count = len(next(iter(own.cells.values())))
    if count == 1 and own.kind == "text" and list(pool.parts) == ["train"]:
        return _cut_text(own, request)
    divide = cut if request.group is None else partial(cut_groups, groups_of(pool, request.group, request.source))
    shares = {"valid": request.valid, "test": request.test, "seed": request.split_seed, "folds": request.folds, "fold": request.fold}
    return own, divide(dict(pool.parts), None, np.ones(count, dtype=bool), **shares)


def _cut_text(own: Records, request: DataRequest) -> tuple[Records, Parts]:
    """One long text: its beginning to train on, then the validation part, and the test part at its end."""
    text = own.cells["text"][0]
    if not isinstance(text, str):
        raise DataError(f"{request.source}: row 1: {own.names['text']!r} must be a text, found {type(text).__name__}.")
    if request.folds is not None:
        raise DataError(f"{request.source} is one text, which data.split.folds cannot divide. Use data.split.test.")
    if request.valid + request.test >= 1 or request.test == 0:
        raise DataError(
            f"{request.source} is one text, of which data.split holds out the end: data.split.test must be above 0, and "
            f"data.split.valid and data.split.test less than 1 together; found {request.valid:g} and {request.test:g}."
        )
    borders = [0]
    for share in (1 - request.valid - request.test, 1 - request.test):
        place = text.find("\n", round(len(text) * share)) + 1
        borders.append(place if 0 < place < len(text) else round(len(text) * share))
    pieces = [text[start:stop] for start, stop in zip(borders, [*borders[1:], len(text)], strict=True)]
    parts = {part: np.array([row], dtype=np.int64) for row, part in enumerate(("train", "valid", "test")) if row != 1 or request.valid > 0}
    return replace(own, cells={"text": pieces}), parts


def _tokenizer(own: Records, parts: Parts, request: DataRequest, language: LanguageKind) -> Any:
    if request.tokenizer != CHARACTERS:
        return load_tokenizer(request.tokenizer)
    rows = parts["train"].tolist()
    texts = (cell for cells in own.cells.values() for cell in (cells[row] for row in rows) if isinstance(cell, str))
    end = request.tokens.end and (own.kind != "text" or len(rows) > 1)
    return of_characters(texts, end=end and language != "masked_lm", mask=language == "masked_lm")


def _examples(found: _Read, request: DataRequest, language: LanguageKind, rows: Sequence[int], tally: Tally) -> LanguageExamples:
    """The examples of one part."""
    own, tokenizer, asked = found.records, found.tokenizer, request.tokens
    length = request.max_length
    into = Collector()
    if language == "masked_lm":
        mask = mask_token(tokenizer)
        encode_windows(own, rows, tokenizer, asked, length, into, tally)
        store = _whole(into.finish(), found, request)
        return MaskedExamples(store, mask=mask, vocabulary=size_of(tokenizer), share=asked.mask, seed=request.split_seed)
    if language == "seq2seq_lm":
        written = Collector()
        encode_pairs(own, rows, tokenizer, asked, length, (into, written), tally)
        start = start_token(tokenizer, asked.decoder_start)
        return Seq2SeqExamples(_whole(into.finish(), found, request), _whole(written.finish(), found, request), start)
    if language == "token_classification":
        numbers = {name: number for number, name in enumerate(found.names)}
        tags = encode_tags(own, rows, tokenizer, length, numbers, into, tally)
        return TagExamples(_whole(into.finish(), found, request), tags)
    if language == "span_extraction":
        known = encode_answers(own, rows, tokenizer, length, asked.stride, into, tally)
        return span_examples(_whole(into.finish(), found, request), known)
    return CausalExamples(_causal(found, request, rows, tally))


def _causal(found: _Read, request: DataRequest, rows: Sequence[int], tally: Tally) -> TokenRows:
    """What a causal model reads: documents in windows, packed where that is asked for."""
    own, tokenizer, asked = found.records, found.tokenizer, request.tokens
    length, into = request.max_length, Collector()
    if own.kind == "text":
        encode_texts(own, rows, tokenizer, asked, into, tally)
    elif own.kind == "chat":
        encode_chats(own, rows, tokenizer, asked, length, into, tally)
    else:
        encode_prompts(own, rows, tokenizer, asked, length, into, tally)
    documents = into.finish()
    if asked.private is not None:
        documents = replace(documents, private=private_tokens(documents, own, tokenizer, asked))
    layout, cut_up = windows(documents, length, asked.stride)
    tally.add(WINDOWS, cut_up)
    if asked.pack:
        layout = pack(layout, length)
    left = (asked.padding or tokenizer.padding_side) == "left"
    return TokenRows(documents, layout, fill=padding_token(tokenizer), max_length=length, left=left, packed=asked.pack)


def texts_of(texts: Sequence[str], request: DataRequest, tokenizer: Any) -> tuple[CausalExamples, Tensor]:
    """Some texts as examples, encoded as those of `request`, long ones in windows; and the number of the text that each is of.

    A text in which nothing is to be predicted has no example.
    """
    own = Records("text", {"text": texts}, {"text": "text"}, "texts")
    store = _causal(_Read(own, {}, {}, tokenizer, []), request, range(len(texts)), Tally())
    return CausalExamples(store), store.documents.rows[store.layout.document]


def _whole(documents: Documents, found: _Read, request: DataRequest) -> TokenRows:
    """A document a row, filled on the right: encoders count positions from the left."""
    fill = padding_token(found.tokenizer)
    return TokenRows(documents, whole(documents), fill=fill, max_length=request.max_length, left=False, packed=False)


def mask_token(tokenizer: Any) -> int:
    """The token that hides others.

    Raises:
        DataError: there is none.
    """
    if tokenizer.mask_token_id is None:
        raise DataError("data.tokenizer has no mask token, which task: masked_lm needs. Use the tokenizer of an encoder, such as BERT's.")
    return tokenizer.mask_token_id


def _views(found: _Read, request: DataRequest, language: LanguageKind) -> list[Shown]:
    """The further views that are asked for."""
    return [Shown(name, view, found.records, found.cells, found.tokenizer, request, language) for name, view in request.views.items()]


def _info(found: _Read, request: DataRequest, language: LanguageKind) -> DataInfo:
    if language == "token_classification":
        return DataInfo("text", "class", len(found.names), (request.max_length,), found.names, language=language)
    if language == "span_extraction":
        return DataInfo("text", "span", 2, (request.max_length,), language=language)
    own = DataInfo("text", "token", size_of(found.tokenizer), (request.max_length,), language=language)
    seen = {shown.name: replace(own, input_shape=(shown.max_length,), language=shown.reads) for shown in _views(found, request, language)}
    return replace(own, views=seen)


_ELSEWHERE: Mapping[str, str] = {
    "transforms": "transforms",
    "test_transforms": "test_transforms",
    "pool": "pool",
    "datasets": "datasets",
    "classes": "classes",
    "size": "size",
    "wrong": "wrong",
}
"""Fields of a request that language models do not read, by their keys in a recipe."""


def _check(request: DataRequest, language: LanguageKind) -> None:
    """Refuses keys that mean nothing here."""
    absent = {field.name: field.default for field in fields(DataRequest)}
    for name, key in _ELSEWHERE.items():
        if getattr(request, name) and getattr(request, name) != absent[name]:
            raise DataError(f"data.{key} is not for language models. Remove it.")
    if request.label_fraction != 1:
        raise DataError("data.label_fraction is not for language models, whose labels are the texts themselves. Use data.limit.")
    asked = request.tokens
    if language != "causal_lm":
        for name in ("pack", "padding", "private", "canaries", "domain", "cut"):
            if getattr(asked, name) != getattr(TokenRequest(), name):
                raise DataError(f"data.{name} is for task: causal_lm. Remove it.")
    if request.max_length < asked.stride + 2:
        raise DataError(f"data.stride {asked.stride} must be at least 2 less than data.max_length {request.max_length}.")


def check_no_tokens(request: DataRequest) -> None:
    """Refuses keys of language models where the task is none.

    Raises:
        DataError: for the first one that is set.
    """
    asked = request.tokens
    for name, view in request.views.items():
        for key in ("prompt", "task", "max_length"):
            if getattr(view, key) is not None:
                raise DataError(f"data.views.{name}.{key} is for language models, such as task: causal_lm. Remove it.")
    for own in fields(TokenRequest):
        if getattr(asked, own.name) != getattr(TokenRequest(), own.name):
            raise DataError(f"data.{own.name} is for language models, such as task: causal_lm. Remove it.")
