r"""How far what is stored of tokens is from what the teacher said.

With the teacher's distribution p at the codec's temperature and :math:`\hat p` as it is read back (the tail of `topk` spread evenly over
its tokens), `kl` is the mean of :math:`\mathrm{KL}(p \| \hat p)`, which is infinite and left out where :math:`\hat p` has zeros, as samples
do; `reverse_kl` that of :math:`\mathrm{KL}(\hat p \| p)`; `outside` the mean of the teacher's mass on tokens that are not named; `nll` the
teacher's own mean loss on the targets at temperature 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.projection import logits_of
from ..tokens import Hidden, Logits, Projection, Sampled, Tokens, TopK, part_of
from .tokens.base import TokenCodec, dense

FIELDS = ("tokens", "sample", "nll", "kl", "reverse_kl", "outside")
_AT_ONCE = 64


def distortion(said: Tokens, targets: Tensor, codec: TokenCodec, vocabulary: int, uniforms: Tensor) -> Tensor:
    """Sums over rows, float64, in the order of `FIELDS`; the first is 0, and all are where the distribution is not known."""
    sums = torch.zeros(len(FIELDS), dtype=torch.float64)
    if not isinstance(said, Hidden | Logits):
        return sums
    head = said.head if isinstance(said, Hidden) else None
    for start in range(0, len(targets), _AT_ONCE):
        where = slice(start, start + _AT_ONCE)
        logits = dense(said, where, vocabulary).cpu().double()
        read = codec.decode(codec.encode(part_of(said, where), vocabulary, uniforms[where]), vocabulary, _on_cpu(head))
        sums += _sums(logits, targets[where], read, vocabulary)
    return sums


def _sums(logits: Tensor, targets: Tensor, read: Tokens, vocabulary: int) -> Tensor:
    temperature = read.temperature if isinstance(read, TopK | Sampled) else 1.0
    plain = logits.log_softmax(1)
    log_p = (logits / temperature).log_softmax(1)
    log_q = logits_of(read, vocabulary).double().log_softmax(1)
    p, q = log_p.exp(), log_q.exp()
    forward = torch.where(p > 0, p * (log_p - log_q), 0.0).sum()
    reverse = torch.where(q > 0, q * (log_q - log_p), 0.0).sum()
    outside = torch.zeros((), dtype=torch.float64)
    if isinstance(read, TopK | Sampled):
        named = torch.zeros_like(p).scatter_(1, read.ids, 1.0)
        outside = (p * (1 - named)).sum()
    nll = -plain.gather(1, targets[:, None].long()).sum()
    return torch.stack([torch.zeros_like(nll), torch.full_like(nll, len(targets)), nll, forward, reverse, outside])


def _on_cpu(head: Projection | None) -> Projection | None:
    if head is None or head.weight.device.type == "cpu":
        return head
    return Projection(head.weight.cpu(), None if head.bias is None else head.bias.cpu(), head.scale, head.cap)
