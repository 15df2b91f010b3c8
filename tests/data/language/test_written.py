"""Written replies in the place of the data's own: which rows are trained, the columns `right` and `wrong`, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.language_data import load, save_tokenizer, write_jsonl

from limbeck.data.base import DataRequest, Splits
from limbeck.data.language.request import RolloutRequest, TokenRequest
from limbeck.data.language.rows import LanguageExamples
from limbeck.data.language.written import Written, _others, read_replies, write_replies
from limbeck.data.load import load_data
from limbeck.data.views import ViewRequest
from limbeck.errors import DataError

ROWS = [{"question": f"w{i} w{i + 1}", "answer": f"w{i % 7}"} for i in range(20)]


def shown(folder: Path, file: Path | None, **tokens: Any) -> Splits:
    """The data with a view that names what was written."""
    request = DataRequest(
        write_jsonl(folder / "rows.jsonl", ROWS),
        tokenizer=save_tokenizer(folder / "words"),
        max_length=16,
        valid=0.2,
        test=0.2,
        views={"told": ViewRequest(prompt="{right} w39 {wrong} w38 {question}")},
        tokens=TokenRequest(separator=" ", rollouts=RolloutRequest(None if file is None else str(file)), **tokens),
    )
    return load_data(request, kind="text", labels="token", language="causal_lm")


def texts(splits: Splits, examples: Any, view: str | None = None) -> list[str]:
    assert isinstance(examples, LanguageExamples)
    store = (examples if view is None else examples.rendering(view)).store
    return [splits.tokenizer.decode(ids) for ids in store.documents.ids.split(store.documents.lengths.tolist())]


def kept(splits: Splits) -> list[Written]:
    """Two of the training questions, the later one first."""
    rows = sorted(splits.questions)
    return [
        Written(rows[5], splits.questions[rows[5]][0], "w30 w31", "w30", "w33"),
        Written(rows[2], splits.questions[rows[2]][0], "w32", "w34", "w35"),
    ]


def test_before_anything_is_written(tmp_path: Path):
    splits = shown(tmp_path, None)
    assert len(splits.questions) == len(splits.train) == 12
    row = int(splits.train.store.documents.rows[0])  # pyright: ignore[reportAttributeAccessIssue]
    assert splits.questions[row] == (ROWS[row]["question"], ROWS[row]["answer"])
    own, other = ROWS[row]["answer"], ROWS[(row + 1) % 20]["answer"]
    assert texts(splits, splits.train)[0] == f"<s> {ROWS[row]['question']} {own} </s>"
    assert texts(splits, splits.train, "told")[0] == f"<s> {own} w39 {other} w38 {ROWS[row]['question']} {own} </s>"
    assert len(texts(splits, splits.test, "told")) == 4


def test_what_was_written_is_trained(tmp_path: Path):
    before = shown(tmp_path, None)
    file = tmp_path / "kept.jsonl"
    write_replies(file, kept(before))
    splits = shown(tmp_path, file)
    later, earlier = kept(before)
    assert texts(splits, splits.train) == [f"<s> {earlier.prompt} w32 </s>", f"<s> {later.prompt} w30 w31 </s>"]
    assert texts(splits, splits.train, "told")[1] == f"<s> w30 w39 w33 w38 {later.prompt} w30 w31 </s>"
    assert splits.questions == before.questions
    for part in ("valid", "test"):
        assert texts(splits, getattr(splits, part), "told") == texts(before, getattr(before, part), "told")
    assert len(shown(tmp_path, file, pack=True).train) == 1


def test_the_file(tmp_path: Path):
    lines = [Written(3, "a\u2028b", "c\nd\u0085", "", "x"), Written(1, "", "é", "y", "z")]
    write_replies(tmp_path / "new" / "kept.jsonl", lines)
    assert read_replies(tmp_path / "new" / "kept.jsonl") == lines
    write_replies(tmp_path / "none.jsonl", [])
    assert read_replies(tmp_path / "none.jsonl") == []
    with pytest.raises(DataError, match=r"data\.rollouts\.file: .*absent\.jsonl cannot be read: No such file"):
        read_replies(tmp_path / "absent.jsonl")
    for line in ('{"row": 1}', "[]", "{", json.dumps({**vars(lines[0]), "row": "1"}), json.dumps({**vars(lines[0]), "wrong": None})):
        (tmp_path / "odd.jsonl").write_text(json.dumps(vars(lines[0])) + f"\n{line}\n")
        with pytest.raises(DataError, match=r"odd\.jsonl:2: expected a line that a run has written, with row, prompt"):
            read_replies(tmp_path / "odd.jsonl")


def test_files_of_other_questions(tmp_path: Path):
    splits = shown(tmp_path, None)
    good, file = kept(splits)[0], tmp_path / "kept.jsonl"
    held = next(row for row in range(20) if row not in splits.questions)
    for row, prompt in ((good.row, "w1"), (held, ROWS[held]["question"]), (20, "w1")):
        write_replies(file, [Written(row, prompt, "w1", "w1", "w2")])
        with pytest.raises(DataError, match=rf"kept\.jsonl is of other training questions, such as {prompt!r} in row {row + 1}\."):
            shown(tmp_path, file)
    write_replies(file, [])
    with pytest.raises(DataError, match=r"kept\.jsonl holds no question\."):
        shown(tmp_path, file)


def test_the_next_other_reply():
    assert _others(["a", "a", "b", "", None, "c", "a"]) == ["b", "b", "c", "c", "c", "a", "b"]
    assert _others(["a", "a"]) == ["a", "a"]
    assert _others([]) == []


def test_data_that_have_no_replies(tmp_path: Path):
    words, asked = save_tokenizer(tmp_path / "words", chat="{% for m in messages %}{{ m.content }}{% endfor %}"), RolloutRequest()
    plain = write_jsonl(tmp_path / "plain.jsonl", [{"text": f"w{i}"} for i in range(20)])
    with pytest.raises(
        DataError, match=r"data\.rollouts: replies are written after prompts, and these texts are no prompts with completions"
    ):
        load(plain, words, rollouts=asked)
    turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    chats = write_jsonl(tmp_path / "chats.jsonl", [{"messages": turns}] * 20)
    with pytest.raises(DataError, match=r"replies are written after prompts, and these texts are chats"):
        load(chats, words, rollouts=asked)
    taken = write_jsonl(tmp_path / "taken.jsonl", [{"prompt": "w1", "completion": "w2", "wrong": "w3"}] * 20)
    with pytest.raises(DataError, match=r"the column 'wrong' is for what is written, and jsonl:.*taken\.jsonl has one of that name"):
        load(taken, words, rollouts=asked)
    with pytest.raises(DataError, match=r"data\.rollouts is for language models"):
        load_data(DataRequest("sklearn:digits", tokens=TokenRequest(rollouts=asked)), kind=None, labels="class")
