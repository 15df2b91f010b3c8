"""One chunk of tokens: from hidden states to the value of each token and the gradient of its logits, in place.

The products are done for the whole chunk, for which it must be large; everything else a few rows at a time, so that it stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...ops.classes import known_labels
from ...ops.divergence_gradients import divergence_and_gradient, softmax_and_normaliser
from ...ops.topk import log1mexp
from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK, part_of
from .measure import Measure

LEAST = -1e30
"""What stands for a logit of minus infinity: its probability is 0, and its difference from another such is 0 and not undefined."""
BLOCK = 1024  # mutate: equivalent constant (it changes no value)
"""Rows of a head that a thread multiplies at once: for few tokens more are slower, and those in half precision stay in the cache."""
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
    if hidden.device.type == "cuda" and hidden.dtype == weight.dtype != out.dtype:  # mutate: equivalent (the tests run on the CPU)
        torch.mm(hidden, weight.T, out_dtype=out.dtype, out=out)  # mutate: equivalent (the tests run on the CPU)
        return
    wide = hidden.to(out.dtype)
    for block in blocks(weight):
        torch.mm(wide, weight[block].to(out.dtype).T, out=out[:, block])


def blocks(weight: Tensor) -> Iterator[slice]:
    """The rows of a head, as many at a time as are quickest to multiply."""
    # On other devices every operation has a price, and small ones leave it idle.
    size = BLOCK * torch.get_num_threads() if weight.device.type == "cpu" else len(weight)
    return (slice(start, start + size) for start in range(0, len(weight), size))


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
        torch.mul(_compare(logits, theirs, teacher, measure, (first, second)), measure.factor, out=values[0])
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
    value = (weights * (softmax_and_normaliser(logits, out) - theirs).to(logits.dtype)).sum(1)
    out.mul_(weights.sum(1, keepdim=True)).scatter_add_(1, teacher.ids, -weights)
    return value


def _top_k(logits: Tensor, teacher: TopK, measure: Measure) -> Tensor:
    """Divergence of the likeliest tokens and of one that stands for all others; never more than that of all tokens."""
    kept = logits.gather(1, teacher.ids)
    rest = softmax_and_normaliser(logits.scatter_(1, teacher.ids, LEAST), logits)
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
