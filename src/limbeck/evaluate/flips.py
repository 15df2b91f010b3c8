"""Whose answers changed and how: what a student gained from a teacher and what it forgot; all from predicted classes.

From a to b an answer flips positively where a is wrong and b is right, negatively where a is right and b is wrong.

Reference: Roth et al., "Fantastic Gains and Where to Find Them", ICLR 2024, arXiv:2310.17653, sections 3 and 5.
"""

from __future__ import annotations

from torch import Tensor


def flips(before: Tensor, after: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which examples flip positively and which negatively from `before` to `after`, classes `(examples,)`, as bool."""
    was, now = before == labels, after == labels
    return ~was & now, was & ~now


def flip_report(initial: Tensor, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float]:
    """What became of a student that already knew something; shares of all examples.

    Args:
        initial: classes that the student gave before it was taught, `(examples,)`.
        student: those that it gives now.
        teacher: the teacher's.
        labels: the true ones.

    Returns:
        `accuracy_change`; `knowledge_gain` and `knowledge_loss`, positive and negative flips from the initial student to the student;
        `positive_flips` and `negative_flips` from the student to the teacher, what is still to learn and what it knows better, and the
        change of both since the beginning, `positive_flips_change` and `negative_flips_change`.
    """
    gain, loss = _shares(initial, student, labels)
    positive, negative = _shares(student, teacher, labels)
    first_positive, first_negative = _shares(initial, teacher, labels)
    return {
        "accuracy_change": gain - loss,
        "knowledge_gain": gain,
        "knowledge_loss": loss,
        "positive_flips": positive,
        "negative_flips": negative,
        "positive_flips_change": positive - first_positive,
        "negative_flips_change": negative - first_negative,
    }


def _shares(before: Tensor, after: Tensor, labels: Tensor) -> tuple[float, float]:
    positive, negative = flips(before, after, labels)
    return positive.double().mean().item(), negative.double().mean().item()
