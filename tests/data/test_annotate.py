"""Labels by whoever can be asked: what is no class, resume after a kill, messages, and a student that learns from them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from limbeck.data.annotate import annotate
from limbeck.errors import DataError


class Asked:
    def __init__(self, stop: int | None = None) -> None:
        self.calls: list[list[str]] = []
        self.stop = stop

    def __call__(self, texts: Sequence[str]) -> list[str | None]:
        if self.stop is not None and len(self.calls) == self.stop:
            raise KeyboardInterrupt
        self.calls.append(list(texts))
        return [None if "?" in text else "unknown" if "!" in text else ("long" if len(text) > 3 else "short") for text in texts]


def test_every_text_is_asked_about_once(tmp_path):
    ask, file = Asked(), tmp_path / "labels.jsonl"
    found = annotate(["abcd", "a", "b?", "abcd", "c!"], ask, file, classes=["long", "short"], batch_size=3)
    assert found.labels == ["long", "short", None, "long", None]
    assert (found.asked, found.unknown) == (4, 2)
    assert ask.calls == [["abcd", "a", "b?"], ["c!"]]
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows[0] == {"text": "abcd", "label": "long"}
    assert [row["label"] for row in rows] == ["long", "short", None, None]


def test_it_goes_on_after_a_kill(tmp_path):
    file, texts = tmp_path / "labels.jsonl", ["x", "x\u2028", *("x" * i for i in range(3, 8))]
    with pytest.raises(KeyboardInterrupt):
        annotate(texts, Asked(stop=2), file, classes=["long", "short"], batch_size=2)
    with file.open("a") as opened:
        opened.write('{"text": "xxxxx", "la')  # a line that the kill cut off
    ask = Asked()
    found = annotate(texts, ask, file, classes=["long", "short"], batch_size=2)
    assert ask.calls == [["xxxxx", "xxxxxx"], ["xxxxxxx"]]
    assert found.asked == 3
    whole = annotate(texts, ask, tmp_path / "other.jsonl", classes=["long", "short"], batch_size=2)
    assert found.labels == whole.labels
    assert file.read_text() == (tmp_path / "other.jsonl").read_text()


def test_messages(tmp_path):
    file = tmp_path / "labels.jsonl"
    with pytest.raises(DataError, match=r"the annotator was asked about 2 texts and gave 1 labels; expected one for each\."):
        annotate(["a", "b"], lambda texts: ["short"], file, classes=["short"])
    file.write_text('{"text": "a", "label": "medium"}\n')
    with pytest.raises(DataError, match=r":1: the label 'medium' is none of the classes; was the file made for others\? Name another\."):
        annotate(["a"], Asked(), file, classes=["short"])
    file.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r":1: expected \{\"text\": \.\.\., \"label\": \.\.\.\}, found"):
        annotate(["a"], Asked(), file, classes=["short"])
