r"""How near two tasks are, by what prompts that were learnt for them make of the same texts.

.. math:: \frac{1}{n} \sum_i \cos(h^1_i, h^2_i)

for the last hidden states :math:`h_i` of the first position of text i, by the model with the prompt of one task and of the other.

Reference: Zhong et al., "PANDA: Prompt Transfer Meets Knowledge Distillation for Efficient Model Adaptation", TKDE 2024, arXiv:2208.10160,
where such a metric foretells whether a prompt transfers and sets the weight of distillation. From memory: in the
authors' code the metric is commented out, so the mean may be another than theirs.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import ShapeMismatch
from ..ops.geometry import cosines


def prompt_similarity(first: Tensor, second: Tensor) -> float:
    """Mean cosine of the states of the same texts, each `(texts, width)`, in float64; from -1 to 1.

    Raises:
        ShapeMismatch: where the shapes differ, or there is no text.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) == 0:
        raise ShapeMismatch(
            f"similarity compares the states of the same texts, two of shape (texts, width), found {list(first.shape)} and "
            f"{list(second.shape)}."
        )
    return cosines(first.double(), second.double(), dim=1).mean().item()
