r"""Factor transfer: the student learns the teacher's features in condensed form.

.. math:: \left\| \frac{F_t}{\|F_t\|_2} - \frac{F_s}{\|F_s\|_2} \right\|_p + \frac{\rho}{D} \left\| t - d(e(t)) \right\|_2^2

where :math:`F_t = e(t)` is the code of an autoencoder of the teacher's feature t (the paraphraser, encoder e and decoder d, each of three
convolutions) and :math:`F_s` what three convolutions (the translator) make of the student's feature; both factors have k times the
channels of the teacher. D is the number of elements of t.

The paper first trains the paraphraser on its own, on the second term. Here it learns beside the student, in the same objective: no
gradient passes from one term to what the other trains, so both learn as they would apart, only that the factors settle in the first
epochs. To have it the paper's way, let the term stand alone in a first stage, then set `reconstruction: 0`, which freezes the paraphraser.

The authors' code averages the absolute differences over the elements (`variant: official`), to which the quoted weights of 200 to
500 belong. The collections for CIFAR first sum the squares over the channels of each factor and compare normalised maps (`variant: zoo`).

When to use: layers of one height and width whose channels say the same in other words. Two small networks learn beside the student.

Cost: nine 3x3 convolutions, of order b p c^2 for p positions and c channels; some 27 (1 + k + k^2) c^2 parameters, none in the student.

Reference: Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018, arXiv:1802.04977,
sections 3.1 to 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from annotated_types import Ge
from torch import Tensor, nn

from ..ops.layouts import as_map
from ..ops.maps import square_pool
from ..ops.precision import without_autocast
from ..types import Needs, NonNegative, Positive, Signals
from ._factors import Paraphraser, convolutions, factor_gap
from .at import attention
from .base import Loss, agree


def attended_gap(student: Tensor, teacher: Tensor, *, power: float, norm: float) -> Tensor:
    """Difference of the attention maps of two factors, to the power `norm` (for 1 the absolute one), position by position."""
    ours, theirs = agree(*(attention(x, power=power, signed=True) for x in square_pool(student, teacher)))
    return (ours - theirs).abs() if norm == 1 else (ours - theirs).pow(norm)


@final
@dataclass(eq=False, repr=False, kw_only=True)
class FT(Loss):
    """Matches factors that a paraphraser of the teacher and a translator of the student make; both learn, the teacher does not."""

    exempt: ClassVar = {
        "equality": "the translator and the paraphraser are other networks, so equal features have unlike factors",
        "independence": "the translator normalises over the batch while it learns",
    }

    rate: Positive = 0.5
    """Channels of a factor, as a multiple k of the teacher's."""
    norm: Annotated[float, Ge(1)] = 1.0
    """Exponent p of the distance."""
    reconstruction: NonNegative = 1.0
    """Weight of the paraphraser's own term; 0 leaves the paraphraser as it is."""
    variant: Literal["paper", "official", "zoo"] = "paper"
    """The paper's distance, its mean over the elements of the authors' code, or that of attention maps of the collections for CIFAR."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        factors = max(round(self.rate * theirs.shape[1]), 1)
        widths = [ours.shape[1], ours.shape[1], factors, factors]
        self.translator = convolutions(widths, ours, norm=True, activation=nn.LeakyReLU(0.1))
        self.paraphraser = Paraphraser(theirs.shape[1], factors, ours)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours = as_map(student.feature)
        theirs = as_map(teacher.feature).detach().to(ours.dtype)
        with without_autocast(ours):
            code = self.paraphraser.encoder(theirs)
            value = self._gap(self.translator(ours), code.detach())  # mutate: equivalent swapped (symmetric)
            if self.reconstruction > 0:
                value = value + self.reconstruction * (self.paraphraser.decoder(code) - theirs).square().mean((1, 2, 3))
        return value

    def _gap(self, ours: Tensor, theirs: Tensor) -> Tensor:
        if self.variant == "zoo":
            return attended_gap(ours, theirs, power=2, norm=self.norm).mean(1)  # mutate: equivalent swapped (symmetric)
        gap = factor_gap(ours, theirs, p=self.norm, q=2)  # mutate: equivalent swapped (symmetric)
        return gap**self.norm / ours.flatten(1).shape[1] if self.variant == "official" else gap
