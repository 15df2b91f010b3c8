"""Whoever waits for the tokens of a long text is told how far they are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.language_data import save_tokenizer, write_jsonl

from limbeck.data.base import DataRequest
from limbeck.data.language import encode
from limbeck.data.language.encode import Pace, Tally, long_text
from limbeck.data.load import load_data
from limbeck.data.text import load_tokenizer


def test_by_hand():
    said: list[str] = []
    times = iter([0.0, 4.0, 11.0, 12.0, 30.0])
    pace = Pace(said.append, "train", 4_000_000, clock=lambda: next(times))
    for _ in range(5):
        pace.step(500_000)
    assert said == ["train: 1.5 million characters tokenised (38%).", "train: 2.5 million characters tokenised (62%)."]


def test_without_an_end_there_is_no_share():
    said: list[str] = []
    times = iter([0.0, 20.0])
    pace = Pace(said.append, "test", 0, clock=lambda: next(times))
    pace.step(0)
    pace.step(2_000_000)
    assert said == ["test: 2.0 million characters tokenised."]
    Tally().step(5)  # nobody listens


@pytest.mark.parametrize(
    "rows", [[{"text": "w1 w2 w3 w4"}] * 20, [{"prompt": "w1 w2", "completion": "w3 w4"}] * 20], ids=["text", "prompt"]
)
def test_all_characters_are_counted(rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encode, "EVERY", 0.0)
    said: list[str] = []
    request = DataRequest(write_jsonl(tmp_path / "a.jsonl", rows), tokenizer=save_tokenizer(tmp_path / "t"), max_length=16)
    load_data(request, kind="text", labels="token", language="causal_lm", told=said.append)
    last = [list(own)[-1] for _, own in itertools.groupby(said, key=lambda text: text.split(":")[0])]
    assert last == [f"{part}: 0.0 million characters tokenised (100%)." for part in ("train", "valid", "test")]


def test_pieces_of_one_text(tmp_path: Path):
    steps: list[int] = []
    text = "w1 w2\n" * 50
    long_text(load_tokenizer(save_tokenizer(tmp_path / "t")), text, 40, step=steps.append)
    assert sum(steps) in (len(text), 0)
