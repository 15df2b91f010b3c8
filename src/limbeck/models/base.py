"""What a model is asked for, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ShapeMismatch
from .lora import Lora
from .prompt import Prompt
from .scaling import Sources
from .shrink import Shrink


@dataclass(frozen=True)
class Normalization:
    """Per-channel input normalisation, `(x - mean) / std`."""

    mean: tuple[float, ...]
    """One value a channel (or column), or one for all."""
    std: tuple[float, ...]
    """One value a channel (or column), or one for all; positive."""

    def apply(self, x: Tensor) -> Tensor:
        """Normalises `x` of shape `(batch, channels, ...)` or `(batch, columns)`.

        Raises:
            ShapeMismatch: where the number of channels is not the number of values.
        """
        for values in (self.mean, self.std):
            if len(values) not in (1, x.shape[1]):
                raise ShapeMismatch(
                    f"the normalisation has {len(values)} values, the input of shape {tuple(x.shape)} has {x.shape[1]} channels; "
                    "give one value a channel, or one for all."
                )
        mean, std = _constants(self.mean, self.std, x.ndim, x.device, x.dtype)
        return (x - mean) / std


@lru_cache(maxsize=64)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], ndim: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Mean and std as tensors that broadcast over `(batch, channels, ...)`; kept, so that a step copies nothing to the device."""
    shape = (1, -1, *[1] * (ndim - 2))
    with torch.inference_mode(False):
        return torch.tensor(mean, device=device, dtype=dtype).view(shape), torch.tensor(std, device=device, dtype=dtype).view(shape)


@dataclass(frozen=True)
class ModelRequest:
    """A model by reference, and where its weights come from."""

    model: str
    """`timm:NAME`, `torchvision:NAME`, `hf:ID_OR_FOLDER`, a built-in such as `convnet`, or `module:callable`."""
    weights: str | None = None
    """A `.safetensors` or `.pt` file, a run directory, `pretrained`, or `hub:ID`; None means random."""
    prefix: Mapping[str, str] = field(default_factory=dict)
    """Renames the beginning of parameter names of a foreign checkpoint."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the builder."""
    normalize: Literal["auto", "data", "none"] | Normalization = "auto"
    """`auto`: the model's own where its weights come with one, else the data's."""
    view: str | None = None
    """The view of the data for which it is built and that it sees; None for the examples themselves."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """Type of the weights in memory; `auto`: as the file has them."""
    gradient_checkpointing: bool = False
    """Whether layers are run again in the backward pass instead of keeping what they computed."""
    shrink: Shrink | None = None
    """What is kept of the model."""
    lora: Lora | None = None
    """Adapters that learn beside the model, which then stays as it is."""
    prompt: Prompt | None = None
    """A prompt that learns before the model, which then stays as it is."""
    sources: Sources | None = None
    """Models whose changes are scaled, beside which only the scales and the head learn."""
    lazy: float | None = None
    """The factor of a lazy model, whose output is its change since its beginning, enlarged."""


@dataclass(frozen=True)
class BuiltModel:
    """A model and how its inputs are normalised."""

    module: nn.Module
    normalization: Normalization | None
    request: ModelRequest
    frozen: frozenset[str] = frozenset()
    """Names of the parameters that never learn: those beside adapters or a prompt."""
