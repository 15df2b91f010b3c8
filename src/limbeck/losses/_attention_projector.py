"""Cross-attention from the teacher's positions to a student's map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.precision import without_autocast
from ._connectors import BatchNorm


class AttentionProjector(nn.Module):
    """A student's map as tokens of the teacher's grid and channels.

    Keys and values are the student's positions after a 3x3 convolution, batch norm and ReLU, with a learned place added. Each query
    belongs to a position of the teacher. What they gather passes layer norm and a network of two layers, added to its own input.

    Args:
        student: example map `(batch, channels, height, width)`; tells device and precision, its values are not read.
        teacher: example map.
        heads: largest number of attention heads; the one that is used divides the teacher's channels.
        softmax_scale: factor of the attention's scores, above their usual division by the root of the channels of a head.
    """

    def __init__(self, student: Tensor, teacher: Tensor, *, heads: int, softmax_scale: float) -> None:
        super().__init__()
        inner, outer = student.shape[1], teacher.shape[1]
        self.heads = max(number for number in range(1, heads + 1) if outer % number == 0)
        self.scale = softmax_scale * (outer // self.heads) ** -0.5
        self.place = nn.Parameter(student.new_empty(student.shape[1:], dtype=student.dtype))
        nn.init.trunc_normal_(self.place, std=0.02)
        self.query = nn.Parameter(nn.init.normal_(teacher.new_empty(teacher.shape[2:].numel(), outer, device=student.device)))
        self.enter, self.norm_in = nn.Conv2d(inner, inner, 3, padding=1), BatchNorm(inner)
        self.ask, self.to_query, self.to_key, self.to_value = (nn.Linear(a, outer) for a in (outer, outer, inner, inner))
        self.leave, self.norm_out = nn.Linear(outer, outer), nn.LayerNorm(outer)
        self.widen, self.narrow = nn.Linear(outer, 4 * outer), nn.Linear(4 * outer, outer)
        self.to(device=student.device, dtype=student.dtype)

    def forward(self, student: Tensor, query: Tensor | None = None) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, positions, channels)` of the teacher.

        Args:
            student: the map, in the precision of the parameters.
            query: `(batch, positions, channels)` in place of the learned one.
        """
        with without_autocast(student):
            seen = (F.relu(self.norm_in(self.enter(student))) + self.place).flatten(2).mT
            asked = self.to_query(F.relu(self.ask(self.query.expand(len(student), -1, -1) if query is None else query)))
            q, k, v = (self._split(x) for x in (asked, self.to_key(seen), self.to_value(seen)))
            gathered = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
            normed = self.norm_out(self.leave(gathered.transpose(1, 2).flatten(2)))
            return normed + self.narrow(F.relu(self.widen(normed)))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def tokens_as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """`(batch, positions, channels)` as a map of the height and width of `like`."""
    return torch.unflatten(tokens.mT, 2, like.shape[2:])
