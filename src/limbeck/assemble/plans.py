"""How a round of a stage is trained."""

from __future__ import annotations

from torch import nn

from ..config.train_schema import EMASpec
from ..data.loader import EpochPlan
from ..engine.ema import EMA
from ..engine.optim import LRPlan
from ..engine.stage import Plan
from ..tasks.base import Task
from .requests import build_mixing
from .stages import Phase


def plan(phase: Phase, task: Task, *, seed: int, round: int, steps: int | None, allow_code: bool = False) -> Plan:  # noqa: A002
    """How one round of a phase is trained.

    Args:
        steps: a number of updates that overrides the phase's own.
    """
    train = phase.train
    rate = train.schedule
    monitor = train.monitor or task.monitor
    return Plan(
        name=phase.name,
        learner=phase.learner,
        round=round,
        rounds=phase.repeat,
        seed=seed,
        epochs=train.epochs,
        steps=steps if steps is not None else train.steps,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        workers=train.workers,
        clip=train.clip,
        rate=LRPlan(rate.name, rate.warmup, rate.final, tuple(rate.milestones), rate.gamma, rate.patience),
        log_every=train.log_every,
        evaluate_every=train.evaluate_every,
        checkpoint_every=train.checkpoint_every,
        monitor=monitor,
        maximize=task.better.get(monitor, True),
        select_best=train.select == "best",
        patience=train.early_stop.patience if train.early_stop else None,
        min_delta=train.early_stop.min_delta if train.early_stop else 0.0,
        crops=phase.data.crops,
        mixing=build_mixing(phase.data, allow_code=allow_code),
        by_sequence=train.normalize == "sequence",
    )


def length(plan: Plan, examples: int) -> tuple[int, int]:
    """Updates and epochs of a round on so many training examples."""
    per_epoch = EpochPlan(examples, batch_size=plan.batch_size, crops=plan.crops).updates
    updates = plan.steps or plan.epochs * per_epoch
    return updates, -(-updates // per_epoch)


def average(module: nn.Module, spec: EMASpec | None, updates: int) -> EMA | None:
    """The average that a stage of so many updates keeps of a model; None where it keeps none."""
    if spec is None:
        return None
    begin = round(spec.begin * updates)
    return EMA(module, spec.decay, mean=spec.rule == "mean", every=spec.every, begin=begin, warmup=spec.warmup)
