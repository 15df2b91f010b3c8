"""One chunk of tokens: from hidden states to the value of each token and the gradient of its logits, in place.

The products are done for the whole chunk, for which it must be large; everything else a few rows at a time, so that it stays in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...ops.classes import known_labels
from ...ops.divergence_gradients import divergence_and_gradient
from ...ops.topk import log1mexp
from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK, part_of
from .measure import Measure

LEAST = -1e30
"""What stands for a logit of minus infinity: its probability is 0, and its difference from another such is 0 and not undefined."""
BLOCK = 8192  # mutate: equivalent constant (it changes no value)
"""Rows of a head in half precision that are widened at once."""
CACHED = 2**18  # mutate: equivalent constant, operator (it changes no value)
"""Logits that are worked on at once."""


class Buffers:
    """Memory that every chunk uses again: logits of both models, and room for some rows of them.

    Args:
        rows: tokens of a chunk.
        vocabulary: classes.
        like: tells the device.
        dtype: of all that is computed.
        teacher: whether the teacher's logits need a buffer.
        rooms: how many times the room of some rows is needed.
    """

    def __init__(self, rows: int, vocabulary: int, like: Tensor, dtype: torch.dtype, *, teacher: bool, rooms: int) -> None:
        def make(count: int) -> Tensor:
            return torch.empty(count, vocabulary, dtype=dtype, device=like.device)

        # On other devices there is no cache to stay in, and every operation has a price.
        self.step = min(rows, max(CACHED // vocabulary, 1)) if like.device.type == "cpu" else rows
        self.student = make(rows)
        self.teacher = make(rows) if teacher else self.student
        self.rooms = [make(self.step) for _ in range(rooms)]


def logits_of(hidden: Tensor, head: Projection, out: Tensor) -> Tensor:
    """Logits of some tokens in `out`, whose precision is that of the products: half precision is widened before, not rounded after."""
    _product(hidden, head.weight, out)
    if head.bias is not None:
        out.add_(head.bias)
    if head.scale != 1:
        out.mul_(head.scale)
    if head.bias is not None:
        out.clamp_(min=LEAST)
    if head.cap is not None:
        out.div_(head.cap).tanh_().mul_(head.cap)
    return out


def _product(hidden: Tensor, weight: Tensor, out: Tensor) -> None:
    if hidden.dtype == out.dtype == weight.dtype:
        torch.mm(hidden, weight.T, out=out)
    elif hidden.device.type == "cuda" and hidden.dtype == weight.dtype:  # mutate: equivalent comparison, choice (the tests run on the CPU)
        torch.mm(hidden, weight.T, out_dtype=out.dtype, out=out)  # mutate: equivalent (the tests run on the CPU)
    else:
        wide = hidden.to(out.dtype)
        for start in range(0, len(weight), BLOCK):
            block = slice(start, start + BLOCK)
            out[:, block] = wide @ weight[block].to(out.dtype).T


def chunk_values(
    hidden: Tensor, head: Projection, teacher: Tokens | None, labels: Tensor | None, measure: Measure, buffers: Buffers
) -> tuple[Tensor, Tensor]:
    """Values of the tokens of a chunk, and the gradient of the weighted sum of both with respect to the logits before cap and scale.

    Args:
        hidden: the student's, `(rows, width)`.
        head: the student's.
        teacher: of the same tokens; without one there is no divergence.
        labels: `(rows,)`; without them there is no cross-entropy.
        measure: what is computed.
        buffers: memory; what it held is lost.

    Returns:
        Divergences and cross-entropies, `(2, rows)`, not weighted, and `(rows, vocabulary)` in a buffer. The gradient is still to be
        multiplied by `head.scale`.
    """
    rows = len(hidden)
    logits = logits_of(hidden, head, buffers.student[:rows])
    theirs = buffers.teacher[:rows]
    if isinstance(teacher, Hidden):
        logits_of(teacher.hidden, teacher.head, theirs)
    elif isinstance(teacher, Logits):
        theirs.copy_(teacher.logits).clamp_(min=LEAST)
    values = logits.new_zeros(2, rows)
    for start in range(0, rows, buffers.step):
        some = slice(start, min(start + buffers.step, rows))
        few = [room[: some.stop - start] for room in buffers.rooms]
        own = None if labels is None else labels[some]
        known = None if teacher is None else part_of(teacher, some)
        _rows_in_place(values[:, some], logits[some], theirs[some], known, own, measure, head.cap, few)
    return values, logits


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
    room, *more = rooms
    slope = torch.div(logits, cap, out=more.pop()).square_().neg_().add_(1) if cap is not None else None
    gradient = logits
    answers = None
    if labels is not None:
        values[1], answers = _cross_entropy(logits, labels, logits if teacher is None else more.pop())
        answers.mul_(measure.label_weight)
    if teacher is not None:
        if measure.temperature != 1:
            logits.div_(measure.temperature)
        divergence, gradient = _compare(log_normalised(logits, room), theirs, teacher, measure, room)
        torch.mul(divergence, measure.factor, out=values[0])
        gradient.mul_(measure.slope)
        if answers is not None:
            gradient.add_(answers)
    if slope is not None:
        gradient.mul_(slope)


def log_normalised(logits: Tensor, room: Tensor) -> Tensor:
    """Log-probabilities, in place."""
    logits.sub_(logits.amax(1, keepdim=True))
    return logits.sub_(torch.exp(logits, out=room).sum(1, keepdim=True).log_())


def _cross_entropy(logits: Tensor, labels: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Of every token with its label at temperature 1, and its gradient with respect to the logits, in `out`; 0 without a label."""
    known, index = known_labels(labels)
    at = index.unsqueeze(1)
    torch.log_softmax(logits, 1, out=out)
    value = -out.gather(1, at).squeeze(1) * known
    return value, out.exp_().scatter_add_(1, at, out.new_full(at.shape, -1.0)).mul_(known.unsqueeze(1))


def _compare(log_q: Tensor, theirs: Tensor, teacher: Tokens, measure: Measure, room: Tensor) -> tuple[Tensor, Tensor]:
    """Divergence of every token and its gradient with respect to the tempered logits, in place of `log_q`."""
    if isinstance(teacher, Sampled):
        return _sampled(log_q, teacher)
    if isinstance(teacher, TopK):
        return _top_k(log_q, teacher, measure, room)
    if measure.temperature != 1:
        theirs.div_(measure.temperature)
    log_p = log_normalised(theirs, room)
    return divergence_and_gradient(log_q, log_p, room, divergence=measure.divergence, mixture=measure.mixture, skew=measure.skew)


def _sampled(log_q: Tensor, teacher: Sampled) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the estimated distribution; the entropy that would make it a divergence is not known."""
    weights = teacher.weights.to(log_q.dtype)
    value = -(weights * log_q.gather(1, teacher.ids)).sum(1)
    gradient = log_q.exp_().mul_(weights.sum(1, keepdim=True))
    return value, gradient.scatter_add_(1, teacher.ids, -weights)


def _top_k(log_q: Tensor, teacher: TopK, measure: Measure, room: Tensor) -> tuple[Tensor, Tensor]:
    """Divergence of the likeliest tokens and of one that stands for all others; never more than that of all tokens."""
    kept = log_q.gather(1, teacher.ids)
    rest = room.copy_(log_q).scatter_(1, teacher.ids, LEAST)
    log_rest = rest.logsumexp(1, keepdim=True)
    theirs = teacher.log_probs.to(log_q.dtype)
    log_tail = log_one_minus_exp(theirs.logsumexp(1, keepdim=True))
    ours, both = torch.cat([kept, log_rest], 1), torch.cat([theirs, log_tail], 1)
    value, few = divergence_and_gradient(
        ours, both, torch.empty_like(ours), divergence=measure.divergence, mixture=measure.mixture, skew=measure.skew
    )
    # Within the rest the gradient is spread as the student's own probability is.
    gradient = log_q.sub_(log_rest).exp_().mul_(few[:, -1:])
    return value, gradient.scatter_(1, teacher.ids, few[:, :-1])


def log_one_minus_exp(x: Tensor) -> Tensor:
    """Log of 1 - exp(x) for x <= 0, without cancellation on either side; at 0 it is `LEAST`."""
    return log1mexp(x).clamp_min(LEAST)
