"""Rows and labels of causal language models, by hand and for any documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.language_data import WORDS, load, save_tokenizer, write_jsonl

from limbeck.data.language.documents import Collector, Documents
from limbeck.data.language.layout import pack, windows
from limbeck.data.language.rows import CausalExamples, TokenRows
from limbeck.data.loader import EpochPlan, eval_loader, train_loader
from limbeck.documents import document_key
from limbeck.errors import DataError
from limbeck.types import Batch


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "tokenizer")


@pytest.fixture
def source(tmp_path: Path) -> str:
    """20 texts of 1 to 20 words."""
    return write_jsonl(tmp_path / "texts.jsonl", [{"text": " ".join(WORDS[:n])} for n in range(1, 21)])


def documents(*trained: list[bool]) -> Documents:
    """Documents with tokens that are all different, and which of them are trained."""
    found, start = Collector(), 10
    for row, flags in enumerate(trained):
        found.add(list(range(start, start + len(flags))), bytes(flags), row)
        start += len(flags)
    return found.finish()


def examples(own: Documents, max_length: int, *, stride: int = 0, packed: bool = False, left: bool = False) -> CausalExamples:
    layout, _ = windows(own, max_length, stride)
    return CausalExamples(
        TokenRows(own, pack(layout, max_length) if packed else layout, fill=0, max_length=max_length, left=left, packed=packed)
    )


def test_a_batch_by_hand(tokenizer: str, source: str) -> None:
    splits = load(source, tokenizer)
    batch = splits.train.__getitems__([1, 0])
    assert batch.inputs["input_ids"].tolist() == [[1, 5, 6, 2], [1, 5, 2, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert batch.rows is not None
    assert batch.labels is not None
    assert batch.rows.tolist() == [0, 1, 2, 4, 5]
    assert batch.labels.tolist() == [5, 6, 2, 5, 2]
    assert batch.extra["documents"].tolist() == [1, 1, 1, 0, 0]
    assert batch.extra["within"].tolist() == [0, 1, 2, 0, 1]
    assert batch.index.tolist() == [1, 0]
    assert batch.units == 5


def test_information(tokenizer: str, source: str) -> None:
    info = load(source, tokenizer, max_length=9).info
    assert (info.kind, info.labels, info.num_outputs, info.input_shape) == ("text", "token", 45, (9,))


def test_left_padding_counts_positions_from_the_first_token(tokenizer: str, source: str) -> None:
    batch = load(source, tokenizer, padding="left").train.__getitems__([1, 0])
    assert batch.inputs["input_ids"].tolist() == [[1, 5, 6, 2], [0, 1, 5, 2]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3], [0, 0, 1, 2]]
    assert batch.rows is not None
    assert batch.rows.tolist() == [0, 1, 2, 5, 6]


def test_padding_follows_the_tokenizer(tmp_path: Path, source: str) -> None:
    left = save_tokenizer(tmp_path / "left", side="left")
    assert load(source, left).train.__getitems__([1, 0]).inputs["input_ids"][1, 0] == 0
    assert load(source, left, padding="right").train.__getitems__([1, 0]).inputs["input_ids"][1, -1] == 0


def test_texts_without_begin_or_end(tmp_path: Path, source: str) -> None:
    bare = save_tokenizer(tmp_path / "bare", bos=False)
    batch = load(source, bare, end=False).train.__getitems__([1])
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 7]]  # a text of one word has no token to train
    assert batch.labels is not None
    assert batch.labels.tolist() == [6, 7]
    assert "train: 1 document without a token to train left out." in load(source, bare, end=False).notes


def test_windows_train_every_token_once() -> None:
    own = documents([False] + [True] * 9)
    batch = examples(own, 5).__getitems__([0, 1, 2])
    assert batch.inputs["input_ids"].tolist() == [[10, 11, 12, 13, 14], [14, 15, 16, 17, 18], [18, 19, 0, 0, 0]]
    assert batch.labels is not None
    assert batch.labels.tolist() == list(range(11, 20))
    assert batch.extra["documents"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert batch.extra["within"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    batch = examples(own, 5, stride=2).__getitems__([0, 1, 2, 3])
    assert batch.inputs["input_ids"][1].tolist() == [12, 13, 14, 15, 16]
    assert batch.labels is not None
    assert batch.labels.tolist() == list(range(11, 20))


def test_packing_by_hand() -> None:
    own = documents([False, True, True], [False, True, True, True], [False, True], [False, False, True])
    batch = examples(own, 6, packed=True).__getitems__([0, 1])
    assert batch.inputs["input_ids"].tolist() == [[10, 11, 12, 19, 20, 21], [13, 14, 15, 16, 17, 18]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 0, 1]]
    assert batch.inputs["segments"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]
    assert batch.rows is not None
    assert batch.labels is not None
    assert batch.rows.tolist() == [0, 1, 4, 6, 7, 8, 10]
    assert batch.labels.tolist() == [11, 12, 21, 14, 15, 16, 18]
    assert batch.extra["documents"].tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert batch.extra["within"].tolist() == [0, 1, 0, 0, 1, 2, 0]


def test_packing_fills_rows_and_pads_them() -> None:
    own = documents([False, True, True], [False, True])
    batch = examples(own, 8, packed=True).__getitems__([0])
    assert batch.inputs["segments"].tolist() == [[0, 0, 0, 1, 1]]
    batch = examples(documents([False, True, True], [False, True]), 3, packed=True).__getitems__([1, 0])
    assert batch.inputs["segments"].tolist() == [[0, 0, -1], [0, 0, 0]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 0], [0, 1, 2]]


def trained_of(batch: Batch) -> set[tuple[int, int, int]]:
    """Document, place among its trained tokens, and label of everything that is trained."""
    assert batch.labels is not None
    found = list(zip(batch.extra["documents"].tolist(), batch.extra["within"].tolist(), batch.labels.tolist(), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


FLAGS = st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=12)


@given(FLAGS, st.integers(4, 12), st.integers(0, 2), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_documents(flags: list[list[bool]], max_length: int, stride: int, left: bool, packed: bool) -> None:
    for document in flags:
        document[0] = False
    own = documents(*flags)
    expected = [own.starts[n].item() + 10 + i for n, document in enumerate(flags) for i, flag in enumerate(document) if flag]
    split = examples(own, max_length, stride=stride, packed=packed, left=left)
    if len(split) == 0:
        assert not expected
        return
    batch = split.__getitems__(list(range(len(split))))
    assert batch.labels is not None
    assert sorted(batch.labels.tolist()) == expected
    alone = split.documents()
    assert trained_of(batch) == trained_of(alone.shown(np.arange(len(alone))))
    ids, mask = batch.inputs["input_ids"].flatten(), batch.inputs["attention_mask"].flatten()
    assert batch.rows is not None
    assert batch.labels is not None
    assert batch.rows.diff().gt(0).all()
    assert torch.equal(ids[batch.rows + 1], batch.labels)
    assert mask[batch.rows].all()
    assert mask[batch.rows + 1].all()
    owner = torch.bucketize(ids[batch.rows], own.lengths.cumsum(0) + 10, right=True)
    cut_from = split.store.layout.document[batch.extra["documents"]]
    assert torch.equal(owner, cut_from)  # the context is of the same text as the label
    if packed:
        segments, positions = batch.inputs["segments"].flatten(), batch.inputs["position_ids"].flatten()
        assert torch.equal(segments[batch.rows], segments[batch.rows + 1])
        assert torch.equal(positions[batch.rows] + 1, positions[batch.rows + 1])
        assert torch.equal(segments == -1, mask == 0)
    assert batch.inputs["input_ids"].shape[1] <= max_length


def test_packed_and_unpacked_train_the_same(tokenizer: str, source: str) -> None:
    plain, packed = load(source, tokenizer, max_length=8).train, load(source, tokenizer, max_length=8, pack=True).train
    assert len(packed) < len(plain)
    whole = [part.__getitems__(list(range(len(part)))) for part in (plain, packed)]
    assert sorted(whole[0].labels.tolist()) == sorted(whole[1].labels.tolist())  # pyright: ignore[reportOptionalMemberAccess]


def test_batches_are_those_of_any_number_of_processes_and_workers(tokenizer: str, source: str) -> None:
    split = load(source, tokenizer, max_length=8, pack=True).train

    def seen(world: int, workers: int) -> list[set[tuple[int, int, int]]]:
        parts = [EpochPlan(len(split), batch_size=4, rank=rank, world=world, seed=3, epoch=1) for rank in range(world)]
        loaders = [list(train_loader(split, plan, workers=workers)) for plan in parts]
        return [set().union(*(trained_of(batch) for batch in update)) for update in zip(*loaders, strict=True)]

    assert seen(1, 0) == seen(2, 0) == seen(1, 2)
    assert len(seen(1, 0)) > 1


def test_evaluation_reads_every_example_once(tokenizer: str, source: str) -> None:
    split = load(source, tokenizer).test
    found = [index for batch in eval_loader(split, batch_size=2) for index in batch.index.tolist()]
    assert found == list(range(len(split)))


def test_documents_are_known_by_tokens_and_what_is_trained(tokenizer: str, source: str) -> None:
    split = load(source, tokenizer, max_length=8).train
    assert isinstance(split, CausalExamples)
    whole = split.documents()
    everyone = np.arange(len(whole))
    assert whole.lengths(everyone[:3]).tolist() == [3, 4, 5]
    key = document_key(np.array([1, 5, 2]), np.array([True, True, False]))
    assert bytes(whole.keys(everyone)[0]) == key
    packed = load(source, tokenizer, max_length=8, pack=True).train
    assert isinstance(packed, CausalExamples)
    assert packed.fingerprint() != split.fingerprint()
    assert load(source, tokenizer, max_length=8).train.fingerprint() == split.fingerprint()
    alone = packed.documents()
    assert sorted(map(bytes, alone.keys(everyone))) == sorted(map(bytes, whole.keys(everyone)))
    assert whole.keys(everyone[:0]).shape == (0, 32)


def test_a_document_alone_has_the_rows_that_it_has_among_others() -> None:
    own = documents([False, True, True], [False, True, True, True], [False, True], [False, False, True])
    packed = examples(own, 6, packed=True)
    batch, alone = packed.__getitems__([0, 1]), packed.documents().shown(np.arange(4))
    assert "segments" not in alone.inputs
    assert trained_of(batch) == trained_of(alone)


def test_tokens_are_kept_small(tokenizer: str, source: str) -> None:
    store = load(source, tokenizer).train.store
    assert isinstance(store, TokenRows)
    assert store.documents.ids.dtype == torch.int16
    large = Collector()
    large.add([40000, 3], b"\0\1", 0)
    assert large.finish().ids.tolist() == [40000, 3]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"stride": 15}, "data.stride 15 must be at least 2 less than data.max_length 16."),
        ({"columns": {"txt": "text"}}, "data.columns: expected messages, prompt, completion, text, found 'txt'. Did you mean 'text'?"),
        (
            {"columns": {"text": "txt"}},
            "data.columns.text: no column is called 'txt'. Did you mean 'text'? Columns: text.",
        ),
        (
            {"columns": {"prompt": "text"}},
            "data.columns: expected {messages: NAME} or {prompt: NAME, completion: NAME} or {text: NAME}, found prompt.",
        ),
    ],
)
def test_what_cannot_be(tokenizer: str, source: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(source, tokenizer, **asked)
    assert message in str(caught.value)
