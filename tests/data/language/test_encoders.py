"""Masked language models and encoder-decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.language_data import WORDS, load, request, save_tokenizer, write_jsonl

from limbeck.data.language.masked import MaskedExamples
from limbeck.data.language.rows import LanguageExamples
from limbeck.data.language.seq2seq import Seq2SeqExamples
from limbeck.data.load import data_info
from limbeck.documents import document_key
from limbeck.errors import DataError
from limbeck.types import Batch


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "bert", bert=True)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "texts.jsonl", [{"text": " ".join(WORDS)}] * 200)


def masked(source: str, tokenizer: str, **asked: Any) -> MaskedExamples:
    found = load(source, tokenizer, "masked_lm", **{"max_length": 42, **asked}).train
    assert isinstance(found, MaskedExamples)
    return found


def everything(examples: LanguageExamples) -> Batch:
    return examples.__getitems__(list(range(len(examples))))


def test_some_tokens_are_hidden(texts: str, bert: str) -> None:
    batch = everything(masked(texts, bert).augmented(1, 0))
    assert batch.rows is not None
    assert batch.labels is not None
    shown, whole = batch.inputs["input_ids"], torch.tensor([1, *range(5, 45), 2]).expand(120, -1)
    assert torch.equal(whole.flatten()[batch.rows], batch.labels)
    changed = (shown != whole).flatten().nonzero()[:, 0]
    assert set(changed.tolist()) <= set(batch.rows.tolist())
    assert len(batch.rows) / (120 * 40) == pytest.approx(0.15, abs=0.02)
    said = shown.flatten()[batch.rows]
    assert (said == 4).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert (said == batch.labels).float().mean().item() == pytest.approx(0.1, abs=0.04)
    other = said[(said != 4) & (said != batch.labels)]
    assert len(other.unique()) > 20
    assert batch.labels.min() >= 5  # special tokens are never hidden
    assert batch.rows.diff().gt(0).all()


def test_what_is_hidden_follows_from_seed_epoch_and_document(texts: str, bert: str) -> None:
    examples = masked(texts, bert)

    def hidden(seed: int, epoch: int, index: list[int]) -> list[list[int]]:
        return examples.augmented(seed, epoch).__getitems__(index).inputs["input_ids"].tolist()

    assert hidden(1, 0, [0, 1, 2]) == [hidden(1, 0, [i])[0] for i in (0, 1, 2)]
    assert len({str(row) for seed, epoch in ((1, 0), (1, 1), (2, 0)) for row in hidden(seed, epoch, [0, 1])}) == 6
    fixed = examples.__getitems__([0, 1]).inputs["input_ids"]
    assert torch.equal(fixed, examples.__getitems__([0, 1]).inputs["input_ids"])
    several = examples.shown(torch.tensor([0, 1]), 1, np.array([3, 4]))
    assert several.inputs["input_ids"].tolist() == [hidden(1, 3, [0])[0], hidden(1, 4, [1])[0]]
    assert torch.as_tensor(several.epoch).tolist() == [3, 4]


def test_every_document_has_a_token_to_predict(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "w1 w2"}] * 90)
    batch = everything(masked(source, bert, mask=0.01).augmented(0, 0))
    assert torch.bincount(batch.extra["documents"]).tolist() == [1] * 54
    assert set(batch.extra["within"].tolist()) == {0}


def test_masked_texts_in_windows(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": " ".join(WORDS[:7])}] * 9)
    examples = masked(source, bert, max_length=5, stride=1, mask=0.999)
    batch = everything(examples)
    assert batch.inputs["attention_mask"][:3].tolist() == [[1, 1, 1, 1, 1]] * 3
    assert batch.labels is not None
    assert batch.labels[:9].tolist() == [5, 6, 7, 7, 8, 9, 9, 10, 11]
    assert len(examples) == 15


def test_documents_of_masked_texts(texts: str, bert: str) -> None:
    examples = masked(texts, bert)
    numbers = np.arange(4)
    keys = [examples.augmented(0, epoch).documents().keys(numbers).tolist() for epoch in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_masking_needs_a_mask_token(tmp_path: Path, texts: str, bert: str) -> None:
    with pytest.raises(DataError, match=r"max_length 7 leaves no room for text beside special tokens and data\.stride 5"):
        load(texts, bert, "masked_lm", max_length=7, stride=5)
    bare = save_tokenizer(tmp_path / "bare", mask=False)
    with pytest.raises(DataError, match=r"data\.tokenizer has no mask token, which task: masked_lm needs"):
        load(texts, bare, "masked_lm")
    assert load(texts, "characters", "masked_lm").tokenizer.mask_token == "<mask>"


def test_packing_is_for_causal_models(texts: str, bert: str) -> None:
    asked: tuple[dict[str, Any], ...] = ({"pack": True}, {"padding": "left"})
    for key in asked:
        with pytest.raises(DataError, match=rf"^data\.{next(iter(key))} is for task: causal_lm\. Remove it\.$"):
            data_info(request(texts, bert, **key), kind="text", labels="token", language="masked_lm")


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "w1 w2 w3", "completion": "w4"}, {"prompt": "w1", "completion": "w5 w6"}] * 9)


def test_encoder_decoders_by_hand(pairs: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "t5", bos=False)
    examples = load(pairs, tokenizer, "seq2seq_lm", decoder_start="<pad>").train
    assert isinstance(examples, Seq2SeqExamples)
    lengths = examples.documents().lengths(np.arange(len(examples))).tolist()
    batch = examples.__getitems__([lengths.index(3), lengths.index(1)])
    assert {name: value.tolist() for name, value in batch.inputs.items()} == {
        "input_ids": [[6, 7, 8], [6, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "decoder_input_ids": [[0, 9, 0], [0, 10, 11]],
        "decoder_attention_mask": [[1, 1, 0], [1, 1, 1]],
    }
    assert batch.rows is not None
    assert batch.labels is not None
    assert batch.rows.tolist() == [0, 1, 3, 4, 5]
    assert batch.labels.tolist() == [9, 2, 10, 11, 2]
    assert batch.tokens_shape == (2, 3)
    key = document_key(np.array([0, 9]), np.array([True, True]), np.array([6, 7, 8]))
    assert bytes(examples.documents().keys(np.array([lengths.index(3)]))[0]) == key


def test_tokens_that_decoders_begin_with(pairs: str, bert: str) -> None:
    batch = load(pairs, bert, "seq2seq_lm").train.__getitems__([0])
    assert batch.inputs["decoder_input_ids"][0, :2].tolist() == [2, 1]  # as BART: the end token, then <s>
    assert batch.inputs["input_ids"][0, 0] == 1
    assert batch.inputs["input_ids"][0, -1] == 2
    with pytest.raises(DataError, match=r"^data\.decoder_start: the tokenizer has no token 'start'\.$"):
        load(pairs, bert, "seq2seq_lm", decoder_start="start")


def test_pairs_are_cut_and_told_of(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "w1 " * 9, "completion": "w4 " * 9}] * 9)
    splits = load(source, bert, "seq2seq_lm", max_length=5)
    batch = splits.train.__getitems__([0])
    assert batch.inputs["input_ids"].tolist() == [[1, 6, 6, 6, 2]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 9, 9, 9, 9]
    assert "train: 5 documents cut to max_length." in splits.notes
