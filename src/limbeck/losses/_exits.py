"""Ways out of a model before its end, that losses learn on its inner layers; they are gone once it is exported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import SignalMissing
from ..ops.layouts import as_map
from .ofa import exit_for


class Exit(nn.Module):
    """From a layer to a vector `(batch, width)`, and from this to logits `(batch, outputs)`.

    Args:
        feature: an example of the layer, of any layout.
        width: of the vector.
        outputs: number of logits.
        halvings: how often height and width are halved by convolutions before the positions are averaged.
    """

    def __init__(self, feature: Tensor, *, width: int, outputs: int, halvings: int) -> None:
        super().__init__()
        layers = exit_for(as_map(feature), halvings=halvings, width=width, classes=outputs)
        self.body, self.head = layers[:-1], layers[-1]

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """The vector and the logits."""
        vector = self.body(as_map(feature))
        return vector, self.head(vector)


def halvings_to(features: Sequence[Tensor]) -> list[int]:
    """How often the height of each layer must be halved to be that of the last."""
    sides = [as_map(feature).shape[2] for feature in features]
    return [max(round(math.log2(side / sides[-1])), 0) for side in sides]


def layers_of(features: Mapping[str, Tensor], least: int, who: str) -> list[Tensor]:
    """The tapped layers, from the shallowest to the deepest.

    Raises:
        SignalMissing: where there are fewer than `least`.
    """
    if len(features) < least:
        raise SignalMissing(f"{who} needs {least} or more layers of the student, the deepest last; found {list(features) or 'none'}.")
    return list(features.values())


def joint_labels(labels: Tensor, views: int) -> Tensor:
    """Class and view of every view, `(batch,)` to `(batch, views)`: `views` times the class plus the view, -100 where unlabelled."""
    joint = labels.unsqueeze(1) * views + torch.arange(views, device=labels.device)
    return torch.where((labels < 0).unsqueeze(1), labels.unsqueeze(1), joint)
