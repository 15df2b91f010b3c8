"""What every built-in model is, and the checks of arguments that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError, did_you_mean

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": F.tanh}


class Builtin(nn.Module):
    """Base of built-in models.

    The constructor takes `num_outputs` and `input_shape`, and the model's own arguments by keyword.
    """


def image_shape(model: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """`(channels, height, width)`, or an error where the data holds no images."""
    if len(input_shape) != 3:
        raise ModelError(f"{model} reads images (channels, height, width); the data has inputs of shape {tuple(input_shape)}. Try mlp.")
    channels, height, width = input_shape
    return channels, height, width


def positive_integers(model: str, name: str, values: Sequence[int]) -> list[int]:
    """`values` as a list of at least one positive integer."""
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not good or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values):
        raise ModelError(f"{model}: {name} must be a list of positive integers such as [16, 32], got {values!r}.")
    return list(values)


def positive_integer(model: str, name: str, value: int) -> int:
    """`value`, checked."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{model}: {name} must be a positive integer, got {value!r}.")
    return value


def probability(model: str, name: str, value: float) -> float:
    """`value`, checked to lie in [0, 1)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise ModelError(f"{model}: {name} must be at least 0 and below 1, got {value!r}.")
    return float(value)


def activation(model: str, name: str) -> Callable[[Tensor], Tensor]:
    """The activation function called `name`."""
    if name not in ACTIVATIONS:
        raise ModelError(f"{model}: activation must be {', '.join(ACTIVATIONS)}, got {name!r}.{did_you_mean(str(name), ACTIVATIONS)}")
    return ACTIVATIONS[name]
