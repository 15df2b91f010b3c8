"""The loop. Everything that happens in training happens here, in this order.

for every update: batches -> step (teachers, learner, objective, backward, optimizer) -> rates, averages, logs
at the end of an epoch, every `evaluate_every`: evaluation -> best weights -> early stop -> checkpoint
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..data.compose import Composition
from ..data.loader import EpochPlan, train_loader
from ..errors import Interrupted
from ..objective import Counts
from ..types import Batch, labelled
from .alignment import check_alignment
from .checkpoint import seed_everything
from .member import Member
from .mixture import Mixture
from .stage import Stage
from .watch import LossWatch


@dataclass(frozen=True)
class Outcome:
    """How a round ended. The learner's model holds the weights that are handed on."""

    updates: int
    epochs: int
    seconds: float
    best_step: int
    best: float | None
    """Value of the monitored metric at the best evaluation; None where there was none."""
    peers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each peer: `best`, `best_step`, and `failed`, the update at which it was found to be no longer finite, and `why`."""


def train(stage: Stage, resume: Path | None = None) -> Outcome:
    """Trains one round of a stage, from its beginning or from a checkpoint.

    Raises:
        NonFinite: where a term is no longer finite; the last checkpoint is kept.
        Interrupted: after a checkpoint, where the user asked to stop.
    """
    plan, progress = stage.plan, stage.progress
    per_epoch = epoch_plan(stage, 0).updates
    total = prepare(stage)
    check_alignment(stage.context, stage.train, plan.seed if plan.replay is None else plan.replay[0])
    began = stage.journal.seconds
    if resume is not None:
        stage.restore(resume)
        progress = stage.progress
    watch = stage.watch()
    if resume is None:
        seed_everything(plan.seed + stage.context.backend.rank)
        stage.save(watch)
    stage.listener.stage(plan.name, plan.learner, plan.round, plan.rounds, total, progress.update)
    stage.train_mode()

    # A checkpoint may stand after the last update of an epoch and before what follows it; then only that is left to do.
    while (progress.update < total or progress.within == per_epoch) and not _exhausted(stage):
        for batches in updates(stage):
            one_update(stage, batches, watch, total)
            progress.within += 1
            _after_update(stage, watch)
            if progress.update >= total:
                break
        if progress.within < per_epoch:  # the number of steps ends within an epoch
            break
        progress.epoch, progress.within = progress.epoch + 1, 0
        _after_epoch(stage, watch, last=progress.update >= total)

    stage.log(watch)
    if progress.within:
        stage.judge()
    hand_on(stage)
    ends = {member.name: _end(member, plan.maximize) for member in stage.members}
    own = ends.pop(stage.learner.name)
    seconds = stage.journal.seconds - began
    return Outcome(progress.update, progress.epoch, seconds, stage.learner.best_step, own["best"], ends)


def _end(member: Member, maximize: bool) -> dict[str, Any]:
    best = None if member.best is None else member.best * (1 if maximize else -1)
    return {"best": best, "best_step": member.best_step, "failed": member.failed, "why": member.why}


def prepare(stage: Stage) -> int:
    """Tells every player how many updates there will be, lets the step make its state, and returns that number."""
    plan = stage.plan
    total = plan.steps if plan.steps is not None else plan.epochs * epoch_plan(stage, 0).updates
    for player in stage.context.players.values():
        if player.rate is not None:
            player.rate.total = total
    stage.step.setup()
    return total


def epoch_plan(stage: Stage, epoch: int) -> EpochPlan:
    """Which examples make the updates of an epoch, on this process."""
    plan, backend = stage.plan, stage.context.backend
    return EpochPlan(
        len(stage.train),
        batch_size=plan.batch_size,
        accumulate=plan.accumulate,
        rank=backend.rank,
        world=backend.world,
        crops=plan.crops,
        seed=plan.seed,
        epoch=epoch,
    ).over(stage.train.groups.numpy() if stage.train.groups is not None else None)


def updates(stage: Stage) -> Iterator[list[Batch]]:
    """The batches of each update that is left in the epoch."""
    progress, plan = stage.progress, stage.plan
    composition = Composition(plan.crops, plan.mixing, plan.seed, plan.replay)
    order = epoch_plan(stage, progress.epoch)
    if stage.mixture is not None:
        yield from _mixed(stage, stage.mixture, order, composition)
        return
    loader = iter(train_loader(stage.train, order, start_update=progress.within, workers=plan.workers, composition=composition))
    while batches := list(islice(loader, plan.accumulate)):
        yield [batch.by_sequence() for batch in batches] if plan.by_sequence else batches


def _mixed(stage: Stage, mixture: Mixture, epoch: EpochPlan, composition: Composition) -> Iterator[list[Batch]]:
    """The same where domains are mixed by changing shares: an epoch is as long, and what is in it is shared out every so many updates."""
    progress, plan = stage.progress, stage.plan
    while progress.within < epoch.updates:
        if mixture.due(progress.update):
            stage.mix(mixture, epoch.per_update)
        done = progress.update - mixture.window
        count = min(mixture.every - done, epoch.updates - progress.within)
        order = epoch_plan(stage, progress.epoch).drawn(mixture.order(epoch.per_update))
        loader = iter(train_loader(stage.train, order, start_update=done, workers=plan.workers, composition=composition))
        for _ in range(count):
            batches = list(islice(loader, plan.accumulate))
            yield [batch.by_sequence() for batch in batches] if plan.by_sequence else batches


def one_update(stage: Stage, batches: list[Batch], watch: LossWatch, total: int) -> None:
    """Makes an update of `total`."""
    context, progress = stage.context, stage.progress
    context.progress = progress.update / max(total - 1, 1)
    context.learner.objective.set_progress(context.progress)
    for player in context.players.values():
        if player.rate is not None:
            player.rate.set(progress.update)
    values = stage.step.update(batches, _counts(stage, batches))
    for teacher in context.teachers.values():
        teacher.after_step(context.learner.model)
    for average in stage.averages:
        average.update()
    progress.update += 1
    watch.add(progress.update, values, [batch.index for batch in batches])


def _counts(stage: Stage, batches: list[Batch]) -> Counts:
    """What the update holds, over its forward passes and all processes; nothing is read back from the device."""
    backend = stage.context.backend
    examples: float | torch.Tensor = float(sum(batch.units for batch in batches))
    if not stage.partly_labelled:
        if backend.world > 1:
            examples = backend.sum(torch.tensor(examples, device=backend.device))
        return Counts(examples, examples, backend.world)
    known = float(sum(_known(batch) for batch in batches))
    if backend.world == 1:
        return Counts(examples, known)
    both = backend.sum(torch.tensor([examples, known], device=backend.device))
    return Counts(both[0], both[1], backend.world)


def _known(batch: Batch) -> float:
    """Labelled examples of a batch; of an input that is mixed of two, the shares of those with a label."""
    if batch.labels is None:
        return 0.0
    mask = labelled(batch.labels)
    if batch.mixed is None:
        return float(mask.sum())
    share = batch.mixed.share.double()
    return float((share * mask + (1 - share) * labelled(batch.mixed.labels)).sum())


def _after_update(stage: Stage, watch: LossWatch) -> None:
    plan, progress = stage.plan, stage.progress
    stage.listener.update(progress.update)
    due = progress.update % plan.log_every == 0
    if due:
        stage.log(watch)
    # With several processes all must agree to stop, which costs an exchange; so it is asked only when a line is due.
    world = stage.context.backend.world
    if (world == 1 and stage.interrupted()) or (world > 1 and due and any(stage.context.backend.gather_objects(stage.interrupted()))):
        stage.save(watch)
        raise Interrupted(f"stopped at update {progress.update} of stage {plan.name!r}; everything is saved.")
    if plan.checkpoint_every and progress.update % plan.checkpoint_every == 0:
        stage.save(watch)


def _after_epoch(stage: Stage, watch: LossWatch, *, last: bool) -> None:
    due = last or stage.progress.epoch % stage.plan.evaluate_every == 0
    improved = False
    if due:
        stage.log(watch)
        improved = stage.judge()
    for teacher in stage.context.teachers.values():
        teacher.after_epoch(stage.context.learner.model, improved)
    if due:
        stage.save(watch)


def _exhausted(stage: Stage) -> bool:
    """Whether patience has run out."""
    patience = stage.plan.patience
    return patience is not None and stage.progress.waited >= patience


def hand_on(stage: Stage) -> None:
    """Puts the weights that the round hands on into the model of every member."""
    stage.context.backend.wait()
    for member in stage.members if stage.context.backend.is_main else ():
        member.keep_last(stage.progress.update, select_best=stage.plan.select_best)
    for member in stage.members:
        member.hand_on(select_best=stage.plan.select_best)
