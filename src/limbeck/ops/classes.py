"""The class of the label and the others, told apart without masks that do not compile."""

from __future__ import annotations

from torch import Tensor

from ..types import IGNORE


def known_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels are there (bool), and class indices that are all valid: class 0 stands where there is none."""
    known = labels != IGNORE
    return known, labels.masked_fill(~known, 0)


def at_label(logits: Tensor, index: Tensor) -> Tensor:
    """The entry of the label; `(..., classes)` and valid class indices `(...)` to `(...)`."""
    return logits.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def without_label(logits: Tensor, index: Tensor) -> Tensor:
    """The logits with the label's so low that its probability is exactly 0; `(..., classes)` and valid class indices `(...)`.

    Quicker than taking the others out, and the shape stays; the logits must be float32 or wider.
    """
    return logits.scatter(-1, index.unsqueeze(-1), -1e30)
