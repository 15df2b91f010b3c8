"""The two functions, and what autograd sees of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import LimbeckError, ShapeMismatch
from ...ops.products import blocks, product
from ...tokens import Projection, Sampled, Tokens, part_of
from .chunks import Room, chunk_values, wide
from .measure import Measure
from .teachers import check_shapes

PLAIN = Measure()
BYTES = 32 * 2**20
"""Bytes of a chunk's logits, which with the three below decides how many tokens it has."""
SHARE = 4
"""Into how many chunks the tokens are cut at least, so that the buffers are small beside all their logits."""
FEWEST = 128
"""Tokens of a chunk at least: with fewer, products are slow."""
ENOUGH = 256
"""Tokens of a chunk also where their logits have more bytes: the gradient of the head is gone through once for each chunk."""


def fused_sums(
    student: Tensor,
    head: Projection,
    teacher: Tokens | None,
    measure: Measure = PLAIN,
    *,
    weights: Tensor | None = None,
    labels: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum over the tokens of divergence and cross-entropy, and the sum of each; gradients are computed on the way.

    Args:
        student: last hidden states `(tokens, width)`, as the head reads them.
        head: the student's.
        teacher: `Hidden`, `Logits`, `TopK` or `Sampled`, of the same tokens; it gets no gradient. None for the cross-entropy alone, with
            a measure of `weight` 0.
        measure: what is computed of every token.
        weights: factor of every token `(tokens,)`, such as a mask divided by the number of trained tokens; 1 where absent. Tokens of
            weight 0 are not computed.
        labels: the next tokens `(tokens,)`, where they count; -100 where there is none, which leaves out the cross-entropy of that token.
        chunk: tokens whose logits are held at once; chosen by size where absent. It changes no value.

    Returns:
        The total, a scalar: `measure.weight` times the sum of the divergences plus `measure.label_weight` times that of the
        cross-entropies; and these two sums `(2,)`, of which each token has its factor, without a graph; 0 where its weight is 0. Both are
        in float32 (float64 for such inputs).

    Raises:
        ShapeMismatch: where shapes or vocabularies do not fit.
        LimbeckError: for a divergence without a teacher, or one that samples do not estimate; for a second backward pass through the same
            result.
        RuntimeError: for the gradient of a gradient, which there is not.
    """
    _check(student, head, teacher, measure, labels)
    factors = student.new_ones(len(student), dtype=wide(student)) if weights is None else weights.to(wide(student))
    rest = (head, (teacher, labels, measure, chunk), factors, torch.is_grad_enabled())
    return _Sum.apply(student, head.weight, head.bias, *rest)  # pyright: ignore[reportReturnType]


def fused_divergence(
    student: Tensor,
    head: Projection,
    teacher: Tokens | None,
    measure: Measure = PLAIN,
    *,
    weights: Tensor | None = None,
    labels: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The total of `fused_sums` alone, whose arguments it has."""
    return fused_sums(student, head, teacher, measure, weights=weights, labels=labels, chunk=chunk)[0]


def fused_divergences(
    student: Tensor,
    head: Projection,
    teacher: Tokens | None,
    measure: Measure = PLAIN,
    *,
    labels: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """One value a token, `(tokens,)`; the backward pass computes all logits once more. Arguments as for `fused_sums`."""
    _check(student, head, teacher, measure, labels)
    return _Each.apply(student, head.weight, head.bias, head, (teacher, labels, measure, chunk))  # pyright: ignore[reportReturnType]


def _check(student: Tensor, head: Projection, teacher: Tokens | None, measure: Measure, labels: Tensor | None) -> None:
    check_shapes(student, head, teacher)
    if measure.weight and teacher is None:
        raise LimbeckError(
            f"a divergence of weight {measure.weight:g} needs a teacher, found none; weight 0 leaves the cross-entropy alone."
        )
    if isinstance(teacher, Sampled) and measure.divergence != "forward":
        raise LimbeckError(
            f"samples of a teacher estimate divergence 'forward' only, got {measure.divergence!r}; store its likeliest tokens instead."
        )
    if measure.label_weight and (labels is None or labels.shape != student.shape[:1]):
        found = "none" if labels is None else list(labels.shape)
        raise ShapeMismatch(f"label_weight {measure.label_weight:g} needs labels {[len(student)]}, found {found}.")


class _Work:
    """The chunks of some tokens, one after the other."""

    def __init__(self, student: Tensor, head: Projection, rest: Any, tokens: Tensor) -> None:
        teacher, labels, measure, chunk = rest
        self.student, self.head, self.measure = student, head, measure
        self.teacher = teacher if measure.weight else None
        self.labels = labels if measure.label_weight else None
        self.tokens = tokens[:0] if self.teacher is None and self.labels is None else tokens
        size = len(head.weight) * wide(student).itemsize
        rows = chunk or max(FEWEST, min(max(BYTES // size, ENOUGH), len(self.tokens) // SHARE))
        self._count = -(-len(self.tokens) // rows)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The numbers of some tokens, their values, and the gradient of each with respect to its logits, but for the scale of the head."""
        room = Room()
        for tokens in self.tokens.tensor_split(self._count) if self._count else ():
            labels = None if self.labels is None else self.labels[tokens]
            teacher = None if self.teacher is None else part_of(self.teacher, tokens)
            yield tokens, *chunk_values(self.student[tokens], self.head, teacher, labels, self.measure, room)

    def factors(self, like: Tensor) -> Tensor:
        """Of divergence and cross-entropy in the total."""
        return like.new_tensor([self.measure.weight, self.measure.label_weight])


class _Gradients:
    """Gradients of the student's hidden states and of its head, as far as they are asked for."""

    def __init__(self, work: _Work, asked: Sequence[bool]) -> None:
        self._student, self._weight = work.student, work.head.weight
        dtype, weight, bias = wide(self._student), self._weight, work.head.bias
        self.hidden = torch.zeros_like(self._student) if asked[0] else None
        self.weight = torch.zeros(weight.shape, dtype=dtype, device=weight.device) if asked[1] else None
        self.bias = torch.zeros(bias.shape, dtype=dtype, device=bias.device) if bias is not None and asked[2] else None

    def add(self, tokens: Tensor, logits: Tensor, factors: Tensor) -> None:
        """Adds what the gradient of some tokens' logits brings, that of each token times its factor."""
        # Products of the gradient may be of the models' own precision: what is rounded here is small beside what it is added to.
        narrow, column = logits.to(self._weight.dtype), factors.unsqueeze(1)
        if self.hidden is not None:
            self.hidden.index_copy_(0, tokens, (product(narrow, self._weight.T) * column).to(self.hidden.dtype))
        if self.weight is not None:
            rows = (self._student[tokens] * column).to(narrow.dtype)  # instead of the much larger logits
            if narrow.dtype == self.weight.dtype and narrow.device.type != "cpu":  # mutate: equivalent (the tests run on the CPU)
                self.weight.addmm_(narrow.T, rows)  # mutate: equivalent (the tests run on the CPU)
            else:
                for block in blocks(self.weight):
                    self.weight[block].add_(product(narrow[:, block].T, rows.T))
        if self.bias is not None:
            self.bias.addmv_(logits.T, factors)

    def all(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of the hidden states, the weight and the bias."""
        return self.hidden, self.weight, self.bias


class _Sum(torch.autograd.Function):
    """Gradients in the forward pass."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
        head, of, weights, learns = rest
        with torch.autocast(student.device.type, enabled=False):
            work = _Work(student, head, of, weights.nonzero().squeeze(1))
            gradients = _Gradients(work, [learns and asked for asked in ctx.needs_input_grad])
            sums = weights.new_zeros(2)
            for tokens, values, logits in work.chunks():
                sums.addmv_(values, weights[tokens])
                gradients.add(tokens, logits, weights[tokens] * head.scale)
            total = torch.dot(sums, work.factors(sums))
        ctx.gradients = gradients.all()
        ctx.mark_non_differentiable(sums)
        return total, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.gradients is None:
            raise LimbeckError("the gradients of a fused divergence are used up by its first backward pass; take `fused_divergences`.")
        found, ctx.gradients = ctx.gradients, None
        scaled = [None if x is None else x.mul_(outputs[0]) for x in found]  # autograd gives them the inputs' precision
        return (*scaled, *(None,) * 4)  # mutate: equivalent constant (more are ignored)


class _Each(torch.autograd.Function):
    """Values only; everything again in the backward pass, when the factor of each token is known."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        ctx.save_for_backward(student, weight, bias)
        ctx.rest = rest
        with torch.autocast(student.device.type, enabled=False):
            work = _Work(student, rest[0], rest[1], torch.arange(len(student), device=student.device))
            values = torch.zeros(len(student), dtype=wide(student), device=student.device)
            for tokens, found, _ in work.chunks():
                values[tokens] = work.factors(found) @ found
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        student, _, _ = ctx.saved_tensors
        factors = outputs[0]
        with torch.autocast(student.device.type, enabled=False):  # mutate: equivalent constant (no autocast in a backward pass on the CPU)
            work = _Work(student, ctx.rest[0], ctx.rest[1], factors.nonzero().squeeze(1))
            gradients = _Gradients(work, ctx.needs_input_grad)
            for tokens, _, logits in work.chunks():
                gradients.add(tokens, logits, factors[tokens] * work.head.scale)
        return (*gradients.all(), *(None,) * 2)  # mutate: equivalent constant (more are ignored)
