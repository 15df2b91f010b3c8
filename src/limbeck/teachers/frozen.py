"""A pretrained model that never changes: evaluation mode, no gradient, only as much of the forward as is needed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ..taps.tapped import Tapped
from ..types import Batch, Signals
from .base import Call, Teacher, TeacherRequest
from .folding import fold


class FrozenTeacher(Teacher):
    """A fixed model.

    Its buffers do not move, because it is in evaluation mode whenever it is asked. Gradients are off through `no_grad`
    and not through inference mode, whose tensors keep no version counter, without which an in-place change of a
    tapped value would go unnoticed.
    """

    def __init__(self, module: nn.Module, call: Call, request: TeacherRequest) -> None:
        memory: dict[str, Any] = {"memory_format": torch.channels_last} if request.channels_last else {}
        module = module.to(request.device, **memory).eval().requires_grad_(False)
        self.module = module = fold(module, request.taps) if request.fold else module
        self._call = call
        self._tapped = Tapped(module, request.taps, stop_early=not request.logits) if request.taps else None
        self._run: Any = self._tapped or (torch.compile(module) if request.compile else module)
        self._device, self._precision = request.device, request.precision

    def signals(self, batch: Batch) -> Signals:
        if self.module.training:
            self.module.eval()
        precise = torch.autocast(self._device.type, self._precision) if self._precision else nullcontext()
        with torch.no_grad(), precise:
            return self._call(self._run, batch)

    def close(self) -> None:
        if self._tapped is not None:
            self._tapped.close()
