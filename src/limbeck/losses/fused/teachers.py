"""What a teacher can give to the fused loss: hidden states with their head, whole logits, its likeliest tokens, or samples."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...errors import ShapeMismatch
from ...types import Positive


@dataclass(frozen=True)
class Projection:
    """How hidden states become logits: `cap * tanh(scale * (hidden W^T + bias) / cap)`."""

    weight: Tensor
    """`(vocabulary, width)`."""
    bias: Tensor | None = None
    """`(vocabulary,)`; minus infinity takes a token out of the vocabulary."""
    scale: float = 1.0
    """Factor of the logits."""
    cap: Positive | None = None
    """Soft cap of the logits, as in Gemma; none where absent."""


@dataclass(frozen=True)
class Hidden:
    """A teacher of which the last hidden states and the head are at hand; its logits are never all held."""

    hidden: Tensor
    """`(tokens, width)`, as the head reads them."""
    head: Projection


@dataclass(frozen=True)
class Logits:
    """A teacher of which the logits are held already."""

    logits: Tensor
    """`(tokens, vocabulary)`."""


@dataclass(frozen=True)
class TopK:
    """A teacher of which the likeliest tokens are known; all others count as one, with the rest of the probability."""

    ids: Tensor
    """`(tokens, k)`, all different within a row."""
    log_probs: Tensor
    """`(tokens, k)` at the temperature of the loss; their exponentials sum to less than 1."""


@dataclass(frozen=True)
class Sampled:
    """A teacher of which tokens were drawn: an unbiased estimate of its distribution.

    Reference: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025, arXiv:2503.16870.
    """

    ids: Tensor
    """`(tokens, k)`; a token may stand in a row more than once."""
    weights: Tensor
    """`(tokens, k)`: the estimated probability of each; the rows sum to 1."""


Teacher = Hidden | Logits | TopK | Sampled
"""What `fused_divergence` takes as its teacher."""


def part_of(teacher: Teacher, tokens: Tensor | slice) -> Teacher:
    """The same for some of the tokens."""
    if isinstance(teacher, Hidden):
        return Hidden(teacher.hidden[tokens], teacher.head)
    if isinstance(teacher, Logits):
        return Logits(teacher.logits[tokens])
    if isinstance(teacher, TopK):
        return TopK(teacher.ids[tokens], teacher.log_probs[tokens])
    return Sampled(teacher.ids[tokens], teacher.weights[tokens])


def rows_of(teacher: Teacher) -> tuple[Tensor, ...]:
    """The tensors of a teacher that have a row for every token."""
    if isinstance(teacher, Hidden):
        return (teacher.hidden,)
    if isinstance(teacher, Logits):
        return (teacher.logits,)
    return (teacher.ids, teacher.log_probs if isinstance(teacher, TopK) else teacher.weights)


def check_shapes(student: Tensor, head: Projection, teacher: Teacher) -> None:
    """Whether all fit together.

    Raises:
        ShapeMismatch: where they do not, with both shapes.
    """
    vocabulary, width = head.weight.shape
    if student.ndim != 2 or student.shape[1] != width:
        raise ShapeMismatch(
            f"the student's hidden states {list(student.shape)} do not fit its head {[vocabulary, width]}; give (tokens, width)."
        )
    for rows in rows_of(teacher):
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
