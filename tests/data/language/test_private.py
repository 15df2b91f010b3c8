"""What is private in texts, and canaries."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.language_data import load, request, save_tokenizer, write_jsonl

from limbeck.data.language.columns import Records
from limbeck.data.language.private import planted, rivals, secrets
from limbeck.data.language.request import CanaryRequest
from limbeck.data.load import load_data
from limbeck.errors import DataError


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "tokenizer")


def test_tokens_in_a_match_are_private(tokenizer: str, tmp_path: Path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": "w1 w23 w4 w5"} for _ in range(12)])
    batch = load(source, tokenizer, private="3 w4").train[0]
    assert batch.labels is not None
    assert batch.labels.tolist() == [6, 28, 9, 10, 2]
    assert batch.extra["private"].tolist() == [0, 1, 1, 0, 0]
    assert batch.extra["given"].tolist() == [0] * 5
    assert "private" not in load(source, tokenizer).train[0].extra
    windows = load(source, tokenizer, private="w5|w1", max_length=4).train.__getitems__([0, 1])
    assert windows.extra["private"].tolist() == [1, 0, 0, 1, 0]
    letters = load(source, "characters", private="[0-9]", max_length=16).train[0]
    assert letters.extra["private"].tolist() == [1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0]  # 1, space, w, 2, 3, ...


def test_prompts_are_told_from_answers(tokenizer: str, tmp_path: Path):
    rows = [{"prompt": "w1 w2", "completion": " w3 w4"} for _ in range(12)]
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    whole = load(source, tokenizer, train_on="all", private="w2 w3").train[0]
    assert whole.extra["given"].tolist() == [1, 1, 0, 0, 0]
    assert whole.extra["private"].tolist() == [0, 1, 1, 0, 0]
    answers = load(source, tokenizer, private="w2 w3").train[0]
    assert answers.extra["given"].tolist() == [0, 0, 0]
    assert answers.extra["private"].tolist() == [1, 0, 0]
    cut = load(source, tokenizer, train_on="all", private="w4", max_length=4).train[0]
    assert cut.extra["private"].tolist() == [0, 0, 0]
    joined = load(source, tokenizer, train_on="all", private="w3", separator=" w9").train[0]
    assert joined.extra["given"].tolist() == [1, 1, 1, 0, 0, 0]
    assert joined.extra["private"].tolist() == [0, 0, 0, 1, 0, 0]


def test_mistakes_are_told(tokenizer: str, tmp_path: Path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": "w1 w2"} for _ in range(12)])
    with pytest.raises(DataError, match=r"data.private: expected a regular expression, found '\(': missing \)"):
        load(source, tokenizer, private="(")
    with pytest.raises(DataError, match=r"data.private is for task: causal_lm. Remove it."):
        load(source, tokenizer, "masked_lm", private="w1")
    with pytest.raises(DataError, match=r"data.canaries is for task: causal_lm. Remove it."):
        load(source, tokenizer, "masked_lm", canaries=CanaryRequest("w#"))
    apart = write_jsonl(tmp_path / "apart.jsonl", [{"prompt": "w1", "completion": "2 w3"} for _ in range(12)])
    with pytest.raises(DataError, match=r"row \d+: data.private finds no place for its tokens, since prompt and completion were tokenised"):
        load(apart, tokenizer, private="w3")


def test_canaries_have_digits_of_their_own():
    asked = CanaryRequest("pin ##-##", count=6, fills=50)
    own, others = secrets(asked, 0), rivals(asked, 0)
    assert all(re.fullmatch(r"pin \d\d-\d\d", text) for text in [*own, *others])
    assert (len(own), len(others)) == (6, 50)
    assert len(set(own)) == 6
    assert secrets(asked, 0) == own
    assert secrets(asked, 1) != own
    assert own != others[:6]
    assert (asked.repeats, CanaryRequest("#").count, CanaryRequest("#").fills) == (10, 10, 255)
    assert {character for text in others for character in text if character.isdigit()} == set("0123456789")


def test_canaries_are_planted_as_lines_of_training_texts():
    texts = [f"first {i}\nsecond {i}\nthird {i}" for i in range(6)]
    asked = CanaryRequest("pin ####", count=3, repeats=20)
    found = planted(Records("text", {"text": texts}, {}, "here"), [0, 2, 5], asked, 0).cells["text"]
    assert [found[row] for row in (1, 3, 4)] == [texts[row] for row in (1, 3, 4)]
    for row in (0, 2, 5):
        assert [line for line in found[row].split("\n") if not line.startswith("pin")] == texts[row].split("\n")
    lines = [line for row in (0, 2, 5) for line in found[row].split("\n")]
    assert [lines.count(secret) for secret in secrets(asked, 0)] == [20, 20, 20]
    places = [place for row in (0, 2, 5) for place, line in enumerate(found[row].split("\n")) if line.startswith("pin")]
    assert 0 in places
    with pytest.raises(DataError, match=r"data.canaries is for texts. Remove it."):
        planted(Records("prompt", {"completion": texts}, {}, "here"), [0], asked, 0)


def test_only_training_texts_have_canaries(tokenizer: str, tmp_path: Path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": f"w{i} w2"} for i in range(12)])
    asked = request(source, tokenizer)
    clean = load_data(asked, kind="text", labels="token", language="causal_lm")
    own = load_data(
        replace(asked, tokens=replace(asked.tokens, canaries=CanaryRequest("w3#", count=1))),
        kind="text",
        labels="token",
        language="causal_lm",
    )
    assert own.test.fingerprint() == clean.test.fingerprint()
    batch = own.train.__getitems__(list(range(len(own.train))))
    assert batch.labels is not None
    assert int((batch.labels >= 35).sum()) == 10
    assert torch.equal(own.train.labels, torch.zeros(len(own.train), dtype=torch.int64))
