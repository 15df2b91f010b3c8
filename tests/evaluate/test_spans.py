"""Entities in tags, as CoNLL counts them."""

from __future__ import annotations

import pytest

from limbeck.entities import marks_spans, spans
from limbeck.evaluate.spans import span_scores


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-a I-a O", {("a", 1, 2)}),
        ("B-a B-a I-a", {("a", 0, 0), ("a", 1, 2)}),
        ("B-a I-b I-b", {("a", 0, 0), ("b", 1, 2)}),
        ("I-a I-a O I-b", {("a", 0, 1), ("b", 3, 3)}),
        ("S-a S-a B-b I-b E-b I-b", {("a", 0, 0), ("a", 1, 1), ("b", 2, 4), ("b", 5, 5)}),
        ("U-a B-b L-b E-b", {("a", 0, 0), ("b", 1, 2), ("b", 3, 3)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_entities(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == expected


def test_scores_by_hand() -> None:
    truth = [["B-a", "I-a", "O"], ["B-b", "O"], ["I-a"]]
    guess = [["B-a", "O", "O"], ["B-b", "B-a"], ["I-a"]]
    assert span_scores(guess, truth) == {"precision": 0.5, "recall": 2 / 3, "f1": 4 / 7}
    assert span_scores([["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_which_tags_mark_entities() -> None:
    assert marks_spans(["O", "B-a", "I-a"])
    assert not marks_spans(["O"])
    assert not marks_spans(["NOUN", "O"])
    assert not marks_spans(["B-a", "X"])
