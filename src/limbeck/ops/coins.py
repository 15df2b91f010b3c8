"""Cross-entropy of coins: of independent labels, each there or not."""

from __future__ import annotations

from torch import Tensor

from .closed_form import closed_form


def coin_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the binary cross-entropies, logits in float32 or wider and labels in [0, 1], `(batch, labels)` to `(batch,)`.

    A label that is NaN is left out.
    """
    return closed_form(_coins, logits, labels).squeeze(-1)


def _coins(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    missing = labels.isnan()
    labels = labels.masked_fill(missing, 0)  # mutate: equivalent constant (what stands there is taken away)
    small = (-logits.abs()).exp()
    whole = small + 1
    # log(1 + small), with what the sum loses of a tiny one given back; torch's log1p takes five times as long.
    tail = whole.log() + (small - (whole - 1)) / whole
    terms = logits.clamp_min(0) - logits * labels + tail
    slope = logits.sigmoid() - labels
    return terms.masked_fill(missing, 0).sum(-1, keepdim=True), slope.masked_fill(missing, 0)
