r"""Wasserstein contrastive distillation: a critic and a transport plan.

.. math:: \lambda_1 \Big( \frac{1}{b(b-1)} \sum_{i \ne j} g(t_i, s_j) - \frac{1}{b} \sum_i g(t_i, s_i) \Big)
          + \lambda_2 \, \frac{1}{b} \sum_{ij} \pi_{ij} \Big( 1 - \cos(\psi(t_i), \varphi(s_j)) \Big)

The first part is the dual form of the Wasserstein distance between pairs that belong together and pairs that do not, the paper's lower
bound of the mutual information, with the critic :math:`g(t, s) = \langle A t, B s \rangle` on features of length 1. The learned matrices A
and B are divided by their largest singular values, so that g changes no faster than either of its arguments (the Lipschitz constant that
the paper asks for, by the same means). The second part is the primal form within the batch: :math:`\pi` moves the teacher's features to the
student's at least cost, found by Sinkhorn's algorithm with entropy :math:`\epsilon`; :math:`\psi` and :math:`\varphi` are learned linear
maps.

There is no official code. Choices of ours: the pairs that do not belong together are those of the batch (of all processes) instead of a
memory of 16,384 features, which needs no state and whose mean takes the place of the paper's factor M; the critic is bilinear; features of
maps and tokens are averaged over their positions; the defaults of both weights and of :math:`\epsilon`.

When to use: in place of `crd` where a memory bank is not wanted, with batches of 64 and more, on the last features before the classifier.

Cost: of order b^2 `dim` for costs and `rounds` b^2 for the plan, in memory b^2 numbers; 2 `dim` (c + d) parameters for features of c and d
channels.

Reference: Chen et al., "Wasserstein Contrastive Representation Distillation", CVPR 2021, arXiv:2012.08674, sections 3.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge
from torch import Tensor, nn

from ..errors import ShapeMismatch
from ..ops.geometry import unit
from ..ops.layouts import pooled
from ..ops.precision import without_autocast
from ..ops.sinkhorn import transport_plan
from ..ops.spectral import singular_directions
from ..types import Needs, NonNegative, PositiveInt, Signals
from .base import Loss


def critic_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean inner product of pairs that do not belong together, less that of pairs that do; two tensors `(batch, dim)` to a scalar."""
    batch = len(student)
    together = (student * teacher).sum() / batch
    # The sum over all pairs is the product of the sums.
    apart = student.sum(0) @ teacher.sum(0) - (student * teacher).sum()
    return apart / (batch * (batch - 1)) - together


def transport_cost(student: Tensor, teacher: Tensor, *, epsilon: float, rounds: int) -> Tensor:
    """Mean cosine distance of the student's features to those that the plan moves to them; `(batch, dim)` each, to a scalar."""
    ours, theirs = unit(student), unit(teacher)
    costs = 1 - theirs @ ours.mT
    return (transport_plan(costs, epsilon=epsilon, rounds=rounds) * costs).sum() / len(costs)


class Slow(nn.Linear):
    """A linear map without offset, divided by its largest singular value: no two outputs are farther apart than their inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """`(batch, channels)` to `(batch, dim)`."""
        # The value is at its largest there, so that it does not change with the directions and these need no gradient.
        fixed = self.weight.detach()  # mutate: equivalent unwrapped (as the comment says)
        _, right = singular_directions(fixed, 1)
        left = unit(fixed @ right, dim=0)
        return super().forward(input) / (left.mT @ self.weight @ right)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class WCoRD(Loss):
    """Features of one image come together and those of others apart, for the batch as a whole and by the cheapest pairing."""

    exempt: ClassVar = {"equality": "features are compared after linear maps that learn, one for each model"}

    global_weight: NonNegative = 0.8
    """Weight of the critic's part."""
    local_weight: NonNegative = 0.05
    """Weight of the transport."""
    dim: PositiveInt = 128
    """Dimensions in which features are compared."""
    epsilon: Annotated[float, Ge(0.05)] = 0.1
    """Weight of the entropy of the plan; below 0.05 its exponentials would leave the range of float32."""
    rounds: PositiveInt = 20
    """How often rows and columns of the plan are normalised."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="any", global_batch=True)

    def setup(self, student: Signals, teacher: Signals) -> None:
        """Makes the linear maps of the critic and of the transport."""
        features = [pooled(x.feature) for x in (student, teacher)]
        like = features[0]  # mutate: equivalent constant (both models are on one device, in one precision)
        where = {"device": like.device, "dtype": like.dtype}
        self.critics = nn.ModuleList(Slow(x.shape[1], self.dim, bias=False, **where) for x in features)
        self.maps = nn.ModuleList(nn.Linear(x.shape[1], self.dim, bias=False, **where) for x in features)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        features = [pooled(x.feature) for x in (student, teacher)]
        if len(student.feature) < 2:
            raise ShapeMismatch("wcord compares the examples of a batch, found 1; use batches of two or more, and drop a smaller last one.")
        with without_autocast(student.feature):
            ours, theirs = (critic(unit(x)) for critic, x in zip(self.critics, features, strict=True))
            moved = [linear(x) for linear, x in zip(self.maps, features, strict=True)]
            gap = critic_gap(ours, theirs)  # mutate: equivalent swapped (symmetric)
            cost = transport_cost(*moved, epsilon=self.epsilon, rounds=self.rounds)
        return self.global_weight * gap + self.local_weight * cost
