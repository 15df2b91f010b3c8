"""What a language model is told of its inputs: positions with padding on either side, and several documents in one row.

Inputs may hold `segments`, `(batch, tokens)`: the number of the document of each token, -1 for padding, with `position_ids` that
start at 0 in each document. No token then sees another document.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError

SEGMENTS = "segments"


@dataclass(frozen=True)
class Reading:
    """A forward pre-hook of a model of transformers: brings the inputs of the data into the form that the model takes."""

    causal: bool
    """Whether tokens see only those before them."""
    positions: bool
    """Whether the model takes `position_ids`."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the forward as the model takes them."""
        if SEGMENTS in inputs:
            return args, self._packed(module, dict(inputs))
        mask = inputs.get("attention_mask")
        if self.causal and self.positions and isinstance(mask, Tensor) and mask.ndim == 2 and inputs.get("position_ids") is None:
            # With padding on the left a model would count from the first pad.
            inputs = {**inputs, "position_ids": (mask.long().cumsum(1) - 1).clamp(min=0)}
        return args, inputs

    def _packed(self, module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        segments = inputs.pop(SEGMENTS)
        if not self.positions:
            raise ModelError(f"{type(module).__name__} takes no position_ids, so several documents cannot share a row; do not pack them.")
        inputs["position_ids"] = inputs["position_ids"].masked_fill(segments < 0, 0)
        # Causal models of transformers see by positions that do not go on where a document begins, in all their kinds of attention
        # (sliding windows, chunks); each pad is then a document of its own. Other models are told by a mask for every pair of tokens.
        inputs["attention_mask"] = None if self.causal else _same_document(segments, next(module.parameters()).dtype)
        return {**inputs, "use_cache": False} if self.causal else inputs


def _same_document(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """0 for two tokens of one document, else the least number, `(batch, 1, tokens, tokens)`; a pad sees the pads."""
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return torch.zeros(same.shape, dtype=dtype, device=same.device).masked_fill(~same, torch.finfo(dtype).min)


def read_documents(module: nn.Module, *, causal: bool) -> None:
    """Lets a model of transformers take `segments`, and padding on the left."""
    positions = "position_ids" in inspect.signature(type(module).forward).parameters
    module.register_forward_pre_hook(Reading(causal, positions), with_kwargs=True)


def reads_documents(module: nn.Module) -> bool:
    """Whether a model was told to take `segments`."""
    return any(isinstance(hook, Reading) for hook in module._forward_pre_hooks.values())  # noqa: SLF001 - there is no other way to ask


def check_packing(module: nn.Module) -> None:
    """Proves on two short made-up documents that a model reads them in one row as it reads each alone; runs nothing on the meta device.

    Raises:
        ModelError: where it does not, as models that go through a row from left to right with a memory.
    """
    parameter = next(module.parameters())
    if parameter.device.type == "meta":
        return
    lengths, total = (3, 2), 6
    ids = torch.arange(2, 2 + total, device=parameter.device)[None]
    segments, positions = torch.tensor([[0, 0, 0, 1, 1, -1]]).to(ids), torch.tensor([[0, 1, 2, 0, 1, 0]]).to(ids)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            packed = module(input_ids=ids, position_ids=positions, segments=segments).logits[:, : sum(lengths)]
            alone = [module(input_ids=part).logits for part in ids[:, : sum(lengths)].split(lengths, 1)]
    except RuntimeError as error:
        raise ModelError(f"{type(module).__name__} cannot read several documents in one row ({error}); do not pack them.") from error
    finally:
        for part in training:
            part.training = True
    expected = torch.cat(alone, 1).float()
    tolerance = 1e-3 if parameter.dtype == torch.float32 else 5e-2
    if not bool(((packed.float() - expected).abs() <= tolerance * expected.abs().max()).all()):
        raise ModelError(
            f"{type(module).__name__} does not keep the documents of a row apart: what it says of one depends on the one before. "
            "Do not pack documents for this model."
        )
