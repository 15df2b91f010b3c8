"""Which tokens of prompts and chats are trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.language_data import load, request, save_tokenizer, write_jsonl
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck.data.load import data_info
from limbeck.errors import DataError

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %} w30 {{ m['content'] }} </s> {% else %} w31 {{ m['content'] }} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %} w30 {% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %} w30 {%- generation %} {{ m['content'] }}{% endgeneration %} </s> "
    "{% else %} w31 {{ m['content'] }} {% endif %}{% endfor %}"
)
CHANGING = CHAT.replace("{% for m", "w33 {% if messages|length > 3 %} w34 {% endif %}{% for m", 1)
ASK, ANSWER = {"role": "user", "content": "w1 w2"}, {"role": "assistant", "content": "w3 w4"}
LATER, LAST = {"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6"}


def first(source: str, tokenizer: str, **asked: Any) -> tuple[list[int], list[int]]:
    """Tokens of the first training example, and its labels."""
    batch = load(source, tokenizer, **{"max_length": 32, **asked}).train.__getitems__([0])
    assert batch.labels is not None
    return batch.inputs["input_ids"][0].tolist(), batch.labels.tolist()


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "pairs.jsonl", [{"question": "w1 w2", "answer": "w3 w4"}] * 9)


@pytest.fixture
def words(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "words")


@pytest.fixture
def chats(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "chats.jsonl", [{"messages": [ASK, ANSWER, LATER, LAST]}] * 9)


def test_completions_and_their_end_are_trained(pairs: str, words: str) -> None:
    assert first(pairs, words, separator=" ") == ([1, 6, 7, 8, 9, 2], [8, 9, 2])
    assert first(pairs, words, separator=" ", train_on="all") == ([1, 6, 7, 8, 9, 2], [6, 7, 8, 9, 2])
    assert first(pairs, words, separator=" ", end=False) == ([1, 6, 7, 8, 9], [8, 9])
    assert first(pairs, words, separator=" w9 ") == ([1, 6, 7, 14, 8, 9, 2], [8, 9, 2])


def test_a_token_across_the_border_is_told_of(pairs: str, words: str) -> None:
    splits = load(pairs, words)  # w2w3 would be one word
    assert splits.train.__getitems__([0]).inputs["input_ids"].tolist() == [[1, 6, 7, 8, 9, 2]]
    assert "train: 5 documents where prompt and completion would share a token; they were tokenised apart." in splits.notes


def test_an_empty_prompt_leaves_the_completion(tmp_path: Path, words: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "", "completion": "w3 w4"}] * 9)
    assert first(source, words) == ([1, 8, 9, 2], [8, 9, 2])


def test_prompts_without_completion_are_left_out(tmp_path: Path, words: str) -> None:
    rows = [{"prompt": "w1 ", "completion": "w3"}] * 8 + [{"prompt": "w1", "completion": None}] * 8
    told = [note for note in load(write_jsonl(tmp_path / "a.jsonl", rows), words).notes if "without text left out" in note]
    assert sum(int(note.split()[1]) for note in told) == 8


def test_long_prompts_are_cut_and_told_of(tmp_path: Path, words: str) -> None:
    rows = [{"prompt": "w1 " * 3, "completion": "w3 w4 w5"}] * 9 + [{"prompt": "w1 " * 9, "completion": "w3"}] * 9
    splits = load(write_jsonl(tmp_path / "a.jsonl", rows), words, max_length=6)
    assert splits.train.__getitems__([0]).inputs["input_ids"].tolist() == [[1, 6, 6, 6, 8, 9]]
    told = {what: sum(int(n.split()[1]) for n in splits.notes if n.endswith(what)) for what in ("cut to max_length.", "left out.")}
    assert told == {"cut to max_length.": 18, "left out.": 9}


def test_nothing_to_train_is_an_error(tmp_path: Path, words: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "w1 " * 9, "completion": "w3"}] * 9)
    with pytest.raises(DataError, match=r"nothing of the train part can be trained\. train: 5 documents cut to max_length\."):
        load(source, words, max_length=6)


def test_a_prompt_that_is_no_text(tmp_path: Path, words: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"prompt": ["w1", 2], "completion": "w3"}] * 9)
    with pytest.raises(DataError, match=r"row \d: 'prompt' must be a text, found list "):
        load(source, words)


def test_several_columns_make_one_prompt(tmp_path: Path, words: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"instruction": "w1", "input": "w2", "output": "w3"}] * 9)
    asked = {"columns": {"prompt": ["instruction", "input"], "completion": "output"}, "separator": "\n"}
    assert first(source, words, **asked) == ([1, 6, 7, 8, 2], [8, 2])


@pytest.mark.parametrize("template", [CHAT, MARKED])
def test_answers_and_their_ends_are_trained(tmp_path: Path, chats: str, template: str) -> None:
    ids, labels = first(chats, save_tokenizer(tmp_path / "chat", chat=template))
    assert ids == [36, 6, 7, 35, 8, 9, 2, 36, 10, 35, 11, 2]
    assert labels == [8, 9, 2, 11, 2]


def test_all_tokens_of_a_chat(tmp_path: Path, chats: str) -> None:
    ids, labels = first(chats, save_tokenizer(tmp_path / "chat", chat=CHAT), train_on="all")
    assert labels == ids[1:]


def test_a_template_in_a_file(tmp_path: Path, chats: str, words: str) -> None:
    (tmp_path / "chat.jinja").write_text(CHAT)
    assert first(chats, words, chat_template=str(tmp_path / "chat.jinja"))[1] == [8, 9, 2, 11, 2]
    with pytest.raises(DataError, match=r"data\.chat_template '.*absent' cannot be read"):
        load(chats, words, chat_template=str(tmp_path / "absent"))


def test_chats_need_a_template(chats: str, words: str) -> None:
    with pytest.raises(DataError, match=r"the tokenizer has no chat template, .* Set data\.chat_template to a file with one"):
        data_info(request(chats, words), kind="text", labels="token", language="causal_lm")


def test_a_template_that_rewrites_what_was_said(tmp_path: Path, chats: str) -> None:
    tokenizer = save_tokenizer(tmp_path / "chat", chat=CHANGING)
    with pytest.raises(DataError, match=r"writes the first 2 messages otherwise when more follow, so the answers cannot be found"):
        load(chats, tokenizer)
    assert first(chats, tokenizer, train_on="all")[0][:2] == [38, 39]


def test_a_template_that_refuses(tmp_path: Path, chats: str) -> None:
    tokenizer = save_tokenizer(tmp_path / "chat", chat="{{ raise_exception('no users') }}")
    with pytest.raises(DataError, match=r"row \d: the chat template cannot write this chat: no users"):
        load(chats, tokenizer)


def test_chats_without_an_answer_are_left_out(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"messages": [ASK]}] * 8 + [{"messages": [ASK, ANSWER]}] * 8 + [{"messages": []}] * 4)
    splits = load(source, save_tokenizer(tmp_path / "chat", chat=CHAT))
    told = {what: sum(int(n.split()[1]) for n in splits.notes if what in n) for what in ("without a token to train", "without text")}
    assert told == {"without a token to train": 8, "without text": 4}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("w1", r"'messages' must be a list of messages, found str 'w1'\."),
        ([{"from": "human", "value": "w1"}], r"message 1 must be a mapping with role and content, found a mapping with from, value\."),
        ([ASK, "w1"], r"message 2 must be a mapping with role and content, found str 'w1'\."),
        ([ASK, {"role": "assistant", "content": 3}], r"the content of message 2 must be a text, found int\."),
    ],
)
def test_what_is_no_chat(tmp_path: Path, messages: Any, message: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}] * 9)
    with pytest.raises(DataError, match=message):
        load(source, save_tokenizer(tmp_path / "chat", chat=CHAT))


def test_white_space_after_an_answer_is_not_trained(tmp_path: Path, chats: str) -> None:
    """A tokenizer of characters, for which the line break behind the end of an answer is a token of its own."""
    names = ["<end>", "\n", *"abcdefghijklmnopqrstuvwxyz0123456789: "]
    built = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="a"))
    built.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    template = (
        "{% for m in messages %}{{ m['role'] }}:{{ m['content'] }}<end>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<end>", chat_template=template).save_pretrained(tmp_path / "tokenizer")
    _, labels = first(chats, str(tmp_path / "tokenizer"), max_length=200)
    assert "".join(names[label] for label in labels) == "w3 w4<end>w6<end>"


def test_chats_in_parquet_and_of_the_datasets_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    tokenizer = save_tokenizer(tmp_path / "chat", chat=CHAT)
    rows = datasets.Dataset.from_list([{"messages": [ASK, ANSWER]}] * 9)
    rows.to_parquet(str(tmp_path / "a.parquet"))
    rows.save_to_disk(str(tmp_path / "saved"))
    for source in (f"parquet:{tmp_path / 'a.parquet'}", f"hf:{tmp_path / 'saved'}"):
        assert first(source, tokenizer) == ([36, 6, 7, 35, 8, 9, 2], [8, 9, 2])


def test_prompts_in_csv(tmp_path: Path, words: str) -> None:
    (tmp_path / "a.csv").write_text("question,answer\n" + "w1 ,w3 w4\n" * 9)
    assert first(f"csv:{tmp_path / 'a.csv'}", words) == ([1, 6, 8, 9, 2], [8, 9, 2])
