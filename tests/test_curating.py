"""Which replies are right, which question is kept, and which right and wrong reply stand for it."""

from __future__ import annotations

from collections import Counter

from limbeck.curating import NO_ANSWER, NO_REPLY, NO_RIGHT, NO_WRONG, Choice, Reply, choose, is_right

PATTERN = "([0-9]+)"


def replies(*texts: str, ended: bool = True) -> list[Reply]:
    return [Reply(text, ended) for text in texts]


def chosen(*texts: str, keep: str = "mixed", seed: int = 0, row: int = 0, reference: str = "42") -> Choice | str:
    return choose(replies(*texts), reference, PATTERN, keep, seed=seed, row=row)  # pyright: ignore[reportArgumentType]


def draws(*texts: str) -> tuple[Counter[str], Counter[str]]:
    """How often each reply is chosen as the right one and as the wrong one over many questions."""
    found = [chosen(*texts, row=row) for row in range(400)]
    assert all(isinstance(own, Choice) for own in found)
    return Counter(own.right for own in found if isinstance(own, Choice)), Counter(own.wrong for own in found if isinstance(own, Choice))


def test_a_reply_is_right_by_its_last_answer_and_its_end():
    assert is_right(Reply("41, no: 42", True), "so 42", PATTERN)
    assert not is_right(Reply("42 and 41", True), "42", PATTERN)
    assert is_right(Reply("1,042", True), "1042", "([0-9,]+)")
    assert not is_right(Reply("42", False), "42", PATTERN)
    assert not is_right(Reply("nothing", True), "42", PATTERN)
    assert not is_right(Reply("nothing", True), "nothing", PATTERN)


def test_what_is_kept():
    assert chosen("42", "42") == NO_WRONG
    assert chosen("41", "40") == NO_RIGHT
    assert chosen("42", "41") == Choice("42", "41")
    assert chosen("42", "41", reference="none") == NO_ANSWER
    assert chosen("42", "42", keep="right") == Choice("42", "")
    assert chosen("42", "41", keep="right") == Choice("42", "41")
    assert chosen("41", "40", keep="right") == NO_RIGHT
    assert chosen("41", keep="all") == Choice("41", "")
    assert chosen("41", keep="all", reference="none") == Choice("41", "")
    assert chosen("", " \n", keep="all") == NO_REPLY
    assert choose(replies("41", ended=False), "42", None, "all", seed=0, row=0) == NO_REPLY
    assert choose(replies("x"), "42", None, "all", seed=0, row=0) == Choice("x", "")


def test_replies_without_a_text_are_neither_right_nor_wrong():
    assert chosen("42", "", "  ") == NO_WRONG
    assert chosen("", " ") == NO_RIGHT


def test_a_right_reply_that_was_cut_off_is_neither_and_a_wrong_one_is_wrong():
    assert choose([Reply("42", True), Reply("42 is", False)], "42", PATTERN, "mixed", seed=0, row=0) == NO_WRONG
    assert choose([Reply("42", True), Reply("41 is", False)], "42", PATTERN, "mixed", seed=0, row=0) == Choice("42", "41 is")


def test_the_wrong_answer_that_was_given_most_often():
    right, wrong = draws("42", "40", "so 41", "41", "7")
    assert right == {"42": 400}
    assert wrong.keys() == {"so 41", "41"}
    assert min(wrong.values()) > 150


def test_where_no_wrong_answer_was_given_twice_any_is_drawn():
    right, wrong = draws("a 42", "b 42", "40", "41", "none")
    assert right.keys() == {"a 42", "b 42"}
    assert wrong.keys() == {"40", "41", "none"}
    assert min(right.values()) > 150
    assert min(wrong.values()) > 90


def test_answers_that_were_given_equally_often_are_all_drawn_and_replies_without_one_are_no_majority():
    _, wrong = draws("42", "40", "40", "41", "41", "none", "none", "none")
    assert wrong.keys() == {"40", "41"}
    assert min(wrong.values()) > 150


def test_the_choice_follows_from_seed_and_row():
    texts = ("a 42", "b 42", "c 42", "1", "2", "3")
    first = [chosen(*texts, row=row) for row in range(90)]
    assert first == [chosen(*texts, row=row) for row in range(90)]
    assert first != [chosen(*texts, row=row, seed=1) for row in range(90)]
    assert len({own.right[0] + own.wrong for own in first if isinstance(own, Choice)}) == 9  # right and wrong are drawn apart
