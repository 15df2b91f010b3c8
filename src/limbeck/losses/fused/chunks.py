"""One chunk of tokens: from hidden states to the value of each token and the gradient of its logits, in place.

The products are done for the whole chunk, for which it must be large; everything else a few rows at a time, so that it stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.classes import known_labels
from ...ops.divergence_gradients import divergence_and_gradient, softmax_and_normaliser
from ...ops.topk import log1mexp
from ...tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK, part_of
from .measure import Measure

LEAST = -1e30
"""What stands for a logit of minus infinity: its probability is 0, and its difference from another such is 0 and not undefined."""
BLOCK = 1024  # mutate: equivalent constant (it changes no value)
"""Rows of a head in half precision that a thread multiplies at once: so many, widened, stay in its cache."""
CACHED = 2**18  # mutate: equivalent constant, operator (it changes no value)
"""Logits that are worked on at once."""


def logits_of(hidden: Tensor, head: Projection, dtype: torch.dtype) -> Tensor:
    """Logits of some tokens in this precision, which is that of the products: half precision is widened before, not rounded after."""
    out = _product(hidden, head.weight, dtype)
    if head.bias is not None:
        out.add_(head.bias)
    if head.scale != 1:
        out.mul_(head.scale)
    if head.bias is not None:
        out.clamp_(min=LEAST)
    if head.cap is not None:
        out.div_(head.cap).tanh_().mul_(head.cap)
    return out


def _product(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    if hidden.device.type == "cuda" and hidden.dtype == weight.dtype != dtype:  # mutate: equivalent (the tests run on the CPU)
        return torch.mm(hidden, weight.T, out_dtype=dtype)  # mutate: equivalent (the tests run on the CPU)
    wide = hidden.to(dtype)
    here = hidden.device.type == "cpu" and torch.backends.mkldnn.is_available()  # mutate: equivalent (it changes no value)
    product = _linear if here and dtype == torch.float32 else F.linear
    if weight.dtype == dtype:
        return product(wide, weight)
    out = wide.new_empty(len(wide), len(weight))
    for block in blocks(weight):
        out[:, block] = product(wide, weight[block].to(dtype))
    return out


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """As torch does it in compiled models: on some processors, for a few tokens, a quarter faster than what it does otherwise."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # noqa: SLF001 - there is no other way to it


def blocks(weight: Tensor) -> Iterator[slice]:
    """The rows of a head, as many at a time as are quickest to multiply."""
    # On other devices every operation has a price, and small ones leave it idle.
    size = BLOCK * torch.get_num_threads() if weight.device.type == "cpu" else len(weight)
    return (slice(start, start + size) for start in range(0, len(weight), size))


def chunk_values(
    hidden: Tensor, head: Projection, teacher: Tokens | None, labels: Tensor | None, measure: Measure
) -> tuple[Tensor, Tensor]:
    """Values of the tokens of a chunk, and the gradient of the weighted sum of both with respect to the logits before cap and scale.

    Args:
        hidden: the student's, `(rows, width)`.
        head: the student's.
        teacher: of the same tokens; without one there is no divergence. `Logits` are overwritten.
        labels: `(rows,)`; without them there is no cross-entropy.
        measure: what is computed.

    Returns:
        Divergences and cross-entropies, `(2, rows)`, not weighted, and `(rows, vocabulary)`. The gradient is still to be multiplied by
        `head.scale`.
    """
    logits = logits_of(hidden, head, wide(hidden))
    theirs = logits  # not read where the teacher has none
    if isinstance(teacher, Hidden):
        theirs = logits_of(teacher.hidden, teacher.head, logits.dtype)
    elif isinstance(teacher, Logits):
        theirs = teacher.logits.to(logits.dtype).clamp_(min=LEAST)
    rows, vocabulary = logits.shape
    # On other devices there is no cache to stay in, and every operation has a price.
    step = min(rows, max(CACHED // vocabulary, 1)) if logits.device.type == "cpu" else rows
    count = 2 + (labels is not None) + (head.cap is not None)  # mutate: equivalent constant (one more is not used)
    rooms = [logits.new_empty(step, vocabulary) for _ in range(count)]
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
