"""What some losses ask for beyond a model's logits and layers: its classifier, indices, rotated views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ShapeMismatch, SignalMissing, TapError
from ..taps.head import find_head
from ..types import Batch, Head, Signals

Call = Callable[[Any, Batch], Signals]


@dataclass(frozen=True)
class Asked:
    """What the terms of an objective ask of one model."""

    head: bool = False
    extra: frozenset[str] = frozenset()
    rotations: bool = False


def equip(call: Call, module: nn.Module, asked: Asked) -> Call:
    """A call whose signals hold what is asked for.

    Args:
        call: runs a model on a batch.
        module: the model itself, in which its classifier is looked for.
        asked: what is missing; where it is nothing, `call` is returned as it is.

    Raises:
        TapError: where no linear layer makes the logits; of the call, where the one that was found makes another number of them.
    """
    if asked == Asked():
        return call
    layer = find_head(module) if asked.head else None

    def equipped(model: Any, batch: Batch) -> Signals:
        signals = _rotated(call, model, batch) if asked.rotations else call(model, batch)
        extra = {name: _extra(batch, name) for name in asked.extra}
        # The parameters are looked up anew: an optimizer or a wrapper may have replaced them.
        head = Head(layer.weight.flatten(1), layer.bias) if layer is not None else None
        if head is not None and signals.logits is not None:
            _makes(head, signals.logits, module)
        return replace(signals, extra={**signals.extra, **extra}, head=head)

    return equipped


def _makes(head: Head, logits: Tensor, module: nn.Module) -> None:
    if head.weight.shape[0] != logits.shape[-1]:
        raise TapError(
            f"the last linear layer of {type(module).__name__} makes {head.weight.shape[0]} values and the model {logits.shape[-1]} "
            "logits, so it is not the classifier; this loss needs one, registered after all other linear layers."
        )


def _extra(batch: Batch, name: str) -> Tensor:
    if name == "index":
        return batch.index.to(batch.inputs.device) if isinstance(batch.inputs, Tensor) else batch.index
    value = batch.extra.get(name)
    if not isinstance(value, Tensor):
        known = sorted(key for key, item in batch.extra.items() if isinstance(item, Tensor))
        raise SignalMissing(
            f"a loss needs the signal {name!r}, which the data do not give; they give {known or 'none'} beside inputs and labels."
        )
    return value


def _rotated(call: Call, model: Any, batch: Batch) -> Signals:
    """One forward over the images and their rotations, so that batch statistics see all of them."""
    images = batch.inputs
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[-1] != images.shape[-2]:
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ShapeMismatch(f"a loss on rotated images needs square images (batch, channels, size, size), found {shape}.")
    square = {name: value for name, value in batch.views.items() if isinstance(value, Tensor) and value.ndim == 4}
    views = {name: _turned(value) for name, value in square.items() if value.shape[-1] == value.shape[-2]}
    whole = call(model, Batch(_turned(images), None, batch.index.repeat(4), batch.extra, batch.epoch, views))
    views = [_part(whole, i) for i in range(4)]
    return replace(views[0], views=tuple(views[1:]))


def _turned(images: Tensor) -> Tensor:
    """The images and their rotations by 90, 180 and 270 degrees, end to end."""
    return torch.cat([torch.rot90(images, turns, (-2, -1)) for turns in range(4)])


def _part(signals: Signals, number: int) -> Signals:
    logits: Any = None if signals.logits is None else signals.logits.chunk(4)[number]
    return replace(signals, logits=logits, features={path: value.chunk(4)[number] for path, value in signals.features.items()})
