r"""From hidden states to logits, :math:`z = c \tanh\left(\frac{s (W h + b)}{c}\right)`, for what is small enough to be held."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import SignalMissing
from ..tokens import Fused, Hidden, Logits, Projection, Said, TopK
from .fusion import found_weights, moved
from .precision import widen
from .products import product
from .topk import log1mexp


def project(hidden: Tensor, head: Projection) -> Tensor:
    """Logits `(rows, vocabulary)` of hidden states `(rows, width)`, in float32 or more."""
    h, weight = widen(hidden), widen(head.weight)
    learns = torch.is_grad_enabled() and (h.requires_grad or weight.requires_grad)
    logits = h @ weight.T if learns else product(h, weight)
    if head.bias is not None:
        logits = logits + head.bias
    if head.scale != 1:
        logits = logits * head.scale
    return logits if head.cap is None else head.cap * torch.tanh(logits / head.cap)


def narrowed(head: Projection, vocabulary: int) -> Projection:
    """The head without the rows after the first `vocabulary`, which only pad it."""
    if len(head.weight) <= vocabulary:
        return head
    return Projection(head.weight[:vocabulary], None if head.bias is None else head.bias[:vocabulary], head.scale, head.cap)


def vocabulary_of(said: Said) -> int:
    """How many tokens a model knows; of several together all; of stored ones, how many must be known for them to make sense."""
    if isinstance(said, Fused):
        return min(vocabulary_of(one) for one in (said.large, *(model for move in said.moves for model in move)))
    if isinstance(said, Hidden):
        return len(said.head.weight)
    return said.logits.shape[1] if isinstance(said, Logits) else int(said.ids.max()) + 1


def logits_of(said: Said, vocabulary: int | None = None) -> Tensor:
    """Logits of rows, `(rows, vocabulary)`; of what is stored, log-probabilities.

    The tokens that a `TopK` does not name share what is left of the probability evenly; of samples they are ruled out.

    Raises:
        SignalMissing: where tokens are stored and the size of the vocabulary is not given.
    """
    if isinstance(said, Fused):
        known = vocabulary_of(said) if vocabulary is None else vocabulary
        moves = [(logits_of(after, known), logits_of(before, known)) for after, before in said.moves]
        large = logits_of(said.large, known)
        weights = found_weights(large, moves) if said.weight is None else large.new_full((len(moves), len(large)), said.weight)
        return moved(large, moves, weights)
    if isinstance(said, Hidden):
        return project(said.hidden, said.head if vocabulary is None else narrowed(said.head, vocabulary))
    if isinstance(said, Logits):
        return said.logits[:, :vocabulary]
    if vocabulary is None:
        raise SignalMissing("stored tokens do not tell how large the vocabulary is.")
    if isinstance(said, TopK):
        known = widen(said.log_probs)
        others = max(vocabulary - said.ids.shape[1], 1)  # mutate: equivalent constant (where there are none, nothing is left for them)
        rest = log1mexp(known.logsumexp(1)) - math.log(others)
        ids = said.ids.long()  # mutate: equivalent unwrapped (older torch takes no other integers)
        return rest[:, None].expand(-1, vocabulary).scatter(1, ids, known)
    weights = widen(said.weights)
    ids = said.ids.long()  # mutate: equivalent unwrapped (older torch takes no other integers)
    return weights.new_zeros(len(weights), vocabulary).scatter_add(1, ids, weights).log()
