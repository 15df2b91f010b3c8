r"""GSSF: student and teacher are matched in a metric that is learned.

.. math:: - \frac{1}{b} \sum_i \log \frac{\exp(M(s_i, t_i) / T)}{\sum_j \exp(M(s_i, t_j) / T)}, \qquad
          M(x, y) = \hat x^T (W \circ U) \, \hat y

with features of length 1, a learned W and a fixed sparse pattern U: the diagonal (each channel has a weight), or blocks along it (channels
of a group interact). W begins as the identity, where M is the cosine.

There is no official code, and what follows is ours: M takes the place of the cosine in a contrastive loss between the student's and the
teacher's features of a batch, and is not compared with the teacher's alone, which a W of zeros would satisfy; W is not normalised, its
size takes part in the temperature. Maps and tokens are averaged over their positions.

When to use: retrieval and metric learning, where features are compared later; batches of 64 and more.

Cost: of order b^2 c for c channels, with `chunk` times b numbers held at once; c parameters (diagonal) or c^2 / groups (blocks).

Reference: Diao et al., "GSSF: Generalized Structural Sparse Function for Deep Cross-modal Metric Learning", IEEE TIP 2024,
arXiv:2410.15266, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from ..ops.geometry import unit
from ..ops.layouts import as_positions
from ..ops.pairing import pairing_entropy
from ..ops.precision import without_autocast
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss, agree


def block_product(x: Tensor, weight: Tensor) -> Tensor:
    """x W for a block-diagonal W, `(batch, channels)` and `(blocks, size, size)` to `(batch, channels)`."""
    blocks = x.unflatten(1, (len(weight), -1))
    return torch.einsum("bgi,gij->bgj", blocks, weight).flatten(1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class GSSF(Loss):
    """Tells the teacher's feature of an image from those of the others of the batch, by a learned sparse bilinear form."""

    exempt: ClassVar = {"equality": "a cross-entropy between examples is above 0 for every student"}

    pattern: Literal["blocks", "diagonal"] = "blocks"
    """Which entries of W are there: square blocks along the diagonal, or the diagonal alone."""
    groups: PositiveInt = 16
    """Largest number of blocks; the one that is used divides the channels."""
    temperature: Positive = 0.1
    """Softmax temperature T."""
    chunk: PositiveInt = 512
    """Number of examples that are compared with all others at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="full", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes W, as the identity."""
        x = as_positions(student.feature)
        channels = x.shape[1]
        blocks = channels if self.pattern == "diagonal" else max(n for n in range(1, self.groups + 1) if channels % n == 0)
        identity = torch.eye(channels // blocks, device=x.device, dtype=x.dtype)
        self.metric = nn.Parameter(identity.expand(blocks, -1, -1).clone())

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        both = agree(*(as_positions(x.feature) for x in (student, teacher)))
        ours, theirs = (unit(x.mean(2)) for x in both)  # mutate: equivalent function (of length 1 afterwards)
        with without_autocast(ours):
            return pairing_entropy(block_product(ours, self.metric), theirs, temperature=self.temperature, chunk=self.chunk)
