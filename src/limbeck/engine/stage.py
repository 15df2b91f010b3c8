"""One round of a stage as objects, and how it is saved and restored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..data.base import Examples
from ..data.mixing.base import Mixing
from . import checkpoint
from .ema import EMA
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


@dataclass
class Progress:
    """Where a round stands; everything here is in the checkpoint."""

    update: int = 0
    epoch: int = 0
    within: int = 0
    """Updates done in the current epoch."""
    best: float | None = None
    best_step: int = 0
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
    evaluate: Callable[[], dict[str, float]] | None
    """Metrics of the learner on the validation split; None without one."""
    ema: EMA | None
    journal: Journal
    listener: Listener
    folder: Path
    """The run's folder."""
    tag: Mapping[str, Any]
    """Which stage and round this is, for the checkpoint."""
    interrupted: Callable[[], bool]
    progress: Progress = field(default_factory=Progress)

    @property
    def best_file(self) -> Path:
        """Weights of the best evaluation of this round."""
        return self.folder / "checkpoints" / f"best-{self.plan.name}-{self.plan.round}.safetensors"

    def weights(self) -> dict[str, torch.Tensor]:
        """The learner's model as it would be handed on: the average where there is one."""
        return self.ema.average if self.ema is not None else self.context.learner.model.state_dict()

    def keep_best(self, metrics: Mapping[str, float]) -> bool:
        """Notes an evaluation; saves the weights where it is the best so far. Returns whether it improved."""
        score = metrics[self.plan.monitor] * (1 if self.plan.maximize else -1)
        self.context.players["learner"].rate.watch(score)  # pyright: ignore[reportOptionalMemberAccess]
        progress = self.progress
        if progress.best is not None and not score > progress.best + self.plan.min_delta:
            progress.waited += 1
            return False
        progress.best, progress.best_step, progress.waited = score, progress.update, 0
        if self.context.backend.is_main and self.plan.select_best:
            from ..files import writing

            with writing(self.best_file) as temporary:
                checkpoint.save_tensors(temporary, self.weights())
        return True

    def save(self, watch: LossWatch) -> None:
        """Writes a checkpoint, after the losses since the last one were found finite."""
        self.log(watch)
        context, backend = self.context, self.context.backend
        tensors, plain = checkpoint.random_state()
        states = backend.gather_objects((tensors, plain))
        if backend.is_main:
            groups: dict[str, Mapping[str, torch.Tensor]] = {"learner": context.learner.state_dict()}
            state: dict[str, Any] = {
                "tag": dict(self.tag),
                "progress": vars(self.progress),
                "journal": {"lines": self.journal.lines, "seconds": self.journal.seconds},
                "scaler": backend.scaler_state(),
                "random": [plain for _, plain in states],
                "players": {},
                "ema": self.ema.updates if self.ema is not None else None,
                "samples": list(context.samples),
            }
            groups |= {f"random-{rank}": tensors for rank, (tensors, _) in enumerate(states)}
            if self.ema is not None:
                groups["ema"] = self.ema.average
            for name, player in context.players.items():
                if name != "learner":
                    groups[f"player-{name}"] = _bare(player.module).state_dict()
                if player.optimizer is not None and player.rate is not None:
                    moments, settings = checkpoint.split_optimizer(player.optimizer)
                    groups[f"optimizer-{name}"] = moments
                    state["players"][name] = {"optimizer": settings, "rate": player.rate.state()}
            groups |= {f"samples-{name}": samples.state() for name, samples in context.samples.items()}
            groups |= {f"teacher-{name}": teacher.state() for name, teacher in context.teachers.items() if teacher.state()}
            checkpoint.save(self.folder / "checkpoints", _name(self.tag, self.progress.update), groups, state)
        backend.wait()

    def restore(self, path: Path) -> None:
        """Goes back to a checkpoint, bit by bit; the random state comes last."""
        groups, state = checkpoint.load(path)
        context = self.context
        context.learner.load_state_dict(groups["learner"])
        self.progress = Progress(**state["progress"])
        self.journal.resume(state["journal"]["lines"], state["journal"]["seconds"])
        context.backend.load_scaler(state["scaler"])
        if self.ema is not None:
            self.ema.load(groups["ema"], state["ema"])
        for name, player in context.players.items():
            if name != "learner":
                _bare(player.module).load_state_dict(groups[f"player-{name}"])
            if player.optimizer is not None and player.rate is not None:
                saved = state["players"][name]
                checkpoint.join_optimizer(player.optimizer, groups.get(f"optimizer-{name}", {}), saved["optimizer"])
                player.rate.load(saved["rate"])
        for name in state["samples"]:
            saved = groups[f"samples-{name}"]
            context.sample_state(name, tuple(saved["rows"].shape[1:])).load(saved)
        for name, teacher in context.teachers.items():
            teacher.load_state(groups.get(f"teacher-{name}", {}))
        rank = min(context.backend.rank, len(state["random"]) - 1)
        checkpoint.restore_random_state(groups[f"random-{rank}"], state["random"][rank])

    def log(self, watch: LossWatch) -> None:
        """Writes the terms since the last line, where there are any."""
        values = watch.flush()
        if not values:
            return
        objective = self.context.learner.objective
        weighted = {label: value * objective.weights.get(label, 1.0) for label, value in values.items()}
        player = self.context.players["learner"]
        values = {"total": sum(weighted.values()), **values, "lr": player.optimizer.param_groups[0]["lr"]}
        self.record("train", values)

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
