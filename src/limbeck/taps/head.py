"""Finds the layer that makes a model's logits."""

from __future__ import annotations

from torch import nn

from ..errors import TapError

Classifier = nn.Linear | nn.Conv2d


def find_head(module: nn.Module) -> Classifier:
    """The last linear layer (or 1x1 convolution), in the order of registration: the classifier of nearly every model.

    Raises:
        TapError: where there is none.
    """
    found = [m for m in module.modules() if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1))]
    linear = [m for m in found if isinstance(m, nn.Linear)]
    if not found:
        raise TapError(f"{type(module).__name__} has no linear layer, so its classifier cannot be found; this loss needs one.")
    return (linear or found)[-1]
