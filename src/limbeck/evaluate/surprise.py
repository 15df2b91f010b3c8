"""How badly a model predicts the labels of each example."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError
from ..types import Batch, Signals
from .tokens import token_statistics


def surprise(said: Signals, batch: Batch) -> Tensor:
    """Cross-entropy with the label of each example, in nats; where an example has several trained tokens, the mean over them.

    Args:
        said: by a model, of the batch.
        batch: with a class for every example, or for every trained token.

    Returns:
        `(batch,)`, float64, on the CPU.

    Raises:
        DataError: labels are no classes.
    """
    labels = batch.labels
    if labels is None or labels.dtype.is_floating_point or labels.ndim != 1:
        raise DataError("how well a model predicts an example is asked of labels that are classes or tokens.")
    if said.tokens is not None:
        values = token_statistics(said.tokens, labels).nll
    else:
        values = F.cross_entropy(said.logits.double(), labels, reduction="none").cpu()
    if batch.rows is None:
        return values
    owner = (batch.rows // batch.tokens_shape[1]).cpu()
    sums = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, owner, values)
    return sums / torch.bincount(owner, minlength=len(batch))
