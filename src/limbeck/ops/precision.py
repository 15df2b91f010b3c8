"""Keeps the arithmetic of losses in float32 or wider, whatever precision the models run in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """`x` in float32 where it is narrower (bfloat16, float16), else as it is."""
    return x.float() if x.element_size() < 4 else x  # mutate: equivalent constant, comparison (float of float32 is itself; no size is 3)


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature of a softmax, in float32 or wider."""
    logits = widen(logits)
    return logits if temperature == 1 else logits / temperature  # a division by 1 is a pass over memory


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which matrix products of `x` keep their precision inside an autocast region."""
    kind = "cpu" if x.device.type == "meta" else x.device.type  # of what has no contents, autocast knows no precision
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
