"""Where texts come from, and how they are cut into parts."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.language_data import WORDS, load, request, save_tokenizer, write_jsonl

from limbeck.data.language.encode import long_text
from limbeck.data.load import data_info, load_data
from limbeck.data.text import load_tokenizer
from limbeck.errors import DataError, UnknownName


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "tokenizer")


def texts_of(split: Any) -> list[str]:
    """What the documents of a split say, without the ends."""
    store = split.store.documents
    bounds = [0, *store.lengths.cumsum(0).tolist()]
    parts = [store.ids[a:b].tolist() for a, b in pairwise(bounds)]
    return [" ".join(WORDS[token - 5] if token > 4 else "?" for token in part[1:-1]) for part in parts]


def test_one_text_is_cut_where_it_stands(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "a.txt").write_text("\n".join(WORDS[i % 40] + " w0" for i in range(100)))
    splits = load(f"text:{tmp_path / 'a.txt'}", tokenizer, max_length=64)
    lengths = [len(texts_of(part)[0].split()) for part in (splits.train, splits.valid, splits.test)]
    assert sum(lengths) == 200
    assert lengths[0] == pytest.approx(120, abs=3)
    assert texts_of(splits.train)[0].startswith("w0 w0 w1 w0")
    assert texts_of(splits.test)[0].endswith("w19 w0")


def test_one_text_needs_a_test_part(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "a.txt").write_text("w0 w1 w2\n" * 9)
    with pytest.raises(DataError, match=r"is one text, of which data\.split holds out the end: .* found 0\.2 and 0\."):
        load(f"text:{tmp_path / 'a.txt'}", tokenizer, test=0.0)


def test_folds_divide_documents_and_no_single_text(tmp_path: Path, tokenizer: str) -> None:
    asked = replace(request(write_jsonl(tmp_path / "a.jsonl", [{"text": WORDS[i]} for i in range(20)]), tokenizer), folds=5, valid=0.0)
    parts = [load_data(replace(asked, fold=fold), kind="text", labels="token", language="causal_lm") for fold in range(1, 6)]
    assert sorted(text for splits in parts for text in texts_of(splits.test)) == sorted(WORDS[:20])
    (tmp_path / "a.txt").write_text("w0 w1 w2\n" * 9)
    with pytest.raises(DataError, match=r"is one text, which data\.split\.folds cannot divide\. Use data\.split\.test\."):
        load_data(replace(asked, source=f"text:{tmp_path / 'a.txt'}"), kind="text", labels="token", language="causal_lm")


@pytest.mark.parametrize(("documents", "expected"), [("paragraph", ["w1 w2", "w3", "w4"]), ("line", ["w1", "w2", "w3", "w4"])])
def test_documents_of_a_file(tmp_path: Path, tokenizer: str, documents: str, expected: list[str]) -> None:
    (tmp_path / "train.txt").write_text("w1\r\nw2\n\n\nw3\n  \nw4\n")
    (tmp_path / "test.txt.gz").write_bytes(gzip.compress(b"w9 w9"))
    asked = replace(request(f"text:{tmp_path}", tokenizer), args={"documents": documents}, valid=0.0)
    splits = load_data(asked, kind="text", labels="token", language="causal_lm")
    assert texts_of(splits.train) == expected
    assert texts_of(splits.test) == ["w9 w9"]


def test_a_separator_is_in_no_document(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "train.txt").write_text("w1<|end|>w2<|end|> \n<|end|>w3")
    (tmp_path / "test.txt").write_text("w9")
    asked = replace(request(f"text:{tmp_path}", tokenizer), args={"separator": "<|end|>"}, valid=0.0)
    assert texts_of(load_data(asked, kind="text", labels="token", language="causal_lm").train) == ["w1", "w2", "w3"]


def test_a_folder_without_parts_gives_a_document_a_file(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "deep").mkdir()
    for i in range(10):
        (tmp_path / "deep" / f"{i}.md").write_text(WORDS[i])
    splits = load(f"text:{tmp_path / 'deep'}", tokenizer)
    assert sorted(text for part in (splits.train, splits.valid, splits.test) for text in texts_of(part)) == sorted(WORDS[:10])


def test_a_folder_without_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match=r"has no file that ends in \.txt, .* It holds a\.csv\."):
        load(f"text:{tmp_path}", "characters")


def test_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(DataError, match=r"is not utf-8 text .* Set args\.charset, such as latin-1"):
        load(f"text:{tmp_path / 'a.txt'}", "characters")


def test_text_that_python_brings_along() -> None:
    splits = load("python:topics", "characters", max_length=256)
    assert len(splits.train) > 500
    assert splits.tokenizer.eos_token == "<eos>"
    assert splits.info.num_outputs == len(splits.tokenizer)
    with pytest.raises(UnknownName, match="topic"):
        load("python:topic", "characters")


def test_texts_are_for_language_models(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words")
    with pytest.raises(DataError, match=r"holds texts without labels; it is for language models, such as task: causal_lm\."):
        load_data(request(f"text:{tmp_path / 'a.txt'}", None), kind="text", labels="class")


def test_keys_of_language_models_are_for_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.pack is for language models, such as task: causal_lm\. Remove it\.$"):
        load_data(request("csv:absent.csv", None, pack=True), kind="text", labels="class")


@pytest.mark.parametrize(("key", "value"), [("transforms", ("flip",)), ("size", 32), ("classes", ("a",))])
def test_keys_that_are_not_for_language_models(tmp_path: Path, key: str, value: Any) -> None:
    asked = replace(request("python:topics", "characters"), **{key: value})
    with pytest.raises(DataError, match=rf"^data\.{key} is not for language models\. Remove it\.$"):
        data_info(asked, kind="text", labels="token", language="causal_lm")


def test_characters_are_those_of_the_training_part(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abc")
    (tmp_path / "test.txt").write_text("abz")
    splits = load_data(replace(request(f"text:{tmp_path}", "characters"), valid=0.0), kind="text", labels="token", language="causal_lm")
    assert splits.tokenizer.get_vocab() == {"a": 0, "b": 1, "c": 2, "<unk>": 3}
    assert splits.test.__getitems__([0]).inputs["input_ids"].tolist() == [[0, 1, 3]]


def test_empty_and_missing_texts_are_left_out(tmp_path: Path, tokenizer: str) -> None:
    rows = [{"text": "w1 w2"}] * 8 + [{"text": ""}, {"text": None}, {"text": "  "}, {"other": 1}]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), tokenizer)
    told = [note for note in splits.notes if "without text left out" in note]
    assert sum(int(note.split()[1]) for note in told) == 4


def test_a_text_that_is_none(tmp_path: Path, tokenizer: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "w1"}] * 9 + [{"text": 3}])
    with pytest.raises(DataError, match=r"row 10: 'text' must be a text, found int '3'\. Mend the row, or check data\.columns\."):
        load(source, tokenizer)


def test_a_broken_line_is_named(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "w1"}\n{"text": \n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: not a JSON object"):
        load(f"jsonl:{tmp_path / 'a.jsonl'}", tokenizer)


def test_the_only_column_is_the_text(tmp_path: Path, tokenizer: str) -> None:
    assert len(load(write_jsonl(tmp_path / "a.jsonl", [{"x": "w1"}] * 10), tokenizer).train) == 6


def test_columns_that_could_be_meant_in_two_ways(tmp_path: Path, tokenizer: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "w1", "prompt": "w2", "completion": "w3"}] * 9)
    with pytest.raises(DataError, match=r"there is more than one way to read it \(prompt and completion; text\)\. Set data\.columns: "):
        load(source, tokenizer)
    assert load(source, tokenizer, columns={"text": "prompt"}).train.__getitems__([0]).inputs["input_ids"].tolist() == [[1, 7, 2]]
    source = write_jsonl(tmp_path / "b.jsonl", [{"instruction": "w1", "input": "w2", "output": "w3"}] * 9)
    with pytest.raises(DataError, match=r"prompt could be instruction or input\. Set data\.columns"):
        load(source, tokenizer)
    source = write_jsonl(tmp_path / "c.jsonl", [{"a": "w1", "b": "w2"}] * 9)
    with pytest.raises(DataError, match=r"no columns are called as usual\. Set data\.columns: .* Columns: a, b\."):
        load(source, tokenizer)


def test_limit_counts_documents(tmp_path: Path, tokenizer: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": WORDS[i]} for i in range(20)])
    splits = load_data(replace(request(source, tokenizer), limit=3), kind="text", labels="token", language="causal_lm")
    assert (len(splits.train), len(splits.test)) == (3, 4)


def test_long_texts_are_tokenised_in_parts(tmp_path: Path, shared: Path) -> None:
    text = (shared / "tinyshakespeare" / "input.txt").read_text()[:20000] + "\n \n\n  a\n"
    for reference in (str(shared / "stories260k"), save_tokenizer(tmp_path / "words")):
        tokenizer = load_tokenizer(reference)
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert list(long_text(tokenizer, text, at_once=700)) == whole


def test_check_reads_the_data(tmp_path: Path, tokenizer: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"text": "w1"}] * 12)
    info = data_info(request(source, tokenizer), kind="text", labels="token", language="causal_lm")
    assert (info.num_outputs, info.input_shape) == (45, (16,))


def test_the_source_code_of_the_library(tokenizer: str) -> None:
    import json.decoder

    from limbeck.data.sources.python import _code

    own = Path(json.decoder.__file__).read_text(encoding="utf-8")
    assert own in _code("json")
    assert len(_code("json")) == len(list(Path(json.decoder.__file__).parent.glob("*.py")))
    (alone,) = _code("textwrap")
    assert "def dedent" in alone
    assert not any("import unittest" in text and "class Test" in text for text in _code("unittest"))
    with pytest.raises(UnknownName, match=r"'asynco'.* Did you mean 'asyncio'"):
        load("python:asynco", tokenizer)
    with pytest.raises(DataError, match="python:sys: this Python has no source code of it"):
        load("python:sys", tokenizer)


def test_a_document_may_be_a_list_of_words(tmp_path: Path, tokenizer: str) -> None:
    one = load(write_jsonl(tmp_path / "a.jsonl", [{"words": ["w1", "w2"]}] * 9), tokenizer, columns={"text": "words"})
    two = load(write_jsonl(tmp_path / "b.jsonl", [{"text": "w1 w2"}] * 9), tokenizer)
    assert one.train.fingerprint() == two.train.fingerprint()
    with pytest.raises(DataError, match=r"row \d+: 'words' must be a text, found list "):
        load(write_jsonl(tmp_path / "c.jsonl", [{"words": ["w1", 2]}] * 9), tokenizer, columns={"text": "words"})
