r"""Knowledge translation and adaptation: a code of the teacher's layer is learned.

.. math:: \left\| \frac{a(s)}{\|a(s)\|_q} - \frac{e(t)}{\|e(t)\|_q} \right\|_p
          + \frac{\rho}{D} \left( \|t - d(e(t))\|_2^2 + \alpha \|e(t)\|_1 \right)

where e and d are encoder and decoder of an autoencoder of the teacher's feature t (of D elements), which condenses it to k times its
channels, and a is the student's adapter: a 3x3 convolution with batch norm and ReLU. Both learn in this loss.

The paper first trains the autoencoder on its own, on the second term. Here it learns beside the student, in the same objective: no
gradient passes from one term to what the other trains. To have it the paper's way, let the term stand alone in a first stage,
then set `reconstruction: 0`, which freezes the autoencoder.

When to use: dense predictions and other maps of one height and width whose channels differ much; usually beside `affinity`.

Cost: seven 3x3 convolutions, of order b p c^2 for p positions and c channels; some 9 (2 (1 + k + k^2) + k) c^2 parameters, none in the
student.

Reference: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", CVPR 2019, arXiv:1903.04688, sections 3.1 and 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from annotated_types import Ge
from torch import Tensor, nn

from ..ops.layouts import as_map
from ..ops.precision import without_autocast
from ..types import Needs, NonNegative, Positive, Signals
from ._factors import Paraphraser, convolutions, factor_gap
from .base import Loss


@final
@dataclass(eq=False, repr=False, kw_only=True)
class KTA(Loss):
    """Matches the normalised code of one layer of the teacher, which an autoencoder learns beside the student."""

    exempt: ClassVar = {
        "equality": "the student's adapter and the teacher's encoder are other networks, so equal features have unlike codes",
        "independence": "the student's adapter normalises over the batch while it learns",
    }

    p: Annotated[float, Ge(1)] = 1.0
    """Exponent of the norm of the difference."""
    q: Annotated[float, Ge(1)] = 2.0
    """Exponent of the norm that the codes are divided by."""
    rate: Positive = 0.5
    """Channels of the code, as a multiple k of the teacher's."""
    reconstruction: NonNegative = 1.0
    """Weight of the autoencoder's own term; 0 leaves the autoencoder as it is."""
    sparsity: NonNegative = 1e-7
    """Weight of the size of the code in that term."""

    @property
    def needs(self) -> Needs:
        return Needs(features="one", match="space")

    def setup(self, student: Signals, teacher: Signals) -> None:
        ours, theirs = as_map(student.feature), as_map(teacher.feature)
        code = max(round(self.rate * theirs.shape[1]), 1)
        self.adapter = convolutions([ours.shape[1], code], ours, norm=True, activation=nn.ReLU())
        self.translator = Paraphraser(theirs.shape[1], code, ours)

    def forward(self, student: Signals, teacher: Signals, labels: Tensor | None = None) -> Tensor:
        ours = as_map(student.feature)
        theirs = as_map(teacher.feature).detach().to(ours.dtype)
        with without_autocast(ours):
            code = self.translator.encoder(theirs)
            value = factor_gap(self.adapter(ours), code.detach(), p=self.p, q=self.q)  # mutate: equivalent swapped (symmetric)
            if self.reconstruction > 0:
                rebuilt = (self.translator.decoder(code) - theirs).square().sum((1, 2, 3))
                size = self.sparsity * code.abs().sum((1, 2, 3))
                value = value + self.reconstruction * (rebuilt + size) / theirs[0].numel()
        return value
