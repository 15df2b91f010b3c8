r"""Keeps the examples with the largest gradient of the last layer.

.. math:: \lVert \nabla_{W,b} CE \rVert_2 = \lVert softmax(z) - onehot(y) \rVert_2 \sqrt{\lVert h \rVert^2 + 1}, \quad z = W h + b

Reference: Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, arXiv:2107.07075 (the expected gradient of all layers;
here that of the last one, of one model, which needs no backward pass).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from .base import Evidence, Selection, known, need_labels
from .el2n import el2n


@final
@dataclass(frozen=True, kw_only=True)
class GraNd(Selection):
    """Norm of the gradient of the cross-entropy by the last linear layer's weight and bias."""

    reads: ClassVar = ("labels", "logits", "features")

    def scores(self, evidence: Evidence) -> Tensor:
        """As the class says, `(examples,)`, float64."""
        error = el2n(known(evidence.logits, "the logits"), need_labels(evidence, "grand"))
        return error * (known(evidence.features, "the features").square().sum(1) + 1).sqrt()
