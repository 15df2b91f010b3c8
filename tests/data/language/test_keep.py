"""Which training texts are kept, and which are made noise of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.language_data import WORDS, request, save_tokenizer, write_jsonl

from limbeck.data.base import DataRequest, Splits
from limbeck.data.language.columns import Records
from limbeck.data.language.keep import scrambled
from limbeck.data.load import data_info, load_data
from limbeck.data.selected import Selected, SelectionError
from limbeck.errors import DataError
from limbeck.types import LanguageKind


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "tokenizer")


@pytest.fixture
def texts(tmp_path: Path) -> str:
    """Texts of 1 to 20 words."""
    return write_jsonl(tmp_path / "texts.jsonl", [{"text": " ".join(WORDS[:n])} for n in range(1, 21)])


def read(asked: DataRequest, language: LanguageKind = "causal_lm") -> Splits:
    return load_data(asked, kind="text", labels="token", language=language)


def keep(asked: DataRequest, path: Path, indices: tuple[int, ...], language: LanguageKind = "causal_lm") -> DataRequest:
    """The request with a manifest that keeps the training examples at `indices`."""
    whole = read(replace(asked, tokens=replace(asked.tokens, pack=False)), language).train
    Selected(len(whole), whole.fingerprint(), indices).write(path)
    return replace(asked, select=str(path))


def ids(splits: Splits) -> list[list[int]]:
    """Tokens of every training row, without what fills it."""
    batch = splits.train.__getitems__(list(range(len(splits.train))))
    return [row[mask == 1].tolist() for row, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)]


def test_a_selection_keeps_windows_of_texts(texts: str, tokenizer: str, tmp_path: Path):
    asked = request(texts, tokenizer, max_length=6)
    whole = read(asked)
    splits = read(keep(asked, tmp_path / "kept.json", (0, 3, 9)))
    assert ids(splits) == [ids(whole)[row] for row in (0, 3, 9)]
    assert splits.kept == pytest.approx(3 / len(whole.train))
    assert splits.notes[-1] == f"3 of {len(whole.train)} training examples are kept (kept.json)."
    ours, theirs = splits.train.__getitems__([1, 2]), whole.train.__getitems__([3, 9])
    assert torch.equal(ours.labels, theirs.labels)  # pyright: ignore[reportArgumentType]
    assert ours.extra["documents"].unique().tolist() == [1, 2]
    assert len(splits.test) == len(whole.test)
    assert whole.kept == 1.0


def test_what_is_kept_is_packed_afterwards(texts: str, tokenizer: str, tmp_path: Path):
    asked = request(texts, tokenizer, max_length=12, pack=True)
    alone = replace(asked, tokens=replace(asked.tokens, pack=False))
    kept = tuple(range(0, len(read(alone).train), 2))
    splits = read(keep(asked, tmp_path / "kept.json", kept))
    assert len(splits.train) < len(kept)
    assert "segments" in splits.train[0].inputs
    single = ids(read(keep(alone, tmp_path / "kept.json", kept)))
    assert sorted(token for row in ids(splits) for token in row) == sorted(token for row in single for token in row)
    assert len(read(asked).test) == len(splits.test)


def pairs(folder: Path) -> str:
    return write_jsonl(folder / "pairs.jsonl", [{"prompt": f"w{i} w{i + 1}", "completion": f"w{i + 2}"} for i in range(20)])


@pytest.mark.parametrize("language", ["seq2seq_lm", "masked_lm"])
def test_other_language_models(language: LanguageKind, texts: str, tokenizer: str, tmp_path: Path):
    asked = request(pairs(tmp_path) if language == "seq2seq_lm" else texts, tokenizer, max_length=24)
    whole = read(asked, language)
    splits = read(keep(asked, tmp_path / "kept.json", (1, 4), language), language)
    ours, theirs = splits.train.__getitems__([0, 1]), whole.train.__getitems__([1, 4])
    assert len(splits.train) == 2
    assert torch.equal(ours.inputs["attention_mask"], theirs.inputs["attention_mask"])
    if language == "seq2seq_lm":
        assert torch.equal(ours.inputs["input_ids"], theirs.inputs["input_ids"])
        assert torch.equal(ours.labels, theirs.labels)  # pyright: ignore[reportArgumentType]


def test_tags_and_spans_are_kept_with_their_texts(tokenizer: str, tmp_path: Path):
    own = write_jsonl(tmp_path / "tags.jsonl", [{"words": [f"w{i}", "w1"], "tags": ["O", f"T{i % 3}"]} for i in range(20)])
    asked = request(own, tokenizer)
    whole, splits = (
        read(asked, "token_classification"),
        read(keep(asked, tmp_path / "kept.json", (2, 5), "token_classification"), "token_classification"),
    )
    assert torch.equal(splits.train.__getitems__([0, 1]).labels, whole.train.__getitems__([2, 5]).labels)  # pyright: ignore
    rows = [{"question": f"w{i}", "context": f"w{i + 1} w{i + 2} w{i + 3}", "answers": f"w{i + 2}"} for i in range(20)]
    reader = save_tokenizer(tmp_path / "reader", bert=True)
    asked = request(write_jsonl(tmp_path / "spans.jsonl", rows), reader)

    def spans(request: DataRequest) -> Splits:
        return load_data(request, kind="text", labels="span", language="span_extraction")

    whole = spans(asked)
    Selected(len(whole.train), whole.train.fingerprint(), (3, 4)).write(tmp_path / "spans.json")
    splits = spans(replace(asked, select=str(tmp_path / "spans.json")))
    ours, theirs = splits.train.__getitems__([0, 1]), whole.train.__getitems__([3, 4])
    assert torch.equal(ours.labels, theirs.labels)  # pyright: ignore[reportArgumentType]
    assert torch.equal(ours.extra["allowed"], theirs.extra["allowed"])
    assert ours.extra["questions"].tolist() == theirs.extra["questions"].tolist()


def test_a_selection_of_other_texts_is_refused(texts: str, tokenizer: str, tmp_path: Path):
    asked = keep(request(texts, tokenizer, max_length=200), tmp_path / "kept.json", (0, 3))
    with pytest.raises(SelectionError, match="it was made for other training examples, though as many"):
        read(replace(asked, tokens=replace(asked.tokens, scrambled=0.5)))
    with pytest.raises(SelectionError, match="and the data have"):
        read(replace(asked, max_length=5))
    with pytest.raises(SelectionError, match="there is no such selection"):
        data_info(replace(asked, select=str(tmp_path / "none.json")), kind="text", labels="token", language="causal_lm")


def recorded(texts: list[Any], kind: Any = "text") -> Records:
    return Records(kind, {"text" if kind == "text" else "completion": texts}, {"text": "text"}, "here")


def test_characters_of_a_share_of_the_texts_are_in_random_order():
    texts = [f"{i:02d} abcdefghijklmnop" for i in range(20)]
    rows = list(range(4, 20))
    found, noise = scrambled(recorded(texts), rows, 0.25, seed=0)
    assert len(noise) == 4
    assert noise == sorted(set(noise) & set(rows))
    for row, text in enumerate(found.cells["text"]):
        assert sorted(text) == sorted(texts[row])
        assert (text != texts[row]) == (row in noise)
    more, larger = scrambled(recorded(texts), rows, 0.5, seed=0)
    assert set(noise) < set(larger)
    assert [more.cells["text"][row] for row in noise] == [found.cells["text"][row] for row in noise]
    assert scrambled(recorded(texts), rows, 0.25, seed=1)[1] != noise
    assert scrambled(recorded(texts, "prompt"), rows, 1.0, seed=0)[0].cells["completion"][4] != texts[4]
    assert scrambled(recorded([None, 3, "ab"]), [0, 1], 1.0, seed=0)[0].cells["text"] == [None, 3, "ab"]
    with pytest.raises(DataError, match=r"data.scrambled is for texts, and prompts with completions"):
        scrambled(recorded(texts, "chat"), rows, 0.5, seed=0)


def test_only_training_texts_are_scrambled(texts: str, tokenizer: str):
    asked = request(texts, tokenizer, max_length=32)
    clean, noisy = read(asked), read(replace(asked, tokens=replace(asked.tokens, scrambled=0.5)))
    count = len(clean.train)
    assert f"the characters of {round(count / 2)} of {count} training texts are in random order (data.scrambled)." in noisy.notes
    assert clean.test.fingerprint() == noisy.test.fingerprint()
    assert clean.valid is not None
    assert noisy.valid is not None
    assert clean.valid.fingerprint() == noisy.valid.fingerprint()
    assert clean.train.fingerprint() != noisy.train.fingerprint()
