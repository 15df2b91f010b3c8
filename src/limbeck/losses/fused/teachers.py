"""Whether what a teacher gives fits the student: hidden states with their head, whole logits, its likeliest tokens, or samples."""

from __future__ import annotations

from torch import Tensor

from ...errors import ShapeMismatch
from ...tokens import Hidden, Logits, Projection, Tokens, rows_of


def check_shapes(student: Tensor, head: Projection, teacher: Tokens | None) -> None:
    """Whether all fit together.

    Raises:
        ShapeMismatch: where they do not, with both shapes.
    """
    vocabulary, width = head.weight.shape
    if student.ndim != 2 or student.shape[1] != width:
        raise ShapeMismatch(
            f"the student's hidden states {list(student.shape)} do not fit its head {[vocabulary, width]}; give (tokens, width)."
        )
    for rows in () if teacher is None else rows_of(teacher):
        if rows.ndim != 2 or len(rows) != len(student):
            raise ShapeMismatch(f"the teacher's {list(rows.shape)} do not fit the student's {len(student)} tokens; give (tokens, ...).")
    theirs = (
        teacher.head.weight.shape[0] if isinstance(teacher, Hidden) else teacher.logits.shape[1] if isinstance(teacher, Logits) else None
    )
    if theirs is not None and theirs != vocabulary:
        raise ShapeMismatch(
            f"the teacher has {theirs} tokens in its vocabulary and the student {vocabulary}. Cut the rows that only pad the larger head "
            "(weight[:n]); other vocabularies need a loss across tokenizers."
        )
    if isinstance(teacher, Hidden) and teacher.hidden.shape[1] != teacher.head.weight.shape[1]:
        raise ShapeMismatch(
            f"the teacher's hidden states {list(teacher.hidden.shape)} do not fit its head {list(teacher.head.weight.shape)}."
        )
