"""Answers in texts."""

from __future__ import annotations

from limbeck.evaluate.answers import answer_in, exact_match

GSM = r"#### (-?[0-9.,]+)"


def test_the_last_place_and_its_first_group() -> None:
    assert answer_in("so #### 5 no, #### 42", GSM) == "42"
    assert answer_in("it is 7, or 8", "[0-9]") == "8"
    assert answer_in("none", GSM) is None


def test_commas_in_numbers_and_white_space_do_not_count() -> None:
    assert answer_in("#### 1,234,567", GSM) == "1234567"
    assert answer_in("A:  yes, no ", "A:(.*)") == "yes, no"
    assert answer_in("x", "(y)?x") == ""


def test_the_share_of_equal_answers() -> None:
    wanted = ["#### 1", "#### 2", "nothing", "#### 1,000"]
    assert exact_match(["#### 1", "2", "#### 9", "#### 1000"], wanted, GSM) == 2 / 3
    assert exact_match(["#### 1"], ["nothing"], GSM) is None
