r"""Token relation graph: how patches relate, within an image and across the batch.

.. math:: \alpha \, L_{inner} + \beta \, L_{local} + \gamma \, L_{global}

- :math:`L_{inner}`: mean squared difference of :math:`softmax(F F^T / \sqrt D)`, F the positions (rows) by D channels of an image.
- :math:`L_{local}`: over a sample of tokens of the whole batch, :math:`KL(a^s_i \,\|\, a^t_i)` with :math:`a_i = softmax_j A_{ij}`, where
  :math:`A_{ij} = \exp(-\|x_i - x_j\|^2 / (2 \sigma))` if i is one of the k nearest neighbours of j, else 0; the mean over i.
- :math:`L_{global}`: mean cross-entropy of finding each sampled token's teacher by cosines at temperature T, after a learned linear map.

No official code was found, and the paper's hyper-parameters are not known to us: all are fields, with defaults of ours. Ours too are the
sample (`sample` evenly spaced positions of every image, nothing is drawn), tokens of length 1 in the graph, and means for
sums. The paper lowers T over the training: `temperature: {schedule: linear, start: 1, end: 0.1}`; its loss on logits is `kd`, beside this.

When to use: maps or tokens of the last stage, where positions correspond and few labels or rare classes make relations worth most.

Cost: of order b p^2 d, and n^2 d for n = b times `sample` tokens, `chunk` times n numbers at once; a linear map where widths differ.

Reference: Zhang et al., "Knowledge Distillation via Token-level Relationship Graph", 2023, arXiv:2306.12442, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.divergence import kl
from ..ops.geometry import squared_distances, unit
from ..ops.layouts import as_positions
from ..ops.pairing import pairing_entropy
from ..ops.precision import without_autocast
from ..ops.slices import in_slices
from ..types import Needs, NonNegative, Positive, PositiveInt, Signals
from .base import Loss, agree


def inner_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of how positions attend to each other, `(batch, positions, channels)` each, to a scalar."""
    scores = (x / x.shape[2] ** 0.5 @ x.mT for x in (student, teacher))
    ours, theirs = agree(*(x.softmax(2) for x in scores))  # mutate: equivalent constant (the scores are symmetric)
    return F.mse_loss(ours, theirs)


def graph_gap(student: Tensor, teacher: Tensor, *, neighbours: int, width: float, chunk: int) -> Tensor:
    """Mean divergence of the rows of two nearest-neighbour graphs, `(tokens, channels)` each, to a scalar."""
    size = len(student)
    count = min(neighbours, size - 1)

    def nearest(x: Tensor, rows: slice) -> Tensor:
        gap = squared_distances(x, rows)
        gap.diagonal(rows.start).fill_(torch.inf)  # a token is no neighbour of its own
        return gap.topk(count, largest=False, sorted=False).indices  # mutate: equivalent constant (in any order)

    def edges(x: Tensor, near: Tensor, rows: slice) -> Tensor:
        gap = squared_distances(x, rows)
        # Row i keeps the tokens j that i is near to; what is near to none of these rows goes to a row more, which is left out.
        inside = (near >= rows.start) & (near < rows.stop)  # mutate: equivalent comparison (a token at the stop is in the row more too)
        row = torch.where(inside, near - rows.start, len(gap))
        kept = torch.zeros(len(gap) + 1, size, dtype=torch.bool, device=x.device).scatter_(0, row.mT, True)[:-1]
        return (gap / (-2 * width)).exp().masked_fill(~kept, 0)

    def part(s: Tensor, s_near: Tensor, t: Tensor, t_near: Tensor, rows: slice) -> Tensor:
        return kl(edges(s, s_near, rows), edges(t, t_near, rows)).sum()

    graphs: list[Tensor] = []
    for x in (student, teacher):
        with torch.no_grad():
            graphs += [x, torch.cat(in_slices(nearest, x, size=size, chunk=chunk))]
    return torch.stack(in_slices(part, *graphs, size=size, chunk=chunk)).sum() / size


@final
@dataclass(eq=False, repr=False, kw_only=True)
class TRG(Loss):
    """Relations of patches: in each image, among neighbours in the whole batch, and between student and teacher."""

    exempt: ClassVar = {"equality": "the global part is a cross-entropy between tokens, above 0 for every student"}

    alpha: NonNegative = 1.0
    """Weight of the relations in each image."""
    beta: NonNegative = 1.0
    """Weight of the graph of neighbours."""
    gamma: NonNegative = 1.0
    """Weight of the contrast between the tokens of student and teacher."""
    neighbours: PositiveInt = 8
    """Number k of neighbours of a token."""
    width: Positive = 1.0
    """Width of the graph's Gaussian, in squared units of a token's length."""
    temperature: Positive = 0.1
    """Softmax temperature T of the contrast."""
    sample: PositiveInt = 8
    """Largest number of positions of each image that take part in graph and contrast."""
    chunk: PositiveInt = 512
    """Number of tokens that are compared with all others at once; it does not change the value."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the linear map."""
        x, y = as_positions(student.feature), as_positions(teacher.feature)
        same = x.shape[1] == y.shape[1]
        self.project = nn.Identity() if same else nn.Linear(x.shape[1], y.shape[1], device=x.device, dtype=x.dtype)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours, theirs = (as_positions(x.feature).mT for x in (student, teacher))
        with without_autocast(ours):
            total = self.alpha * inner_gap(ours, theirs)
            ours, theirs = self._sampled(ours), self._sampled(theirs)
            nodes = unit(ours), unit(theirs)
            total = total + self.beta * graph_gap(*nodes, neighbours=self.neighbours, width=self.width, chunk=self.chunk)
            mapped = unit(self.project(ours))
            return total + self.gamma * pairing_entropy(mapped, nodes[1], temperature=self.temperature, chunk=self.chunk)

    def _sampled(self, tokens: Tensor) -> Tensor:
        """`(batch, positions, channels)` to `(batch * sample, channels)`."""
        count = min(self.sample, positions := tokens.shape[1])
        places = (torch.arange(count, device=tokens.device) * positions + positions // 2) // count
        return tokens[:, places].flatten(0, 1)
