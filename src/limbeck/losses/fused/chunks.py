"""One chunk of tokens: from hidden states to the value of each token and the gradient of its logits, in place.

The products are done for the whole chunk, for which it must be large; everything else a few rows at a time, so that it stays in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops.classes import known_labels
from ...ops.divergence_gradients import divergence_and_gradient, softmax_and_normaliser
from ...ops.products import blocks, product
from ...ops.topk import log1mexp
from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK, part_of
from .measure import Measure

LEAST = -1e30
"""What stands for a logit of minus infinity: its probability is 0, and its difference from another such is 0 and not undefined."""
CACHED = 2**18  # mutate: equivalent constant, operator (it changes no value)
"""Logits that are worked on at once."""


class Room:
    """Memory of one chunk's numbers, taken again by the next: fresh memory of this size costs as much as what is written into it."""

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, rows: int, columns: int, like: Tensor) -> Tensor:
        """A matrix with the device and the precision of `like`, which holds anything; no chunk has more rows than the first."""
        if name not in self._memory:
            self._memory[name] = like.new_empty(rows, columns)
        return self._memory[name][:rows]


def logits_of(hidden: Tensor, head: Projection, dtype: torch.dtype, room: Room, name: str) -> Tensor:
    """Logits of some tokens in this precision, which is that of the products: half precision is widened before, not rounded after."""
    out = _product(hidden, head.weight, dtype, room, name)
    if head.bias is not None:
        out.add_(head.bias)
    if head.scale != 1:
        out.mul_(head.scale)
    if head.bias is not None:
        out.clamp_(min=LEAST)
    if head.cap is not None:
        out.div_(head.cap).tanh_().mul_(head.cap)
    return out


def _product(hidden: Tensor, weight: Tensor, dtype: torch.dtype, room: Room, name: str) -> Tensor:
    if hidden.device.type == "cuda" and hidden.dtype == weight.dtype != dtype:  # mutate: equivalent (the tests run on the CPU)
        return torch.mm(hidden, weight.T, out_dtype=dtype)  # mutate: equivalent (the tests run on the CPU)
    wide = hidden.to(dtype)
    if hidden.device.type != "cpu":  # mutate: equivalent (the tests run on the CPU)
        return product(wide, weight.to(dtype))  # mutate: equivalent (the tests run on the CPU)
    out = room.take(name, len(wide), len(weight), wide)
    for block in blocks(weight):
        out[:, block] = product(wide, weight[block].to(dtype))
    return out


def chunk_values(
    hidden: Tensor, head: Projection, teacher: Tokens | None, labels: Tensor | None, measure: Measure, room: Room
) -> tuple[Tensor, Tensor]:
    """Values of the tokens of a chunk, and the gradient of the weighted sum of both with respect to the logits before cap and scale.

    Args:
        hidden: the student's, `(rows, width)`.
        head: the student's.
        teacher: of the same tokens; without one there is no divergence. `Logits` are overwritten.
        labels: `(rows,)`; without them there is no cross-entropy.
        measure: what is computed.
        room: where the logits lie.

    Returns:
        Divergences and cross-entropies, `(2, rows)`, not weighted, and `(rows, vocabulary)`, which the next chunk overwrites. The gradient
        is still to be multiplied by `head.scale`.
    """
    logits = logits_of(hidden, head, wide(hidden), room, "student")
    theirs = logits  # not read where the teacher has none
    if isinstance(teacher, Hidden):
        theirs = logits_of(teacher.hidden, teacher.head, logits.dtype, room, "teacher")
    elif isinstance(teacher, Logits):
        theirs = teacher.logits.to(logits.dtype).clamp_(min=LEAST)
    rows, vocabulary = logits.shape
    # On other devices there is no cache to stay in, and every operation has a price.
    step = min(rows, max(CACHED // vocabulary, 1)) if logits.device.type == "cpu" else rows
    count = 2 + (labels is not None) + (head.cap is not None)  # mutate: equivalent constant (one more is not used)
    rooms = [room.take(f"{i}", step, vocabulary, logits) for i in range(count)]
    values = logits.new_zeros(2, rows)
    for start in range(0, rows, step):
        some = slice(start, min(start + step, rows))
        few = [room[: some.stop - start] for room in rooms]
        own = None if labels is None else labels[some]
        known = None if teacher is None else part_of(teacher, some)
        _rows_in_place(values[:, some], logits[some], theirs[some], known, own, measure, head.cap, few)
    return values, logits


def wide(x: Tensor) -> torch.dtype:
    """The precision of all that is computed from `x`."""
    return torch.promote_types(x.dtype, torch.float32)  # mutate: equivalent swapped (symmetric)


def _rows_in_place(
    values: Tensor,
    logits: Tensor,
    theirs: Tensor,
    teacher: Tokens | None,
    labels: Tensor | None,
    measure: Measure,
    cap: float | None,
    rooms: list[Tensor],
) -> None:
    """Values of some rows; their gradient takes the place of their logits."""
    first, second, *more = rooms
    slope = torch.div(logits, cap, out=more.pop()).square_().neg_().add_(1) if cap is not None else None
    answers = logits
    if labels is not None:
        known, index = known_labels(labels)
        answers = logits if teacher is None else more.pop()
        right = Sampled(index.unsqueeze(1), known.unsqueeze(1))
        values[1] = _sampled(logits, right, answers)
        answers.mul_(measure.label_weight)
    if teacher is not None:
        if measure.temperature != 1:
            logits.div_(measure.temperature)
        values[0] = _compare(logits, theirs, teacher, measure, (first, second)).mul_(measure.factor)
        logits.mul_(measure.slope)
        if labels is not None:
            logits.add_(answers)
    if slope is not None:
        logits.mul_(slope)


def _compare(logits: Tensor, theirs: Tensor, teacher: Tokens, measure: Measure, rooms: tuple[Tensor, Tensor]) -> Tensor:
    """Divergence of every token; its gradient with respect to the tempered logits takes their place."""
    if isinstance(teacher, Sampled):
        return _sampled(logits, teacher, logits)
    if isinstance(teacher, TopK):
        return _top_k(logits, teacher, measure)
    if measure.temperature != 1:
        theirs.div_(measure.temperature)
    return _divergence(logits, theirs, measure, rooms)


def _divergence(logits: Tensor, theirs: Tensor, measure: Measure, rooms: tuple[Tensor, Tensor]) -> Tensor:
    return divergence_and_gradient(logits, theirs, rooms, divergence=measure.divergence, mixture=measure.mixture, skew=measure.skew)[0]


def _sampled(logits: Tensor, teacher: Sampled, out: Tensor) -> Tensor:
    """Cross-entropy with the estimated distribution, its gradient in `out`; the entropy that makes it a divergence is not known."""
    weights, theirs = teacher.weights.to(logits.dtype), logits.gather(1, teacher.ids)
    value = (weights * (softmax_and_normaliser(logits, out) - theirs)).sum(1)
    out.mul_(weights.sum(1, keepdim=True)).scatter_add_(1, teacher.ids, -weights)
    return value


def _top_k(logits: Tensor, teacher: TopK, measure: Measure) -> Tensor:
    """Divergence of the likeliest tokens and of one that stands for all others; never more than that of all tokens."""
    kept = logits.gather(1, teacher.ids)
    logits.scatter_(1, teacher.ids, LEAST)
    rest = softmax_and_normaliser(logits, logits)
    theirs = teacher.log_probs.to(logits.dtype)
    log_tail = log_one_minus_exp(theirs.logsumexp(1, keepdim=True))
    ours, both = torch.cat([kept, rest.to(kept.dtype)], 1), torch.cat([theirs, log_tail], 1)
    value = _divergence(ours, both, measure, (torch.empty_like(ours), torch.empty_like(ours)))
    # Within the rest the gradient is spread as the student's own probability is.
    logits.mul_(ours[:, -1:]).scatter_(1, teacher.ids, ours[:, :-1])
    return value


def log_one_minus_exp(x: Tensor) -> Tensor:
    """Log of 1 - exp(x) for x <= 0, without cancellation on either side; at 0 it is `LEAST`."""
    return log1mexp(x).clamp_min(LEAST)
