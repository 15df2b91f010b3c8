"""Prompts of held-out documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from tests.language_data import load, save_tokenizer, write_jsonl

from limbeck.data.base import Examples
from limbeck.data.language.prompts import TEXT, Asked, prompts_of

CHAT = (
    "{% for m in messages %}{{ '<s>' if m['role'] == 'user' else '' }} "
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} </s>{% endgeneration %}"
    "{% else %}{{ m['content'] }} {% endif %}{% endfor %}"
)


def asked(examples: Examples, count: int = 4, **more: Any) -> Asked:
    found = prompts_of(examples, count, **{"seed": 0, "tokens": 6, "longest": 16, **more})
    assert found is not None
    return found


def texts(found: Asked) -> list[tuple[list[int], list[int]]]:
    return [(prompt.ids.tolist(), prompt.reference.tolist()) for prompt in found.prompts]


def test_completions(tmp_path: Path) -> None:
    rows = [{"prompt": f"w{i} w1", "completion": f" w{i} w{i}"} for i in range(20)]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), save_tokenizer(tmp_path / "t"))
    found = texts(asked(splits.test))
    assert len(found) == 4
    for prompt, reference in found:
        number = prompt[1]
        assert (prompt, reference) == ([1, number, 6], [number, number, 2])
    assert texts(asked(splits.test, 99)) != texts(asked(splits.test, 99, seed=1))
    assert len(texts(asked(splits.test, 99))) == len(splits.test)
    assert asked(splits.test, longest=2).prompts == ()
    assert asked(splits.test).start is None


def test_the_first_answer_of_a_chat(tmp_path: Path) -> None:
    turns = [{"role": role, "content": f"w{i}"} for i, role in enumerate(["user", "assistant", "user", "assistant"])]
    rows = [{"messages": turns} for _ in range(10)]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), save_tokenizer(tmp_path / "t", bos=False, chat=CHAT))
    assert texts(asked(splits.test, 1)) == [([1, 5], [6, 2])]


def test_the_beginning_of_texts(tmp_path: Path) -> None:
    rows = [{"text": " ".join(f"w{j % 40}" for j in range(length))} for length in (8, 200) for _ in range(10)]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), save_tokenizer(tmp_path / "t"))
    documents = cast("Any", splits.test).store.documents
    found = texts(asked(splits.test, len(documents), longest=64))
    whole = [1, *(5 + j % 40 for j in range(200)), 2]
    short = [*whole[:9], 2]
    assert {len(prompt) for prompt, _ in found} == {5, TEXT}
    for prompt, reference in found:
        own = short if len(prompt) == 5 else whole
        assert prompt == own[: len(prompt)]
        assert reference == own[len(prompt) : len(prompt) + 6][: len(reference)]
        assert len(reference) == min(6, len(own) - len(prompt))


def test_several_places_of_one_long_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join(f"w{j % 40}" for j in range(2000)))
    splits = load(f"text:{tmp_path / 'a.txt'}", save_tokenizer(tmp_path / "t"), test=0.4)
    found = texts(asked(splits.test, 5, longest=64))
    assert len(found) == 5
    assert len({tuple(prompt) for prompt, _ in found}) > 1
    assert {len(prompt) for prompt, _ in found} == {TEXT}
    for prompt, reference in found:
        assert reference == [5 + (prompt[-1] - 5 + 1 + j) % 40 for j in range(6)]


def test_what_an_encoder_reads_and_a_decoder_writes(tmp_path: Path) -> None:
    rows = [{"prompt": f"w{i} w1", "completion": f"w{i} w2"} for i in range(20)]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), save_tokenizer(tmp_path / "t", bert=True), "seq2seq_lm")
    found = asked(splits.test, 2)
    assert found.start == 2
    for prompt, reference in texts(found):
        number = prompt[1]
        assert prompt == [1, number, 6, 2]
        assert [token for token in reference if token > 2] == [number, 7]


@pytest.mark.parametrize("language", ["masked_lm"])
def test_nothing_is_written_where_tokens_are_masked(language: Any, tmp_path: Path) -> None:
    rows = [{"text": f"w{i} w1 w2"} for i in range(20)]
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), save_tokenizer(tmp_path / "t", bert=True), language)
    assert prompts_of(splits.test, 3, seed=0, tokens=4, longest=16) is None
