"""What a term sees of joint data that is for one data set: its outputs, its labels, its examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from ..types import IGNORE, Head, Share, Signals


def rows_of(share: Share, labels: Tensor) -> Tensor:
    """1 for the examples of the data set and 0 for all others, `(batch,)`, float32."""
    return (labels[:, 0] == share.number).float()


def labels_of(share: Share, labels: Tensor) -> Tensor:
    """The labels as the losses know them; those of other data sets are 0.

    Args:
        share: the data set.
        labels: of joint data, `(batch, 1 + values)`.

    Returns:
        Classes `(batch,)`, int64, `IGNORE` where unlabelled; else `(batch, outputs)`, float32, NaN where unlabelled.
    """
    mine = labels[:, 0] == share.number
    if share.labels == "class":
        classes = torch.where(mine, labels[:, 1], torch.zeros_like(labels[:, 1]))
        return classes.nan_to_num(IGNORE).long()
    values = labels[:, 1 : 1 + share.outputs]
    return torch.where(mine[:, None], values, torch.zeros_like(values))


def signals_of(share: Share, signals: Signals) -> Signals:
    """The signals with the logits (and the classifier) of the data set only.

    Args:
        share: the data set.
        signals: of a model with the outputs of all data sets, or of one that has those of this data set and no others.

    Raises:
        ShapeMismatch: where the model has another number of outputs.
    """
    cut = slice(share.start, share.stop)
    changes: dict[str, Any] = {}
    if signals.logits is not None:
        found = signals.logits.shape[-1]
        if found == share.outputs:
            return signals
        if found < share.stop:
            raise ShapeMismatch(
                f"a model with {found} outputs was asked for the outputs {share.start} to {share.stop - 1} of a data set; expected "
                f"the outputs of all data sets, or {share.outputs} for this one alone."
            )
        changes["logits"] = signals.logits[..., cut]
    if signals.head is not None:
        bias = signals.head.bias
        changes["head"] = Head(signals.head.weight[cut], bias[cut] if bias is not None else None)
    return replace(signals, **changes, views=tuple(signals_of(share, view) for view in signals.views))
