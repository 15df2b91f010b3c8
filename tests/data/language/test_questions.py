"""Questions whose answers are spans of a text: data, signals and metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.language_data import load, request, save_tokenizer, write_jsonl

from limbeck.data.load import data_info, load_data
from limbeck.errors import DataError, ShapeMismatch, SignalMissing
from limbeck.tasks.span_extraction import SpanExtraction
from limbeck.types import Batch, DataInfo

TASK = SpanExtraction()


def asked(answers: Any, context: str = "w10 w11 w12 w13 w14 w15", **more: Any) -> dict[str, Any]:
    return {"question": "w1 w2", "context": context, "answers": answers, **more}


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save_tokenizer(tmp_path / "bert", bert=True)


def first(tmp_path: Path, bert: str, row: dict[str, Any], **more: Any) -> Any:
    """The training part of data in which all rows are alike."""
    return load(write_jsonl(tmp_path / "a.jsonl", [row] * 9), bert, "span_extraction", **more).train


@pytest.mark.parametrize(
    "row",
    [
        asked({"text": ["w12 w13", "w14"], "answer_start": [8, 16]}),
        asked([{"text": "w12 w13", "answer_start": 8}]),
        asked("w12 w13"),
        asked("w12 w13", answer_start=8),
        asked("w12 w13", answer_start="8"),
    ],
)
def test_answers_by_hand(tmp_path: Path, bert: str, row: dict[str, Any]) -> None:
    batch = first(tmp_path, bert, row).__getitems__([0])
    assert batch.inputs["input_ids"].tolist() == [[1, 6, 7, 2, 15, 16, 17, 18, 19, 20, 2]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]
    assert batch.labels is not None
    assert batch.labels.tolist() == [[6, 7]]
    assert batch.rows is None
    assert batch.extra["allowed"].nonzero()[:, 1].tolist() == [0, 4, 5, 6, 7, 8, 9]
    assert batch.extra["allowed"].shape == (1, 16)


def test_windows_know_their_question(tmp_path: Path, bert: str) -> None:
    train = first(tmp_path, bert, asked("w13 w14"), max_length=8, stride=1)
    batch = train.__getitems__([0, 1, 2, 3, 4])
    questions = batch.extra["questions"].tolist()
    assert questions[0] == questions[2] != questions[3] == questions[4]


@pytest.mark.parametrize("answers", [None, "", [], {"text": [], "answer_start": []}])
def test_questions_without_an_answer(tmp_path: Path, bert: str, answers: Any) -> None:
    labels = first(tmp_path, bert, asked(answers)).__getitems__([0]).labels
    assert labels.tolist() == [[0, 0]]


def test_windows_of_the_context(tmp_path: Path, bert: str) -> None:
    train = first(tmp_path, bert, asked("w13 w14"), max_length=8, stride=1)
    batch = train.__getitems__([0, 1, 2])
    assert batch.inputs["input_ids"].tolist() == [[1, 6, 7, 2, 15, 16, 17, 2], [1, 6, 7, 2, 17, 18, 19, 2], [1, 6, 7, 2, 19, 20, 2, 0]]
    assert batch.labels.tolist() == [[0, 0], [5, 6], [0, 0]]
    assert batch.extra["allowed"][2].tolist() == [True, False, False, False, True, True, False, False]
    assert len(train) == 15


def test_answers_that_no_window_holds_are_told_of(tmp_path: Path, bert: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [asked("w12 w13")] * 9)
    notes = load(source, bert, "span_extraction", max_length=8).notes
    assert "train: 5 documents whose answer lies in no window as a whole." in notes
    assert "train: 5 documents longer than max_length read in windows." in notes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (asked("w99"), r"the answer 'w99' occurs 0 times in its context\. Say which by a column answer_start\."),
        (asked("w1"), r"the answer 'w1' occurs 6 times in its context\."),
        (asked("w12", answer_start=7), r"the answer 'w12' does not stand at 7 in its context, counted in characters from 0\."),
        (asked("w12", answer_start=-8), r"does not stand at -8"),
        (asked({"text": ["w12"], "answer_start": ["x"]}), r"does not stand at 'x'"),
        (asked(3), r"row \d: 'answers' must be a text, or text and answer_start, found '3'\."),
        (
            {**asked("w12"), "question": "w1 " * 14},
            r"a question of 14 tokens leaves 0 of data\.max_length 16 to its context, which must be",
        ),
        ({**asked("w12"), "question": 3}, r"'question' must be a text, found int '3'"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, bert: str, row: dict[str, Any], message: str) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [row] * 9)
    with pytest.raises(DataError, match=message):
        data_info(request(source, bert), kind="text", labels="span", language="span_extraction")


def test_named_columns(tmp_path: Path, bert: str) -> None:
    row = {"ask": "w1", "text": "w5 w6 w6", "say": "w6", "at": 6}
    columns = {"question": "ask", "context": "text", "answers": "say", "answer_start": "at"}
    assert first(tmp_path, bert, row, columns=columns).__getitems__([0]).labels.tolist() == [[5, 5]]


def squad(path: Path, data: Any) -> str:
    path.write_text(json.dumps(data))
    return f"squad:{path}"


def test_the_layout_of_squad(tmp_path: Path, bert: str) -> None:
    questions = [{"question": f"w{i}", "id": str(i), "answers": [{"text": "w21", "answer_start": 4}]} for i in range(2)]
    source = squad(tmp_path / "a.json", {"data": [{"paragraphs": [{"context": "w20 w21", "qas": questions} for _ in range(10)]}]})
    wanted = replace(request(source, bert), group="paragraph")
    splits = load_data(wanted, kind="text", labels="span", language="span_extraction")
    assert (len(splits.train), len(splits.test)) == (12, 4)
    assert splits.train.__getitems__([0]).labels.tolist() == [[4, 4]]  # type: ignore[union-attr]
    assert (splits.info.labels, splits.info.input_shape, splits.info.language) == ("span", (16,), "span_extraction")
    with pytest.raises(DataError, match=r"b\.json is not laid out as SQuAD .* KeyError\('data'\) is missing or of the wrong kind\."):
        load(squad(tmp_path / "b.json", {}), bert, "span_extraction")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(DataError, match=r"c\.json cannot be read as JSON"):
        load(f"squad:{tmp_path / 'c.json'}", bert, "span_extraction")


INFO = DataInfo("text", "span", 2, (5,), language="span_extraction")
ALLOWED = torch.tensor([[True, False, True, True, False]])


def a_batch() -> Batch:
    return Batch({"input_ids": torch.zeros(1, 4)}, torch.tensor([[2, 3]]), torch.arange(1), {"allowed": ALLOWED})


def test_signals_are_wide_and_masked() -> None:
    start, end = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[5.0, 6, 7, 8]])
    signals = TASK.signals({"start_logits": start, "end_logits": end}, {}, a_batch())
    assert signals.logits.tolist() == [[[1, -1e4, 3, 4, -1e4], [5, -1e4, 7, 8, -1e4]]]
    plain = TASK.signals(torch.stack([start, end], 2), {}, a_batch())
    assert torch.equal(plain.logits, signals.logits)
    TASK.check_head(signals.logits, INFO)
    with pytest.raises(ShapeMismatch, match=r"expected \(batch, 2, 5\)"):
        TASK.check_head(torch.zeros(1, 3, 5), INFO)
    with pytest.raises(SignalMissing, match="start_logits and end_logits"):
        TASK.signals({"logits": start}, {}, a_batch())
    with pytest.raises(SignalMissing, match="where an answer may lie"):
        TASK.signals(start, {}, replace(a_batch(), extra={}))
    assert TASK.signals(None, {}, a_batch()).logits is None


def logits(start: list[float], end: list[float]) -> torch.Tensor:
    return torch.tensor([[start, end]], dtype=torch.float32)


def test_answers_are_in_order_and_whole() -> None:
    assert TASK.predictions(logits([0, 0, 9, 0], [0, 8, 0, 5])).tolist() == [[2, 3]]
    assert TASK.predictions(logits([9, 0, 0, 5], [0, 0, 0, 8])).tolist() == [[3, 3]]  # from nowhere to somewhere is no answer
    assert TASK.predictions(logits([9, 0, 0, 5], [9, 0, 0, 8])).tolist() == [[0, 0]]
    far = torch.zeros(1, 2, 40)
    far[0, 0, 1] = far[0, 1, 31] = 9
    far[0, 1, 30] = 8
    assert TASK.predictions(far).tolist() == [[1, 30]]
    assert TASK.predictions(far[:0]).shape == (0, 2)


def test_metrics_by_hand() -> None:
    said = torch.cat([logits([0, 9, 0, 0], [0, 0, 9, 0]), logits([0, 9, 0, 0], [0, 9, 0, 0]), logits([9, 0, 0, 0], [9, 0, 0, 0])])
    found = TASK.report(said, torch.tensor([[1, 2], [1, 3], [1, 1]]))
    assert found["f1"] == pytest.approx((1 + 2 * 1 / 4 + 0) / 3)  # right, one token of three, none of one
    assert found["exact_match"] == pytest.approx(1 / 3)
    right = torch.log(1 + 3 * torch.exp(torch.tensor(-9.0))).item()
    assert found["nll"] == pytest.approx((3 * right + 3 * (9 + right)) / 6, rel=1e-5)
    assert set(found) == set(TASK.better)
    with pytest.raises(DataError, match="no example to evaluate"):
        TASK.report(said[:0], torch.zeros(0, 2, dtype=torch.int64))


def test_questions_are_answered_in_one_window() -> None:
    sure, unsure, none = logits([0, 9, 0, 0], [0, 9, 0, 0]), logits([0, 0, 5, 0], [0, 0, 5, 0]), logits([9, 0, 0, 0], [9, 0, 0, 0])
    said = torch.cat([unsure, sure, none, none, none, unsure])
    labels = torch.tensor([[0, 0], [1, 1], [0, 0], [0, 0], [2, 2], [0, 0]])
    found = TASK.report(said, labels, torch.tensor([7, 7, 3, 3, 5, 9]))
    assert found["exact_match"] == found["f1"] == 2 / 4  # right in the surer window; rightly none; wrongly none; wrongly some
    assert TASK.report(said, labels)["exact_match"] == 3 / 6
    close = torch.cat([sure, logits([8, 9, 0, 0], [8, 9, 0, 0])])
    assert TASK.report(close, torch.tensor([[1, 2], [1, 1]]), torch.tensor([0, 0]))["f1"] == pytest.approx(2 / 3)


def test_an_example_fits_the_head() -> None:
    for device in ("meta", "cpu"):
        batch = TASK.example(INFO, device=device)
        signals = TASK.signals(torch.zeros(2, 5, 2, device=device), {}, batch)
        TASK.check_head(signals.logits, INFO)
        assert batch.units == 2
    agreed = TASK.agreement(signals.logits, signals.logits, torch.zeros(2, 2))
    assert agreed is not None
    assert agreed["top1"] == 1
