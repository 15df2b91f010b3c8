"""The student without its adapters: the model that it began as, at no cost of memory.

A student with low-rank adapters (`lora`) holds its first self: the weights beside the adapters never move. Distilling from it keeps the
student near what it was while it learns something new, as a penalty on forgetting.

Reference: the idea of Li, Hoiem, "Learning without Forgetting", ECCV 2016, arXiv:1606.09282, with the base that the adapters of Hu et al.,
"LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685, leave as it was.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from ..errors import LimbeckError
from ..taps.tapped import Tapped
from ..types import Batch, Signals
from .base import Setting, Teacher, learner_of


@final
@dataclass(eq=False, kw_only=True)
class AdapterOffTeacher(Teacher):
    """The student's own model with its adapters switched off, in evaluation mode; no second copy is held.

    The model itself is run, without whatever wraps it for training, and is left as it was: its modes, its buffers, and which of its
    parameters ask for a gradient.
    """

    source: ClassVar = "learner"

    def open(self, setting: Setting) -> None:
        self._module, self._call, request = learner_of(setting, "adapter_off"), setting.call, setting.request
        if setting.bare is None:
            raise LimbeckError("a teacher of kind 'adapter_off' needs a student with adapters (`lora`).")
        self._bare = setting.bare
        self._tapped = Tapped(self._module, request.taps, stop_early=not request.logits) if request.taps else None
        self._run: Any = self._tapped or self._module
        self._device, self._precision = request.device, request.precision

    def signals(self, batch: Batch) -> Signals:
        training = [part for part in self._module.modules() if part.training]
        precise = torch.autocast(self._device.type, self._precision) if self._precision else nullcontext()
        self._module.eval()
        try:
            with torch.no_grad(), precise, self._bare():
                return self._call(self._run, batch)
        finally:
            for part in training:
                part.training = True

    def close(self) -> None:
        if self._tapped is not None:
            self._tapped.close()
