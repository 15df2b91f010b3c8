"""Exponential moving average of a model's weights, kept as tensors outside the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    r"""Running average :math:`\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta` after every update.

    Buffers that are numbers with a fraction are averaged too; counters are copied. The decay is warmed up as
    :math:`\min(d, (1 + n) / (10 + n))` after n updates, so that short trainings are not held at their initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = module, decay, 0
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the module's weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = self.module.state_dict()
        real = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage] - documented, though underscored
            [self.average[name] for name in real], [current[name] for name in real], 1 - decay
        )
        for name in self.average.keys() - set(real):
            self.average[name].copy_(current[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with the average as its weights, for evaluation; its own weights come back afterwards."""
        own = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.average)
        try:
            yield
        finally:
            self.module.load_state_dict(own)

    def load(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Restores a saved average."""
        self.updates = updates
        for name, value in self.average.items():
            value.copy_(average[name])
