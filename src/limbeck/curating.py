"""Which questions are worth training on, judged by what a model has written for them: verified, filtered, one right and one wrong reply
chosen. Pure functions of texts and a seed.

Reference: Mitra and Ulukus, "Semantic Soft Bootstrapping: Long Context Reasoning in LLMs without Reinforcement Learning", 2025,
arXiv:2512.05105.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from .data.hashing import mix
from .evaluate.answers import answer_in

Keep = Literal["mixed", "right", "all"]
_RIGHT, _WRONG = 71, 72  # purposes that tell these random numbers from others
T = TypeVar("T")

NO_ANSWER = "without an answer in the data"
NO_WRONG = "with right replies only"
NO_RIGHT = "without a right reply"
NO_REPLY = "without a whole reply"
NOT_AGAIN = "not right when written again"


@dataclass(frozen=True)
class Reply:
    """What a model wrote after a question."""

    text: str
    ended: bool
    """Whether it came to its end; a student of one that was cut off would learn to stop there."""


@dataclass(frozen=True)
class Choice:
    """A question that is kept."""

    right: str
    """A reply to learn from: one that is right, where replies are verified."""
    wrong: str
    """A wrong one; empty where there is none, or replies are not verified."""


def is_right(reply: Reply, reference: str, pattern: str) -> bool:
    """Whether a reply came to its end, and its answer is that of the reference."""
    wanted = answer_in(reference, pattern)
    return reply.ended and wanted is not None and answer_in(reply.text, pattern) == wanted


def choose(replies: Sequence[Reply], reference: str, pattern: str | None, keep: Keep, *, seed: int, row: int) -> Choice | str:
    """A right and a wrong reply to a question, or why it is left out.

    The right one is any of those that are right. The wrong one has the answer that most of the wrong replies have; where no answer was
    given twice, it is any of them. Replies without a text, and right ones that were cut off, count for nothing.

    Args:
        replies: what was written after the question.
        reference: the data's own reply.
        pattern: finds the answer in a reply; None only where all are kept.
        keep: which questions are kept.
        seed: of the choice, with `row`.
        row: which question it is.
    """
    written = [reply for reply in replies if reply.text.strip()]
    if keep == "all" or pattern is None:
        whole = [reply for reply in written if reply.ended]
        return Choice(_any(whole, seed, row, _RIGHT).text, "") if whole else NO_REPLY
    if answer_in(reference, pattern) is None:
        return NO_ANSWER
    right = [reply for reply in written if is_right(reply, reference, pattern)]
    wrong = [reply for reply in written if answer_in(reply.text, pattern) != answer_in(reference, pattern)]
    if not right:
        return NO_RIGHT
    if not wrong:
        return NO_WRONG if keep == "mixed" else Choice(_any(right, seed, row, _RIGHT).text, "")
    return Choice(_any(right, seed, row, _RIGHT).text, _any(_common(wrong, pattern), seed, row, _WRONG).text)


def _common(wrong: Sequence[Reply], pattern: str) -> Sequence[Reply]:
    """The replies whose answer was given most often, more than once; all where none was. A reply without an answer is no majority."""
    answers = [answer_in(reply.text, pattern) for reply in wrong]
    counts = Counter(answer for answer in answers if answer is not None)
    most = max(counts.values(), default=1)
    if most == 1:
        return wrong
    return [reply for reply, answer in zip(wrong, answers, strict=True) if answer is not None and counts[answer] == most]


def _any(items: Sequence[T], seed: int, row: int, purpose: int) -> T:
    return items[int(mix(seed, purpose, row)[0] % len(items))]
