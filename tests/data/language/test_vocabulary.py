"""Tokenizers that are made here: characters, and those of llama2.c."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from limbeck.data.language.vocabulary import _read_llama2c, llama2c_file, of_characters, of_llama2c, size_of
from limbeck.data.text import load_tokenizer
from limbeck.errors import DataError


def test_characters_by_hand(tmp_path: Path) -> None:
    made = of_characters(["ba", "b\n"], end=True)
    assert made.get_vocab() == {"\n": 0, "a": 1, "b": 2, "<unk>": 3, "<eos>": 4}
    assert made("ab\nz")["input_ids"] == [1, 2, 0, 3]
    assert made.eos_token_id == 4
    assert made.decode([1, 2, 0, 2]) == "ab\nb"
    made.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("ab\nz")["input_ids"] == [1, 2, 0, 3]
    assert size_of(made) == 5
    endless = of_characters(["ba"], end=False)
    assert endless.eos_token_id is None
    assert len(endless) == 3


def test_no_characters() -> None:
    with pytest.raises(DataError, match="the training texts are empty"):
        of_characters([""], end=False)


def greedy(tokens: list[tuple[float, bytes]], text: str) -> list[int]:
    """The encoder of llama2.c, from its description: merge the neighbours whose token has the best score, again and again."""
    numbers = {piece: number for number, (_, piece) in enumerate(tokens)}
    ids = [1, numbers[b" "]] if text else [1]
    for character in text:
        raw = character.encode()
        ids += [numbers[raw]] if raw in numbers else [byte + 3 for byte in raw]
    while True:
        merged = [(numbers.get(tokens[a][1] + tokens[b][1]), place) for place, (a, b) in enumerate(pairwise(ids))]
        possible = [(-tokens[number][0], place, number) for number, place in merged if number is not None]
        if not possible:
            return ids
        _, place, number = min(possible)
        ids[place : place + 2] = [number]


def test_llama2c_tokenises_as_its_own_encoder(shared: Path) -> None:
    folder = shared / "stories260k"
    tokens, made = _read_llama2c(folder / "tok512.bin"), load_tokenizer(str(folder))
    words = [
        "Once",
        "upon",
        "a",
        "time,",
        "there",
        "was",
        "little",
        "girl",
        "Lily.",
        '"Hi!"',
        "café",
        "—",
        "日本",
        "",
        "the\nball\n\nthere",
    ]
    draws = random.Random(0)
    for text in ["", " ", "  a", "\n\n", " ".join(words), *(" ".join(draws.choices(words, k=9)) for _ in range(60))]:
        ids = made(text)["input_ids"]
        assert ids == greedy(tokens, text)
        assert made.decode(ids, skip_special_tokens=True) == text
    assert (len(made), made.bos_token_id, made.eos_token_id) == (512, 1, 1)


def test_which_file_is_of_llama2c(shared: Path, tmp_path: Path) -> None:
    file = shared / "stories260k" / "tok512.bin"
    assert llama2c_file(str(file)) == file
    assert llama2c_file(str(file.parent)) == file
    assert llama2c_file(str(tmp_path)) is None
    assert llama2c_file("gpt2") is None


def test_another_binary_file(tmp_path: Path) -> None:
    (tmp_path / "tok.bin").write_bytes(b"\1\0\0\0" + b"\xff" * 40)
    with pytest.raises(DataError, match=r"tok\.bin: expected a tokenizer of llama2\.c, found another file"):
        load_tokenizer(str(tmp_path / "tok.bin"))
    (tmp_path / "tok.bin").write_bytes(b"\1\0\0\0")
    with pytest.raises(DataError, match="256 tokens for bytes"):
        of_llama2c(tmp_path / "tok.bin")
