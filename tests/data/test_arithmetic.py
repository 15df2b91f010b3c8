"""Sums in figures: exact, all different, the same everywhere."""

from __future__ import annotations

import pytest
from tests.language_data import load, request

from limbeck.data.load import load_data
from limbeck.data.opening import build_source
from limbeck.data.sources.base import Pool, Wanted
from limbeck.errors import DataError, UnknownName


def read(location: str = "sums", **args: object) -> Pool:
    source, where = build_source(f"arithmetic:{location}", args)
    return source.read(where, Wanted("text", "token", language="causal_lm"))


def test_all_sums_once_and_right():
    cells = read(largest=9).cells
    assert len(set(cells["question"])) == len(cells["question"]) == 100
    for question, answer in zip(cells["question"], cells["answer"], strict=True):
        one, other = question.removesuffix("=").split("+")
        assert int(one) + int(other) == int(answer)
    assert {question.split("+")[0] for question in cells["question"]} == {str(i) for i in range(10)}
    assert set(cells["hint"]) == {""}
    assert cells["question"] != sorted(cells["question"])
    assert len(read().cells["answer"]) == 10_000


def test_some_have_a_hint_and_the_order_follows_from_the_seed():
    cells = read(largest=9, count=40, hints=0.25).cells
    hinted = [row for row, hint in enumerate(cells["hint"]) if hint]
    assert len(hinted) == 10
    assert hinted != list(range(10))
    assert all(cells["hint"][row] == cells["answer"][row] for row in hinted)
    assert read(largest=9, count=40, hints=0.25).cells == cells
    assert cells["question"] == read(largest=9).cells["question"][:40]
    other = read(largest=9, count=40, hints=0.25, seed=1).cells
    assert other["question"] != cells["question"]


def test_as_data_of_a_language_model():
    splits = load("arithmetic:sums", "characters", columns={"prompt": "question", "completion": "answer"})
    assert (len(splits.train), splits.valid is not None and len(splits.valid), len(splits.test)) == (6000, 2000, 2000)
    assert splits.info.num_outputs == len("0123456789+=") + 2


def test_what_there_is_not():
    with pytest.raises(UnknownName, match=r"no text of arithmetic is called 'sum'\. Did you mean 'sums'"):
        read("sum")
    with pytest.raises(DataError, match=r"arithmetic:sums: args\.count is 101, and there are 100 sums up to 9\."):
        read(largest=9, count=101)
    with pytest.raises(DataError, match="arithmetic:sums"):
        load_data(request("arithmetic:sums", None), kind=None, labels="class")


def test_a_hint_may_hold_a_wrong_answer_too():
    cells = read(largest=9, hints=0.5, hint="both").cells
    hinted = [(int(answer), hint.split("\n")) for answer, hint in zip(cells["answer"], cells["hint"], strict=True) if hint]
    assert len(hinted) == 50
    assert all(int(right) == answer != int(wrong) for answer, (right, wrong) in hinted)
    distance = [int(wrong) - answer for answer, (_, wrong) in hinted]
    assert min(distance) < -5
    assert max(distance) > 5
    assert all(int(wrong) >= 0 and abs(int(wrong) - answer) <= max(10, 20 - answer) for answer, (_, wrong) in hinted)
    assert read(largest=9, hints=0.5, hint="both").cells == cells
    assert {name: cells[name] for name in ("question", "answer")} == {name: read(largest=9).cells[name] for name in ("question", "answer")}
