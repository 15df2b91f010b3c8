"""What a model says of tokens whose vocabulary is too large for logits: hidden states with their head, likeliest tokens, samples.

Every row is one token that is trained. Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """How hidden states become logits: `cap * tanh(scale * (hidden W^T + bias) / cap)`."""

    weight: Tensor
    """`(vocabulary, width)`."""
    bias: Tensor | None = None
    """`(vocabulary,)`; minus infinity takes a token out of the vocabulary."""
    scale: float = 1.0
    """Factor of the logits."""
    cap: float | None = None
    """Soft cap of the logits, positive, as in Gemma; none where absent."""


@dataclass(frozen=True)
class Hidden:
    """The last hidden states and the head; the logits are never all held."""

    hidden: Tensor
    """`(tokens, width)`, as the head reads them."""
    head: Projection


@dataclass(frozen=True)
class Logits:
    """Logits that are held already."""

    logits: Tensor
    """`(tokens, vocabulary)`."""


@dataclass(frozen=True)
class TopK:
    """The likeliest tokens; all others count as one, with the rest of the probability."""

    ids: Tensor
    """`(tokens, k)`, all different within a row."""
    log_probs: Tensor
    """`(tokens, k)` at the temperature of the loss; their exponentials sum to less than 1."""
    temperature: float = 1.0
    """At which the probabilities were taken."""


@dataclass(frozen=True)
class Sampled:
    """Tokens that were drawn: an unbiased estimate of its distribution.

    Reference: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025, arXiv:2503.16870.
    """

    ids: Tensor
    """`(tokens, k)`; a token may stand in a row more than once."""
    weights: Tensor
    """`(tokens, k)`: the estimated probability of each; the rows sum to 1."""
    temperature: float = 1.0
    """At which they were drawn."""


Tokens = Hidden | Logits | TopK | Sampled
"""What is known of a model's prediction at every token."""


@dataclass(frozen=True)
class Fused:
    """What several models say together: a large one, moved as training has moved smaller ones. All rows are of the same tokens."""

    large: Hidden | Logits
    moves: tuple[tuple[Hidden | Logits, Hidden | Logits], ...]
    """Of each smaller model what it says after and before it was trained."""
    weight: float | None = None
    """Factor of the moves; where absent, it is found for each token (`ops.fusion.found_weights`)."""


Said = Tokens | Fused
"""What one model predicts, or several together."""
S = TypeVar("S", bound=Said)


def part_of(of: S, rows: Tensor | slice) -> S:
    """The same for some of the tokens."""
    return cast("S", _part_of(of, rows))


def _part_of(of: Said, rows: Tensor | slice) -> Said:
    if isinstance(of, Fused):
        moves = tuple((part_of(after, rows), part_of(before, rows)) for after, before in of.moves)
        return Fused(part_of(of.large, rows), moves, of.weight)
    if isinstance(of, Hidden):
        return Hidden(of.hidden[rows], of.head)
    if isinstance(of, Logits):
        return Logits(of.logits[rows])
    if isinstance(of, TopK):
        return TopK(of.ids[rows], of.log_probs[rows], of.temperature)
    return Sampled(of.ids[rows], of.weights[rows], of.temperature)


def rows_of(of: Said) -> tuple[Tensor, ...]:
    """The tensors that have a row for every token."""
    if isinstance(of, Fused):
        return (*rows_of(of.large), *(x for move in of.moves for said in move for x in rows_of(said)))
    if isinstance(of, Hidden):
        return (of.hidden,)
    if isinstance(of, Logits):
        return (of.logits,)
    return (of.ids, of.log_probs if isinstance(of, TopK) else of.weights)
