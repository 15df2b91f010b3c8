"""Tagged sentences as questions."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.language_data import load, save_tokenizer, write_jsonl

from limbeck.data.language.columns import Records
from limbeck.data.language.inquiries import inquiries
from limbeck.errors import DataError

WORDS = ["book", "w1", "in", "New", "York", "for", "two"]
TAGS = ["O", "B-place_type", "O", "B-city", "I-city", "O", "B-city"]


def records(*rows: tuple[list[str], list[str]]) -> Records:
    return Records("tags", {"words": [w for w, _ in rows], "tags": [t for _, t in rows]}, {"words": "tokens", "tags": "tags"}, "here")


def test_sentences_ask_for_their_entities_in_turn() -> None:
    found = inquiries(records(*[(WORDS, TAGS)] * 3, (["no"], ["O"])))
    assert found.kind == "spans"
    assert found.cells["question"] == ["place type", "city", "place type", ""]
    assert found.cells["context"][0] == "book w1 in New York for two"
    assert found.cells["answers"][1] == {"text": ["New York"], "answer_start": [11]}
    assert found.cells["answers"][0] == {"text": ["w1"], "answer_start": [5]}
    assert found.cells["answers"][3] is None


def test_tags_without_entities_are_refused() -> None:
    with pytest.raises(DataError, match=r"here: 'tags' must mark entities \(O, B-city, I-city\) to be asked for, found NOUN, VERB\."):
        inquiries(records((["a", "b"], ["NOUN", "VERB"])))


def test_a_reader_of_tagged_sentences(tmp_path: Path) -> None:
    bert = save_tokenizer(tmp_path / "bert", bert=True)
    rows = [{"words": ["w10", "w11", "w12"], "tags": ["O", "B-w1", "I-w1"]}] * 9 + [{"words": ["w10"], "tags": ["O"]}] * 9
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), bert, "span_extraction")
    batch = splits.train.__getitems__([0])
    assert batch.inputs["input_ids"].tolist() == [[1, 6, 2, 15, 16, 17, 2]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [[4, 5]]
    assert sum(len(part) for part in (splits.train, splits.valid or [], splits.test)) == 9
