"""Optimizers by name and learning-rate schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..errors import LimbeckError, MissingDependency, UnknownName, did_you_mean


def optimizer_names() -> dict[str, type[torch.optim.Optimizer]]:
    """Lower-case name to class of every optimizer of torch."""
    found = {name.lower(): item for name, item in vars(torch.optim).items() if inspect.isclass(item)}
    return {name: item for name, item in found.items() if issubclass(item, torch.optim.Optimizer) and item is not torch.optim.Optimizer}


def build_optimizer(
    name: str, lr: float, options: Mapping[str, Any], parameters: Iterable[nn.Parameter], *, fused: bool = True
) -> torch.optim.Optimizer:
    """An optimizer of torch, or of timm as `timm:NAME`.

    Args:
        name: class of `torch.optim` in any case, or `timm:NAME`.
        lr: learning rate.
        options: its other arguments.
        parameters: those that do not require a gradient are left out.
        fused: use torch's fused implementation where there is one and `options` do not choose another.

    Raises:
        UnknownName, LimbeckError: with the accepted names or arguments.
    """
    parameters = [p for p in parameters if p.requires_grad]
    if not parameters:
        raise LimbeckError("nothing learns in this stage: the model has no trainable parameters. Look at `trainable`.")
    if name.startswith("timm:"):
        return _timm_optimizer(name.removeprefix("timm:"), lr, options, parameters)
    known = optimizer_names()
    if name.lower() not in known:
        raise UnknownName("optimizer", name, known, "`timm:NAME` reaches those of timm.")
    cls = known[name.lower()]
    accepted = [key for key in inspect.signature(cls).parameters if key not in ("params", "lr")]
    for key in options:
        if key not in accepted:
            raise LimbeckError(f"optimizer {name!r} has no argument {key!r}.{did_you_mean(key, accepted)} It takes: {', '.join(accepted)}.")
    if "betas" in options:
        options = {**options, "betas": tuple(options["betas"])}
    # One fused kernel moves all parameters at once; torch's default on the CPU is a loop over them.
    fusible = "fused" in accepted and not options.keys() & {"fused", "foreach", "capturable", "differentiable"}
    if fusible and fused and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters):
        options = {**options, "fused": True}
    try:
        return cls(parameters, lr=lr, **options)  # pyright: ignore[reportCallIssue]
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"optimizer {name!r}: {error}") from None


def _timm_optimizer(name: str, lr: float, options: Mapping[str, Any], parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    try:
        from timm.optim import create_optimizer_v2, list_optimizers  # pyright: ignore[reportPrivateImportUsage]
    except ImportError:
        raise MissingDependency("timm", "vision", f"optimizer 'timm:{name}'") from None
    known = [str(item) for item in list_optimizers()]
    if name not in known:
        raise UnknownName("timm optimizer", name, known)
    try:
        return create_optimizer_v2(parameters, opt=name, lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"optimizer 'timm:{name}': {error}") from None


@dataclass(frozen=True)
class LRPlan:
    """Learning rate as a function of the update; only `plateau` remembers anything."""

    name: Literal["constant", "cosine", "linear", "step", "plateau"] = "cosine"
    warmup: float = 0.0
    final: float = 0.0
    milestones: Sequence[float] = (0.5, 0.75)
    gamma: float = 0.1
    patience: int = 3

    def factor(self, update: int, total: int) -> float:
        """Share of the peak rate at `update` of `total`."""
        if self.name in ("constant", "plateau") and not self.warmup:
            return 1.0
        warm = self.warmup * total if self.warmup < 1 else self.warmup
        if update < warm:
            return (update + 1) / (warm + 1)
        progress = min((update - warm) / max(total - warm, 1), 1.0)
        if self.name == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2
        if self.name == "linear":
            return 1 - (1 - self.final) * progress
        if self.name == "step":
            return self.gamma ** sum(update >= milestone * total for milestone in self.milestones)
        return 1.0


class LRControl:
    """Applies a plan to an optimizer."""

    def __init__(self, optimizer: Any, plan: LRPlan, total: int) -> None:
        self.plan, self.total, self.optimizer = plan, total, optimizer
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.drop, self.bad, self.best = 1.0, 0, -math.inf
        self._factor: float | None = None

    def set(self, update: int) -> float:
        """Sets the rate for `update` and returns that of the first group."""
        factor = self.plan.factor(update, self.total) * self.drop
        if factor != self._factor:
            for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
                group["lr"] = base * factor
            self._factor = factor
        return self.base[0] * factor

    def watch(self, score: float) -> None:
        """Tells `plateau` how the last evaluation went; larger is better."""
        if self.plan.name != "plateau":
            return
        self.bad = 0 if score > self.best else self.bad + 1
        self.best = max(self.best, score)
        if self.bad > self.plan.patience:
            self.drop, self.bad = self.drop * self.plan.gamma, 0

    def state(self) -> dict[str, float]:
        """What `plateau` remembers."""
        return {"drop": self.drop, "bad": self.bad, "best": self.best}

    def load(self, state: Mapping[str, float]) -> None:
        """Restores what `state` gave."""
        self.drop, self.bad, self.best = state["drop"], int(state["bad"]), state["best"]
        self._factor = None  # whatever rate the optimizer has by now
