"""Exponential moving average of a model's weights, kept as tensors outside the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    r"""Running average :math:`\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta` after every update.

    Buffers that are numbers with a fraction are averaged too; counters are copied. The decay is warmed up as
    :math:`\min(d, (1 + n) / (10 + n))` at the n-th move, so that short trainings are not held at their initial weights.

    Args:
        module: what is averaged.
        decay: the share d.
        mean: the plain mean of all weights since `begin` (stochastic weight averaging, arXiv:1803.05407) instead.
        every: updates between two moves.
        begin: updates after which averaging starts; until then the average is the module itself.
        warmup: whether the decay is warmed up.
    """

    def __init__(self, module: nn.Module, decay: float, *, mean: bool = False, every: int = 1, begin: int = 0, warmup: bool = True) -> None:
        self.module, self.decay, self.updates = module, decay, 0
        self.mean, self.every, self.begin, self.warmup = mean, every, begin, warmup
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the module's weights."""
        since, self.updates = self.updates - self.begin, self.updates + 1
        if since >= 0 and since % self.every:
            return
        decay = 0.0 if since < 0 else self._keep(since // self.every)
        current = self.module.state_dict()
        real = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage] - documented, though underscored
            [self.average[name] for name in real], [current[name] for name in real], 1 - decay
        )
        for name in self.average.keys() - set(real):
            self.average[name].copy_(current[name])

    def _keep(self, moves: int) -> float:
        """Share of the old average that is kept after so many moves."""
        if self.mean:
            return moves / (moves + 1)
        return min(self.decay, (2 + moves) / (11 + moves)) if self.warmup else self.decay

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
