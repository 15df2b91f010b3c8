"""A tag for every word: data, signals and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.language_data import load, request, save_tokenizer, write_jsonl

from limbeck.data.load import data_info
from limbeck.errors import DataError, SignalMissing
from limbeck.tasks.token_classification import TokenClassification
from limbeck.types import Batch, DataInfo

ROWS = [{"tokens": ["w1", "w2", "w3"], "tags": ["O", "B-x", None]}, {"tokens": ["w4"], "tags": ["I-x"]}] * 9


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "bert", bert=True)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "a.jsonl", ROWS)


def test_words_by_hand(source: str, bert: str) -> None:
    splits = load(source, bert, "token_classification")
    assert splits.info.class_names == ("B-x", "I-x", "O")
    assert (splits.info.labels, splits.info.num_outputs, splits.info.language) == ("class", 3, "token_classification")
    lengths = splits.train.store.layout.length.tolist()  # type: ignore[attr-defined]
    batch = splits.train.__getitems__([lengths.index(3), lengths.index(5)])
    assert batch.inputs["input_ids"].tolist() == [[1, 9, 2, 0, 0], [1, 6, 7, 8, 2]]
    assert batch.rows is not None
    assert batch.labels is not None
    assert batch.rows.tolist() == [1, 6, 7]  # the third word has no tag
    assert batch.labels.tolist() == [1, 2, 0]
    assert batch.extra["within"].tolist() == [0, 0, 1]


def test_the_first_token_of_a_word_is_trained(tmp_path: Path) -> None:
    """A word of two tokens, of which the second is not trained."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    built = Tokenizer(models.WordPiece({"[UNK]": 0, "ab": 1, "##c": 2, "d": 3}, unk_token="[UNK]"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=built, unk_token="[UNK]").save_pretrained(tmp_path / "tokenizer")
    source = write_jsonl(tmp_path / "a.jsonl", [{"words": "abc d abc", "tags": "1 2 10"}] * 9)
    splits = load(source, str(tmp_path / "tokenizer"), "token_classification")
    assert splits.info.class_names == ("1", "2", "10")
    batch = splits.train.__getitems__([0])
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 1, 2]]
    assert batch.rows is not None
    assert batch.labels is not None
    assert (batch.rows.tolist(), batch.labels.tolist()) == ([0, 2, 3], [0, 1, 2])
    cut = load(source, str(tmp_path / "tokenizer"), "token_classification", max_length=3)
    assert cut.train.__getitems__([0]).inputs["input_ids"].tolist() == [[1, 2, 3]]
    assert "train: 5 documents cut to max_length." in cut.notes


def test_empty_sentences_are_left_out(tmp_path: Path, bert: str) -> None:
    rows = [*ROWS, *[{"tokens": [], "tags": []}] * 9, *[{"tokens": ["w1"], "tags": [None]}] * 9]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), bert, "token_classification")
    told = {what: sum(int(n.split()[1]) for n in splits.notes if what in n) for what in ("without text", "without a token to train")}
    assert told == {"without text": 9, "without a token to train": 9}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["w1"], "tags": []}, r"row 19: 1 words have 0 tags\. Mend the row\."),
        ({"tokens": [3], "tags": ["O"]}, r"row 19: 'tokens' must be a list of words, found '\[3\]'\."),
        ({"tokens": ["w1"], "tags": 3}, r"row 19: 'tags' must be a list of tags, found '3'\."),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, bert: str, row: dict[str, Any], message: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [*ROWS, row])
    with pytest.raises(DataError, match=message):
        data_info(request(source, bert), kind="text", labels="class", language="token_classification")


def test_tags_that_are_all_alike(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"words": ["w1"], "tags": ["O"]}] * 9)
    with pytest.raises(DataError, match=r"'tags' needs at least two different tags, found O\."):
        load(source, bert, "token_classification")


def test_tags_that_training_lacks_are_told_of(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"words": ["w1"], "tags": [str(i)]} for i in range(10)])
    notes = load(source, bert, "token_classification").notes
    assert sum(note.startswith("tags that are in no training example: ") for note in notes) == 1


INFO = DataInfo("text", "class", 3, (4,), ("B-x", "I-x", "O"), language="token_classification")


def test_signals_are_those_of_the_words() -> None:
    task = TokenClassification()
    logits = torch.arange(24.0).reshape(2, 4, 3)
    batch = Batch({"input_ids": torch.zeros(2, 4)}, None, torch.arange(2), rows=torch.tensor([1, 6]))
    signals = task.signals(logits, {"layer": logits * 2}, batch)
    assert signals.logits.tolist() == [[3, 4, 5], [18, 19, 20]]
    assert signals.features["layer"].tolist() == [[6, 8, 10], [36, 38, 40]]
    assert list(task.signals(None, {}, batch).features) == []
    with pytest.raises(SignalMissing, match="where words begin"):
        task.signals(logits, {}, Batch({"input_ids": torch.zeros(2, 4)}, None, torch.arange(2)))


def test_entities_end_with_their_sentence() -> None:
    task = TokenClassification().on(INFO)
    labels = torch.tensor([0, 1, 1, 2])
    logits = torch.nn.functional.one_hot(labels, 3).float()
    assert task.report(logits, labels, torch.tensor([0, 0, 1, 1]))["f1"] == 1
    wrong = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 2]), 3).float()
    found = task.report(wrong, labels, torch.tensor([0, 0, 1, 1]))
    assert (found["precision"], found["recall"], found["f1"], found["accuracy"]) == (0.5, 0.5, 0.5, 0.75)
    whole = task.report(wrong, labels)  # as one sentence, the label is one entity of three words
    assert whole["recall"] == 0
    assert set(found) - {"top5"} <= set(task.better)
    plain = TokenClassification(("a", "b", "c"))
    assert "f1" not in plain.report(logits, labels)
    assert "f1" not in plain.better


def test_an_example_fits_the_head() -> None:
    task = TokenClassification().on(INFO)
    for device in ("meta", "cpu"):
        batch = task.example(INFO, device=device)
        signals = task.signals(torch.zeros(2, 4, 3, device=device), {}, batch)
        task.check_head(signals.logits, INFO)
        assert batch.units == 8
