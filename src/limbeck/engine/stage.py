"""One round of a stage as objects, and how it is saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..data.base import Examples
from ..data.mixing.base import Mixing
from ..errors import NonFinite
from ..files import writing
from ..types import Batch, Signals
from . import checkpoint
from .ema import EMA
from .learner import Learner
from .member import Member
from .mixture import Mixture
from .optim import LRPlan
from .steps.base import Context, Step
from .watch import Journal, Listener, LossWatch


@dataclass(frozen=True)
class Plan:
    """How a round of a stage is trained."""

    name: str
    learner: str
    round: int = 0
    rounds: int = 1
    seed: int = 0
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    workers: int = 0
    clip: float | None = None
    rate: LRPlan = field(default_factory=LRPlan)
    log_every: int = 10
    evaluate_every: int = 1
    checkpoint_every: int | None = None
    monitor: str = ""
    maximize: bool = True
    select_best: bool = True
    patience: int | None = None
    min_delta: float = 0.0
    replay: tuple[int, int] | None = None
    """Seed and number of the augmentations that a store of teacher signals holds; they come again in turn."""
    crops: int = 1
    """Augmentations of each example in an update."""
    mixing: Mixing | None = None
    """How the examples of an update are mixed."""
    by_sequence: bool = False
    """Whether every document counts alike, and not every trained token."""


@dataclass
class Progress:
    """Where a round stands; everything here is in the checkpoint."""

    update: int = 0
    epoch: int = 0
    within: int = 0
    """Updates done in the current epoch."""
    waited: int = 0
    """Evaluations since the last improvement."""


@dataclass
class Stage:
    """The objects of one round, ready to train."""

    plan: Plan
    context: Context
    step: Step
    train: Examples
    partly_labelled: bool
    members: tuple[Member, ...]
    """The learner, and its peers after it."""
    journal: Journal
    listener: Listener
    folder: Path
    """The run's folder."""
    tag: Mapping[str, Any]
    """Which stage and round this is, for the checkpoint."""
    interrupted: Callable[[], bool]
    progress: Progress = field(default_factory=Progress)
    mixture: Mixture | None = None
    """The domains among which the examples are shared out."""

    def __post_init__(self) -> None:
        self.averages: tuple[EMA, ...] = ()
        self._count_averages()

    @property
    def learner(self) -> Member:
        """Whose validation decides when the stage ends."""
        return self.members[0]

    def watch(self) -> LossWatch:
        """The watch over the values that the step returns."""
        peers = [member.name for member in self.members[1:]]
        return LossWatch(self.plan.name, self.step.labels, self.context.backend.sum, peers)

    def train_mode(self) -> None:
        """Puts every member into training mode."""
        for member in self.members:
            member.learner.train()

    def active(self) -> list[Member]:
        """The members that still learn."""
        return [member for member in self.members if member.failed is None]

    def _count_averages(self) -> None:
        self.averages = tuple(member.ema for member in self.active() if member.ema is not None)

    def mix(self, mixture: Mixture, per_update: int) -> None:
        """Shares the next updates out among the domains, and notes the shares."""
        context, model = self.context, self.learner.learner.model
        device, training = context.backend.device, model.training

        def student(batch: Batch) -> Signals:
            return context.calls[self.plan.learner](model, batch.to(device))

        def teacher(batch: Batch) -> Signals:
            return context.teachers[mixture.teacher].signals(batch.to(device))

        model.eval()
        try:
            self.record("mixture", mixture.renew(self.progress.update, per_update, student, teacher))
        finally:
            model.train(training)

    # judging

    def judge(self) -> bool:
        """Judges every member on the validation split; whether the learner is better than ever."""
        if self.learner.evaluate is None:
            return False
        found = {member.name: metrics for member in self.active() if (metrics := self._metrics(member)) is not None}
        self.record("valid", {self._label(name, key): value for name, own in found.items() for key, value in own.items()})
        improved = [self._keep_best(member, found[member.name]) for member in self.active()]
        self.progress.waited = 0 if improved[0] else self.progress.waited + 1
        return improved[0]

    def _metrics(self, member: Member) -> dict[str, float] | None:
        """Metrics of a member; None where it is a peer that says nothing finite any more."""
        try:
            with member.judged():
                return member.evaluate() if member.evaluate is not None else None
        except NonFinite:
            if member is self.learner:
                raise
            self.retire(member, "its outputs are not a number on the validation split")
            return None

    def _keep_best(self, member: Member, metrics: Mapping[str, float]) -> bool:
        """Notes an evaluation; saves the weights where it is the best so far. Returns whether it improved."""
        score = metrics[self.plan.monitor] * (1 if self.plan.maximize else -1)
        self.context.player(member.name).rate.watch(score)  # pyright: ignore[reportOptionalMemberAccess]
        if member.best is not None and not score > member.best + self.plan.min_delta:
            return False
        member.best, member.best_step = score, self.progress.update
        if self.context.backend.is_main and self.plan.select_best:
            with writing(member.best_file) as temporary:
                checkpoint.save_tensors(temporary, member.weights())
        return True

    def retire(self, member: Member, why: str) -> None:
        """Lets a peer that is no longer finite learn and speak no more, and says so; the others go on.

        Raises:
            NonFinite: where the learner listened to nobody else.
        """
        text = f"stage {self.plan.name!r}: the peer {member.name!r} failed by update {self.progress.update}: {why}."
        member.failed, member.why = self.progress.update, why
        alone = self._exclude(member)
        self.listener.message(f"{text} It is left out from here on; the others go on.")
        self.record("failed", {member.name: self.progress.update})
        for other in [other for other in self.active() if other.name in alone]:
            if other is self.learner:
                raise NonFinite(f"{text} {self.plan.learner!r} has nothing else to learn from, so the stage ends here.")
            self.retire(other, f"it listened to nobody but {member.name!r}")

    def _exclude(self, member: Member) -> list[str]:
        cohort = self.context.cohort
        self._count_averages()
        return cohort.retire(member.name) if cohort is not None else []

    # checkpoints

    def save(self, watch: LossWatch) -> None:
        """Writes a checkpoint, after the losses since the last one were found finite."""
        self.log(watch)
        context, backend = self.context, self.context.backend
        tensors, plain = checkpoint.random_state()
        states = backend.gather_objects((tensors, plain))
        if backend.is_main:
            groups: dict[str, Mapping[str, torch.Tensor]] = {"learner": context.learner.changing()}
            state: dict[str, Any] = {
                "tag": dict(self.tag),
                "progress": vars(self.progress),
                "journal": {"lines": self.journal.lines, "seconds": self.journal.seconds},
                "scaler": backend.scaler_state(),
                "random": [plain for _, plain in states],
                "players": {},
                "marks": {member.name: member.learner.mark() for member in self.members},
                "members": {member.name: member.state() for member in self.members},
                "samples": list(context.samples),
            }
            groups |= {f"random-{rank}": tensors for rank, (tensors, _) in enumerate(states)}
            for member in self.members:
                if member.ema is not None:
                    still = member.learner.still()
                    groups[self._average(member)] = {name: value for name, value in member.ema.average.items() if name not in still}
            for name, player in context.players.items():
                if name != "learner":
                    own = _bare(player.module)
                    groups[f"player-{name}"] = own.changing() if isinstance(own, Learner) else own.state_dict()
                if player.optimizer is not None and player.rate is not None:
                    moments, settings = checkpoint.split_optimizer(player.optimizer)
                    groups[f"optimizer-{name}"] = moments
                    state["players"][name] = {"optimizer": settings, "rate": player.rate.state()}
            groups |= {} if self.mixture is None else {"mixture": self.mixture.state()}
            groups |= {f"samples-{name}": samples.state() for name, samples in context.samples.items()}
            groups |= {f"teacher-{name}": teacher.state() for name, teacher in context.teachers.items() if teacher.state()}
            checkpoint.save(self.folder / "checkpoints", _name(self.tag, self.progress.update), groups, state)
        backend.wait()

    def restore(self, path: Path) -> None:
        """Goes back to a checkpoint, bit by bit; the random state comes last."""
        groups, state = checkpoint.load(path)
        context = self.context
        context.learner.restore(groups["learner"], state.get("marks", {}).get(self.members[0].name, 0))
        self.progress = Progress(**state["progress"])
        self.journal.resume(state["journal"]["lines"], state["journal"]["seconds"])
        context.backend.load_scaler(state["scaler"])
        for member in self.members:
            saved = state["members"][member.name]
            member.load_state(saved)
            if member.ema is not None:
                member.ema.load({**member.ema.average, **groups[self._average(member)]}, saved["ema"])
        self._restore_players(groups, state)
        for member in self.members:
            if member.failed is not None:
                self._exclude(member)
        self._restore_data(groups, state["samples"])
        for name, teacher in context.teachers.items():
            teacher.load_state(groups.get(f"teacher-{name}", {}))
        rank = min(context.backend.rank, len(state["random"]) - 1)
        checkpoint.restore_random_state(groups[f"random-{rank}"], state["random"][rank])

    def _restore_players(self, groups: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]) -> None:
        """Models beside the learner, and all optimizers."""
        for name, player in self.context.players.items():
            if name != "learner":
                own, tensors = _bare(player.module), groups[f"player-{name}"]
                if isinstance(own, Learner):
                    own.restore(tensors, state.get("marks", {}).get(name, 0))
                else:
                    own.load_state_dict(tensors)
            if player.optimizer is not None and player.rate is not None:
                saved = state["players"][name]
                checkpoint.join_optimizer(player.optimizer, groups.get(f"optimizer-{name}", {}), saved["optimizer"])
                player.rate.load(saved["rate"])

    def _restore_data(self, groups: Mapping[str, Any], samples: list[str]) -> None:
        """What is kept of examples and domains."""
        for name in samples:
            saved = groups[f"samples-{name}"]
            self.context.sample_state(name, tuple(saved["rows"].shape[1:])).load(saved)
        if self.mixture is not None:
            self.mixture.load(groups["mixture"])

    def _average(self, member: Member) -> str:
        return "ema" if member is self.learner else f"ema-{member.name}"

    # the journal

    def log(self, watch: LossWatch) -> None:
        """Writes the terms since the last line, where there are any; a peer whose terms are not finite is retired."""
        values = watch.flush()
        if values:
            self.record("train", {key: value for member in self.active() for key, value in self._line(member, values).items()})
        for member in self.active():
            if member.name in watch.failed and member.failed is None:
                self.retire(member, watch.failed[member.name])
        watch.labels = self.step.labels

    def _line(self, member: Member, values: Mapping[str, float]) -> dict[str, float]:
        """Total, terms and learning rate of a member; what else the step returns stands with the learner."""
        objective, player = member.learner.objective, self.context.player(member.name)
        peers = {peer.name for peer in self.members[1:]}
        if member is self.learner:
            own = {key: value for key, value in values.items() if key.partition("/")[0] not in peers}
        else:
            own = {label: values[self._label(member.name, label)] for label in objective.terms}
        weighted = [value * objective.weights.get(label, 1.0) for label, value in own.items()]
        line = {"total": sum(weighted), **own, "lr": player.optimizer.param_groups[0]["lr"]}
        return {self._label(member.name, key): value for key, value in line.items()}

    def _label(self, name: str, key: str) -> str:
        return self.context.cohort.label(name, key) if self.context.cohort is not None else key

    def record(self, kind: str, values: Mapping[str, float]) -> None:
        """Writes a line of metrics, on the main process."""
        backend = self.context.backend
        if not backend.is_main:
            return
        plan, progress = self.plan, self.progress
        self.journal.write(stage=plan.name, round=plan.round, kind=kind, step=progress.update, epoch=progress.epoch, values=values)
        backend.track({f"{plan.name}/{kind}/{key}": value for key, value in values.items()}, step=self.journal.lines)


def _bare(module: torch.nn.Module) -> torch.nn.Module:
    """A module without the wrapper of the processes."""
    return module.module if isinstance(module, torch.nn.parallel.DistributedDataParallel) else module


def _name(tag: Mapping[str, Any], update: int) -> str:
    return f"stage{tag['stage']:02d}-round{tag['round']:03d}-update{update:08d}"
