r"""Soft prompts: keys and values that are learnt, and that every token attends to in every layer as if a text stood before its own.

Of :math:`P` prompt tokens layer :math:`l` attends from its queries :math:`Q_l` to

.. math:: softmax\left(\frac{Q_l [K^P_l; K_l]^\top}{\sqrt{d}}\right) [V^P_l; V_l]

Reference: Li, Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", ACL 2021, arXiv:2101.00190; Liu et al., "P-Tuning v2:
Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales and Tasks", ACL 2022, arXiv:2110.07602, which is what is done here:
the keys and values themselves are learnt, without a network that makes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """The keys and values of a prompt.

    Args:
        length: number of prompt tokens.
        layers: layers of attention.
        heads: heads of keys and values in each.
        width: of a head.
        spread: standard deviation of the keys and values at first.
        dropout: of the keys and values.

    Attributes:
        weight: `(length, 2 * layers * heads * width)`; of each token the key, then the value, of the first layer, of the second, and so on.
        on: whether it is read; while it is not, the model is what it was without a prompt.
    """

    def __init__(self, length: int, layers: int, heads: int, width: int, *, spread: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.length, self.layers, self.heads, self.width, self.dropout = length, layers, heads, width, dropout
        self.on = True
        self.weight = nn.Parameter(torch.randn(length, 2 * layers * heads * width) * spread)

    def pairs(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer, each `(batch, heads, length, width)`."""
        values = F.dropout(self.weight, self.dropout, self.training)
        parts = values.view(self.length, 2 * self.layers, self.heads, self.width).permute(1, 2, 0, 3)
        every = parts.unsqueeze(1).expand(-1, batch, -1, -1, -1)
        return [(every[2 * layer], every[2 * layer + 1]) for layer in range(self.layers)]


def prompt_length(module: nn.Module) -> int:
    """How many prompt tokens a model has; 0 without a prompt."""
    return sum(part.length for part in module.modules() if isinstance(part, SoftPrompt))
