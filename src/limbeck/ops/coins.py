"""Cross-entropy of coins: of independent labels, each there or not."""

from __future__ import annotations

from torch import Tensor

from .closed_form import closed_form


def coin_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the binary cross-entropies, logits in float32 or wider and labels in [0, 1], `(..., labels)` to `(...)`.

    A label that is NaN is left out.
    """
    return closed_form(_coins, logits, labels).squeeze(-1)


def _coins(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    missing = labels.isnan()
    labels = labels.masked_fill(missing, 0)  # mutate: equivalent constant (what stands there is taken away)
    size = logits.abs()
    small = (-size).exp()
    whole = small + 1
    # log(1 + small), with what the sum loses of a tiny one given back; torch's log1p takes five times as long.
    tail = whole.log() + (small - (whole - 1)) / whole  # mutate: equivalent operator (below the last digit where `whole` is not 1)
    # Half the sum is the larger of the logit and 0, with a slope of a half at 0, where that of a clamp would be one of its sides.
    terms = (logits + size) / 2 - logits * labels + tail
    slope = logits.sigmoid() - labels
    return terms.masked_fill(missing, 0).sum(-1, keepdim=True), slope.masked_fill(missing, 0)
