"""Views of texts: other prompts of the same replies, whose rows are aligned with those of the examples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.language_data import request, save_tokenizer, write_jsonl

from limbeck.data.base import DataRequest, Splits
from limbeck.data.language.rows import LanguageExamples
from limbeck.data.load import data_info, load_data
from limbeck.data.views import ViewRequest
from limbeck.documents import document_key
from limbeck.errors import DataError, UnknownName
from limbeck.types import Batch, LanguageKind

BOS, EOS = 1, 2
CHAT = (
    "{% for m in messages %}{% if m.role == 'user' %}w30 {{ m.content }} {% else %}w31 {% generation %}{{ m.content }} w32"
    "{% endgeneration %} {% endif %}{% endfor %}"
)


def w(*numbers: int) -> list[int]:
    """Ids of the words `w0`, `w1`, ..."""
    return [5 + number for number in numbers]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tokenizer(tmp_path_factory.mktemp("words"))


def rows(count: int = 20) -> list[dict[str, Any]]:
    """`w7 w8` is the question, `w9` the answer (or `w9 w9`), `w3` the hint, each moved by the number of the row."""
    return [
        {"q": f"w{i % 8} w{8 + i % 8}", "a": f"w{16 + i % 8}" + f" w{16 + i % 8}" * (i % 2), "hint": f"w{24 + i % 4}", "level": i}
        for i in range(count)
    ]


def asked(
    tmp_path: Path, words: str | None, views: dict[str, ViewRequest], data: list[dict[str, Any]] | None = None, **more: Any
) -> DataRequest:
    source = write_jsonl(tmp_path / "rows.jsonl", data or rows())
    columns = more.pop("columns", {"prompt": "q", "completion": "a"})
    return replace(request(source, words, columns=columns, separator=more.pop("separator", " "), **more), views=views)


def read(wish: DataRequest, language: LanguageKind = "causal_lm") -> Splits:
    return load_data(wish, kind="text", labels="token", language=language)


def examples(splits: Splits) -> LanguageExamples:
    assert isinstance(splits.train, LanguageExamples)
    return splits.train


def rows_of(batch: Batch) -> list[list[int]]:
    """Tokens of each row without what fills it."""
    return [ids[mask == 1].tolist() for ids, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)]


def targets(batch: Batch) -> list[int]:
    """What follows each trained place of a decoder's text."""
    assert batch.rows is not None
    return batch.inputs["input_ids"].flatten()[batch.rows + 1].tolist()


HINTED = {"hinted": ViewRequest(prompt="{hint} w29 {q}")}


def test_a_view_has_another_prompt_and_the_rows_of_the_same_tokens(tmp_path: Path, words: str) -> None:
    train = examples(read(asked(tmp_path, words, HINTED)))
    batch = train.__getitems__([0, 1])
    seen = batch.shown("hinted")
    number = [int(x) for x in train.store.documents.rows[:2]]
    plain, hinted, labels = [], [], []
    for i in number:
        reply = [*w(16 + i % 8) * (1 + i % 2), EOS]
        plain.append([BOS, *w(i % 8, 8 + i % 8), *reply])
        hinted.append([BOS, *w(24 + i % 4, 29, i % 8, 8 + i % 8), *reply])
        labels += reply
    assert (rows_of(batch), rows_of(seen)) == (plain, hinted)
    assert batch.labels is not None
    assert batch.labels.tolist() == labels
    assert seen.labels is batch.labels
    assert targets(batch) == targets(seen) == labels
    assert seen.rows is not None
    assert batch.rows is not None
    assert (seen.rows[0] - batch.rows[0]).item() == 2  # the place before the reply, two tokens later


@pytest.mark.parametrize("padding", ["left", "right"])
def test_packed_documents_lie_in_rows_of_their_own_in_a_view(padding: Any, tmp_path: Path, words: str) -> None:
    packed = examples(read(asked(tmp_path, words, HINTED, pack=True, padding=padding)))
    alone = examples(read(asked(tmp_path, words, HINTED, padding=padding)))
    assert len(packed) < len(alone)
    batch = packed.__getitems__([2, 0])
    seen = batch.shown("hinted")
    documents = packed.store.numbers(torch.tensor([2, 0]))
    assert rows_of(seen) == rows_of(alone.__getitems__(documents.tolist()).shown("hinted"))
    assert batch.labels is not None
    assert targets(seen) == batch.labels.tolist()
    assert "segments" not in seen.inputs
    assert ("position_ids" in seen.inputs) == (padding == "left")


def test_a_decoder_reads_as_one_text_what_an_encoder_decoder_reads_as_two(tmp_path: Path, words: str) -> None:
    views = {"one": ViewRequest(task="causal_lm"), "hinted": ViewRequest(prompt="{hint} {q}", task="causal_lm", max_length=9)}
    wish = asked(tmp_path, words, views, separator=" w33 ", decoder_start="<s>")
    splits = read(wish, "seq2seq_lm")
    train = examples(splits)
    batch = train.__getitems__([1])
    i = int(train.store.documents.rows[1])
    reply = [*w(16 + i % 8) * (1 + i % 2), EOS]
    assert batch.inputs["decoder_input_ids"].tolist() == [[BOS, *reply[:-1]]]
    assert rows_of(batch) == [[BOS, *w(i % 8, 8 + i % 8)]]
    one = batch.shown("one")
    assert one.inputs.keys() == {"input_ids", "attention_mask"}
    assert rows_of(one) == [[BOS, *w(i % 8, 8 + i % 8, 33), *reply]]
    assert targets(one) == reply == (batch.labels.tolist() if batch.labels is not None else None)
    assert rows_of(batch.shown("hinted")) == [[BOS, *w(24 + i % 4, i % 8, 8 + i % 8, 33), *reply]]
    infos = splits.info.views
    assert {name: (own.language, own.input_shape) for name, own in infos.items()} == {
        "one": ("causal_lm", (32,)),
        "hinted": ("causal_lm", (9,)),
    }
    assert splits.info.language == "seq2seq_lm"
    assert data_info(wish, kind="text", labels="token", language="seq2seq_lm").views == infos


def test_an_encoder_decoder_reads_as_two_texts_what_a_decoder_reads_as_one(tmp_path: Path, words: str) -> None:
    views = {"two": ViewRequest(prompt="w0 w1 w2 {q}", task="seq2seq_lm", max_length=5)}
    splits = read(asked(tmp_path, words, views, decoder_start="<s>"))
    train = examples(splits)
    batch = train.__getitems__([0, 1])
    two = batch.shown("two")
    assert batch.labels is not None
    assert two.rows is not None
    numbers = [int(x) for x in train.store.documents.rows[:2]]
    assert rows_of(two) == [[BOS, *w(1, 2, i % 8, 8 + i % 8)] for i in numbers]  # the beginning of the prompt is cut
    ids, mask = two.inputs["decoder_input_ids"], two.inputs["decoder_attention_mask"]
    expected = [[BOS, *w(16 + i % 8) * (1 + i % 2)] for i in numbers]
    assert [own[there == 1].tolist() for own, there in zip(ids, mask, strict=True)] == expected
    flat = torch.cat([ids[:, 1:], torch.full((2, 1), -1)], 1).flatten()[two.rows]
    assert torch.where(flat >= 5, flat, EOS).tolist() == batch.labels.tolist()
    assert any("cut at the beginning of the prompt to the 5 tokens of view 'two'" in note for note in splits.notes)


def test_long_prompts_lose_their_beginning_and_the_reply_stays(tmp_path: Path, words: str) -> None:
    data = [{"q": " ".join(f"w{j}" for j in range(10)), "a": "w20 w21", "h": "w30"} for _ in range(12)]
    splits = read(asked(tmp_path, words, {"v": ViewRequest(prompt="{h} {q}", max_length=8)}, data))
    batch = splits.train.__getitems__([0])
    assert rows_of(batch.shown("v")) == [[BOS, *w(6, 7, 8, 9, 20, 21), EOS]]
    assert splits.notes[0].startswith("train: 8 documents cut at the beginning of the prompt to the 8 tokens of view 'v'.")
    fits = read(asked(tmp_path, words, {"v": ViewRequest(prompt="{h} {q}", max_length=15)}, data))
    assert rows_of(fits.train.__getitems__([0]).shown("v")) == [[BOS, *w(30, *range(10), 20, 21), EOS]]
    assert not fits.notes
    with pytest.raises(DataError, match=r"data\.views\.v: row \d+: the reply has 3 tokens, which leaves no room for a prompt in 3\. Raise"):
        read(asked(tmp_path, words, {"v": ViewRequest(max_length=3)}, data))


def test_what_is_cut_off_the_students_reply_is_not_asked_of_the_teacher(tmp_path: Path, words: str) -> None:
    data = [{"q": "w0 w1", "a": "w20 w21 w22 w23"} for _ in range(12)]
    batch = read(asked(tmp_path, words, {"v": ViewRequest(prompt="w5 {q}", max_length=32)}, data, max_length=5)).train.__getitems__([0])
    assert rows_of(batch) == [[BOS, *w(0, 1, 20, 21)]]
    assert rows_of(batch.shown("v")) == [[BOS, *w(5, 0, 1, 20, 21)]]


def test_prompts_may_be_cut_instead_of_the_end(tmp_path: Path, words: str) -> None:
    data = [{"q": "w0 w1 w2 w3", "a": "w20 w21"} for _ in range(11)] + [{"q": "w0 w1", "a": " ".join(["w7"] * 9)}]
    wish = asked(tmp_path, words, {}, data, max_length=6, cut="prompt")
    splits = read(replace(wish, valid=0.0, test=0.1))
    found = sorted(rows_of(splits.train.__getitems__(list(range(len(splits.train))))))
    assert found[0] == [BOS, *w(2, 3, 20, 21), EOS]
    held = sorted(rows_of(splits.test.__getitems__(list(range(len(splits.test))))))
    assert [BOS, *w(7, 7, 7, 7, 7)] in found + held  # a reply without an end keeps its beginning
    assert any("cut to max_length at the beginning of the prompt" in note for note in splits.notes)
    texts = [{"text": "w1 w2"}] * 9
    with pytest.raises(DataError, match=r"data\.cut: prompt is for prompts with completions"):
        read(asked(tmp_path, words, {}, texts, columns={}, cut="prompt"))
    with pytest.raises(DataError, match=r"data\.cut is for task: causal_lm"):
        read(asked(tmp_path, words, {}, data, cut="prompt"), "seq2seq_lm")


def chats(count: int = 16) -> list[dict[str, Any]]:
    turns = [("user", "w1"), ("assistant", "w2 w3"), ("user", "w4"), ("assistant", "w5")]
    return [{"messages": [{"role": role, "content": text} for role, text in turns], "hint": f"w{10 + i % 5}"} for i in range(count)]


def test_of_a_chat_the_last_question_changes_and_all_answers_are_aligned(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "chat", bos=False, chat=CHAT)
    views = {"v": ViewRequest(prompt="{hint} w29 {prompt}"), "short": ViewRequest(prompt="{hint} w29 {prompt}", max_length=12)}
    splits = read(asked(tmp_path, tokenizer, views, chats(), columns={"messages": "messages"}))
    train = examples(splits)
    batch = train.__getitems__([0])
    i = int(train.store.documents.rows[0])
    assert rows_of(batch) == [w(30, 1, 31, 2, 3, 32, 30, 4, 31, 5, 32)]
    assert rows_of(batch.shown("v")) == [w(30, 1, 31, 2, 3, 32, 30, 10 + i % 5, 29, 4, 31, 5, 32)]
    assert rows_of(batch.shown("short")) == [w(1, 31, 2, 3, 32, 30, 10 + i % 5, 29, 4, 31, 5, 32)]
    assert targets(batch) == targets(batch.shown("v")) == targets(batch.shown("short")) == w(2, 3, 32, 5, 32)
    views["v"] = replace(views["v"], max_length=16)
    cut = read(asked(tmp_path, tokenizer, {"v": views["v"]}, chats(), columns={"messages": "messages"}, max_length=10)).train.__getitems__(
        [0]
    )
    assert targets(cut) == targets(cut.shown("v")) == w(2, 3, 32, 5)
    with pytest.raises(DataError, match=r"row \d+: the reply has 10 tokens, which leaves no room for a prompt in 10"):
        read(asked(tmp_path, tokenizer, {"v": ViewRequest(prompt="{hint} w29 {prompt}", max_length=10)}, chats(), columns={}))


def test_a_template_that_changes_answers_with_the_prompt_is_refused(tmp_path: Path) -> None:
    echo = CHAT.replace("{{ m.content }} w32", "{{ messages[-2].content }} w32")
    tokenizer = save_tokenizer(tmp_path / "echo", bos=False, chat=echo)
    wish = asked(tmp_path, tokenizer, {"v": ViewRequest(prompt="w9 {prompt}")}, chats(), columns={"messages": "messages"})
    text = (
        r"data\.views\.v: row \d+: what is to be predicted must be the same tokens in every view\. Token 1 is 'w4' for the student and 'w9'"
    )
    with pytest.raises(DataError, match=text):
        read(wish)
    with pytest.raises(DataError, match=text):
        data_info(wish, kind="text", labels="token", language="causal_lm")
    silent = [{"messages": [{"role": "assistant", "content": "w1 w2"}], "hint": "w3"}] * 12
    wish = asked(tmp_path, tokenizer, {"v": ViewRequest(prompt="w9")}, silent, columns={"messages": "messages"})
    with pytest.raises(DataError):
        read(replace(wish, tokenizer=save_tokenizer(tmp_path / "chat", bos=False, chat=CHAT)))


def test_a_reply_that_the_tokenizer_would_write_otherwise_is_counted(tmp_path: Path) -> None:
    data = [{"q": "ab", "a": "cd"} for _ in range(12)]
    source = write_jsonl(tmp_path / "letters.jsonl", data)
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocab = {**{letter: i for i, letter in enumerate("abcdx")}, "<eos>": 5, "xc": 6}
    built = Tokenizer(models.BPE(vocab=vocab, merges=[("x", "c")]))
    PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<eos>", pad_token="<eos>").save_pretrained(tmp_path / "bpe")
    wish = replace(
        request(source, str(tmp_path / "bpe"), columns={"prompt": "q", "completion": "a"}), views={"v": ViewRequest(prompt="{q}x")}
    )
    splits = read(wish)
    assert rows_of(splits.train.__getitems__([0]).shown("v")) == [[0, 1, 4, 2, 3, 5]]  # x and c are not joined
    what = "documents whose reply the tokenizer writes otherwise after the prompt of view 'v'; it shows the student's tokens."
    assert list(splits.notes) == [f"train: 8 {what}", f"valid: 2 {what}", f"test: 2 {what}"]


def test_a_document_is_known_by_what_the_teacher_reads(tmp_path: Path, words: str) -> None:
    splits = read(asked(tmp_path, words, HINTED, pack=True))
    train = examples(splits)
    plain, hinted = train.documents(), train.documents("hinted")
    numbers = np.arange(len(plain))
    assert len(hinted) == len(plain) == int(train.store.layout.bounds[-1])
    document = int(train.store.layout.document[3])
    i = int(train.store.documents.rows[document])
    reply = [*w(16 + i % 8) * (1 + i % 2), EOS]
    ids = np.array([BOS, *w(24 + i % 4, 29, i % 8, 8 + i % 8), *reply])
    trained = np.zeros(len(ids), dtype=bool)
    trained[-len(reply) - 1 : -1] = True
    assert hinted.keys(np.array([3])).tobytes() == document_key(ids, trained)
    assert not (plain.keys(numbers) == hinted.keys(numbers)).all(1).any()
    assert (hinted.lengths(numbers) - plain.lengths(numbers)).tolist() == [2] * len(numbers)
    # The same as of data that are written so from the first.
    written = [{**row, "q": f"{row['hint']} w29 {row['q']}"} for row in rows()]
    other = examples(read(asked(tmp_path, words, {}, written))).documents()
    assert {key.tobytes() for key in other.keys(np.arange(len(other)))} == {key.tobytes() for key in hinted.keys(numbers)}
    assert train.fingerprint("hinted") != train.fingerprint()
    with pytest.raises(UnknownName, match=r"no view of the data is called 'hintd'\. Did you mean 'hinted'"):
        train.documents("hintd")


def test_some_of_the_examples_keep_their_views(tmp_path: Path, words: str) -> None:
    for language in ("causal_lm", "seq2seq_lm"):
        views = {"one": ViewRequest(prompt="w39 {q}", task="causal_lm")}
        train = examples(read(asked(tmp_path, words, views, decoder_start="<s>"), language))
        some = train.some(torch.tensor([3, 1]))
        assert rows_of(some.__getitems__([0, 1]).shown("one")) == rows_of(train.__getitems__([3, 1]).shown("one"))
        assert rows_of(some.augmented(0, 1).__getitems__([1]).shown("one")) == rows_of(train.__getitems__([1]).shown("one"))
    packed = train.over(train.store) if language == "causal_lm" else some
    assert packed.renderings.keys() == {"one"}


def test_numbers_and_lists_of_words_are_written_and_braces_stand_for_themselves(tmp_path: Path, words: str) -> None:
    data = [{**row, "list": ["w1", "w2"], "level": 3} for row in rows()]
    views = {"v": ViewRequest(prompt="{list} {prompt} w{level} {{ {completion}")}
    train = examples(read(asked(tmp_path, words, views, data, max_length=24)))
    i, unknown = int(train.store.documents.rows[0]), 3
    reply = w(16 + i % 8) * (1 + i % 2)
    assert rows_of(train.__getitems__([0]).shown("v")) == [[BOS, *w(1, 2, i % 8, 8 + i % 8, 3), unknown, *reply, *reply, EOS]]


@pytest.mark.parametrize(
    ("prompt", "error", "text"),
    [
        ("{hnt} {q}", UnknownName, r"no column in data\.views\.v\.prompt is called 'hnt'. Did you mean 'hint'"),
        ("{q", DataError, r"data\.views\.v\.prompt: expected '}' before end of string\. A column is written {NAME}, a brace {{ or }}\."),
        ("{q:>5}", DataError, r"data\.views\.v\.prompt: expected {q} alone, without ! or a format"),
        ("{q!r}", DataError, r"expected {q} alone"),
        (
            "{empty} {q}",
            DataError,
            r"data\.views\.v\.prompt: row \d+: expected a text or a number in the column 'empty', found nothing\. Mend",
        ),
        ("{none} {q}", DataError, r"in the column 'none', found nothing"),
        ("{odd} {q}", DataError, r"in the column 'odd', found dict \"{'a': 1}\""),
    ],
)
def test_wrong_templates(prompt: str, error: type[Exception], text: str, tmp_path: Path, words: str) -> None:
    data = [{**row, "empty": "", "none": None, "odd": {"a": 1}} for row in rows()]
    wish = asked(tmp_path, words, {"v": ViewRequest(prompt=prompt)}, data)
    for look in (read, lambda own: data_info(own, kind="text", labels="token", language="causal_lm")):
        with pytest.raises(error, match=text):
            look(wish)


def test_what_a_view_of_texts_cannot_be(tmp_path: Path, words: str) -> None:
    def refused(text: str, view: ViewRequest, language: LanguageKind = "causal_lm", **more: Any) -> None:
        with pytest.raises(DataError, match=text):
            data_info(asked(tmp_path, words, {"v": view}, **more), kind="text", labels="token", language=language)

    refused(r"data\.views\.v\.size is not for language models", ViewRequest(size=8))
    refused(r"data\.views\.v\.transforms is not for", ViewRequest(transforms=["flip"]))
    refused(
        r"data\.views are for tasks in which a reply follows a prompt \(causal_lm and seq2seq_lm\), not for masked_lm",
        ViewRequest(),
        "masked_lm",
        columns={"text": "q"},
    )
    refused(r"data\.views\.v: a view is another prompt of the same reply, and these texts have none", ViewRequest(), columns={"text": "q"})
    refused(r"data\.train_on: all trains prompts, too", ViewRequest(), train_on="all")
    refused(
        r"data\.views\.v: the decoder writes <s> before each reply, .* data\.decoder_start: '<s>'",
        ViewRequest(task="causal_lm"),
        "seq2seq_lm",
    )
    refused(r"data\.views\.v: row \d+: nothing is left for the encoder to read", ViewRequest(task="seq2seq_lm", max_length=1))
    tokenizer = save_tokenizer(tmp_path / "chat", bos=False, chat=CHAT)
    wish = asked(tmp_path, tokenizer, {"v": ViewRequest(task="seq2seq_lm")}, chats(), columns={"messages": "messages"})
    with pytest.raises(DataError, match=r"data\.views\.v\.task: seq2seq_lm reads prompts with completions, and these are chats"):
        read(wish)
    bare = save_tokenizer(tmp_path / "bare", bos=False)
    with pytest.raises(DataError, match=r"data\.views\.v: row \d+: nothing stands before the reply"):
        read(asked(tmp_path, bare, {"v": ViewRequest(prompt="")}, separator=""))


def test_other_tasks_have_no_prompts(tmp_path: Path, words: str) -> None:
    wish = replace(request("sklearn:digits", None), views={"v": ViewRequest(prompt="{a}")})
    for look in (load_data, data_info):
        with pytest.raises(DataError, match=r"data\.views\.v\.prompt is for language models, such as task: causal_lm"):
            look(wish, kind="image", labels="class")


def test_a_view_whose_targets_are_others_is_found_in_the_batch(tmp_path: Path, words: str) -> None:
    train = examples(read(asked(tmp_path, words, HINTED)))
    train.renderings = {"hinted": train.rendering("hinted").some(torch.arange(len(train)).flip(0))}
    with pytest.raises(DataError, match=r"data\.views\.hinted: what is to be predicted is not the same as in the examples themselves"):
        train.__getitems__([0, 1])


def test_views_move_with_their_batch(tmp_path: Path, words: str) -> None:
    batch = read(asked(tmp_path, words, HINTED)).train.__getitems__([0, 1])
    moved = batch.to(torch.device("meta")).shown("hinted")
    assert moved.rows is not None
    assert batch.rows is not None
    assert moved.rows.device.type == "meta"
    assert moved.inputs["input_ids"].shape == batch.shown("hinted").inputs["input_ids"].shape
    assert moved.tokens_shape[1] == batch.tokens_shape[1] + 2
