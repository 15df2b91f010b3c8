r"""DarkRank: for both models the same examples are nearest, in the same order.

With :math:`\pi_1, \ldots, \pi_k` the k examples of the batch that are nearest to example i for the teacher, from the nearest outwards, and
:math:`S_{ij} = -\alpha \|x_i - x_j\|^\beta` how near example j is,

.. math:: -\frac{1}{b} \sum_i \log P^s_i(\pi) \qquad \text{or} \qquad
          \frac{1}{b} \sum_i \sum_{\rho} P^t_i(\rho) \log \frac{P^t_i(\rho)}{P^s_i(\rho)}, \qquad
          P_i(\rho) = \prod_{m=1}^{k} \frac{e^{S_{i \rho_m}}}{\sum_{n \ge m} e^{S_{i \rho_n}}}

The first (`transfer: hard`) asks for the teacher's order, the second (`soft`) compares the probabilities of all k! orders :math:`\rho` of
those k examples. Embeddings are brought to length 1 first, for which :math:`\alpha` and :math:`\beta` are meant; `normalise: false` leaves
them as they are. The defaults are those of the code of Park et al. (RKD), who compare with the hard transfer. The authors' code runs the
soft one with :math:`\alpha` = 12.25, :math:`\beta` = 4, k = 4 and a weight of 16, for half of the batch; its hard one ranks all others of
the batch (`candidates` at least as many).

When to use: embeddings for retrieval, of any two dimensions: only the order of the neighbours counts, not how far they are (`rkd`) nor
how likely they meet (`pkt`). A value that stays near log k! for `hard` hears no differences: features behind a ReLU are near one another
at length 1, and want `normalise: false, beta: 1` or a larger :math:`\alpha`.

Cost: of order b^2 D for b examples of D elements, and for `soft` b k! k more, in memory `chunk` (b + k D); no parameters.

Reference: Chen, Wang, Zhang, "DarkRank: Accelerating Deep Metric Learning via Cross Sample Similarities Transfer", AAAI 2018,
arXiv:1707.01220, section 3; defaults: Park et al., "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, ClassVar, Literal, final

import torch
from annotated_types import Ge
from torch import Tensor

from ..ops.geometry import squared_distances, unit
from ..ops.precision import widen
from ..ops.ranks import log_likelihood
from ..ops.slices import in_slices
from ..types import Needs, Positive, PositiveInt, Signals
from .base import Loss

_MOST = 7
"""Examples of whose orders, which are 5040, the probabilities are computed one by one."""


def nearest(features: Tensor, rows: slice, *, candidates: int) -> Tensor:
    """Numbers of the examples that are nearest to the examples `rows`, from the nearest outwards; `(batch, D)` to `(rows, k)`.

    Nobody is near itself; where there are fewer than `candidates` others, it is all of them.
    """
    numbers = torch.arange(len(features), device=features.device)
    squares = squared_distances(features, rows).masked_fill(numbers[rows, None] == numbers, math.inf)
    return squares.topk(min(candidates, len(features) - 1), largest=False).indices


def powers(squares: Tensor, *, beta: float) -> Tensor:
    """Distances to the power `beta`, from their squares; 0 without a gradient where these are 0."""
    present = squares > 0
    return squares.where(present, 1) ** (beta / 2) * present  # mutate: equivalent constant (it is taken out again)


def orders_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence between the probabilities of all orders of k scores, `(..., k)` to `(...)`."""
    orders = torch.tensor(list(permutations(range(student.shape[-1]))), dtype=torch.long, device=student.device)
    ours, theirs = (log_likelihood(x[..., orders]) for x in (student, teacher))
    return (theirs.exp() * (theirs - ours)).sum(-1)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class DarkRank(Loss):
    """Compares who is nearest to whom in both embeddings; shapes need not agree."""

    exempt: ClassVar = {"equality": "the order can always be made clearer, and any student of the same order is as good"}

    transfer: Literal["hard", "soft"] = "hard"
    """The teacher's order alone, or the probabilities of all orders."""
    alpha: Positive = 3.0
    r"""Scale :math:`\alpha` of the distances."""
    beta: Annotated[float, Ge(1)] = 3.0
    r"""Power :math:`\beta` of the distances: the larger, the less the nearest are told apart."""
    candidates: PositiveInt = 4
    """Number k of the teacher's nearest examples that are ranked; at most 7 for `soft`, which sees k! orders."""
    normalise: bool = True
    """Whether every embedding is brought to length 1 first."""
    chunk: PositiveInt = 1024
    """Number of examples whose neighbours are held in memory at once; it does not change the value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transfer == "soft" and self.candidates > _MOST:
            raise ValueError(f"DarkRank.candidates must be <= {_MOST} where transfer is 'soft', got {self.candidates!r}")

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        def part(student: Tensor, teacher: Tensor, rows: slice) -> Tensor:
            order = nearest(teacher, rows, candidates=self.candidates)
            if self.transfer == "hard":
                return -log_likelihood(self._scores(student, rows, order)).sum()
            return orders_kl(self._scores(student, rows, order), self._scores(teacher, rows, order)).sum()

        sides = [widen(x).flatten(1) for x in (student.feature, teacher.feature)]
        if self.normalise:
            sides = [unit(x) for x in sides]
        batch = len(student.feature)
        return torch.stack(in_slices(part, *sides, size=batch, chunk=self.chunk)).sum() / batch

    def _scores(self, features: Tensor, rows: slice, order: Tensor) -> Tensor:
        # From differences, so that near neighbours do not cancel.
        squares = (features[rows, None] - features[order]).square().sum(-1)
        return -self.alpha * powers(squares, beta=self.beta)
