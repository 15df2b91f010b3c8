"""A few real updates, timed: what a stage, a labelling and a store cost on this machine, with the real models, data and engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean, median
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .assemble import Phase
from .data.base import Examples
from .data.loader import eval_loader
from .engine.evaluation import Collected
from .engine.loop import epoch_plan
from .engine.stage import Stage
from .engine.trial import trial
from .evaluate.cost import undisturbed
from .evaluate.memory import Held
from .session import EVAL_BATCH, Session
from .store.manifest import Manifest
from .store.places import Place
from .store.reader import StoreReader
from .store.writer import StoreWriter
from .teachers.base import Teacher
from .types import Batch, Signals

LEAST, MOST = 5, 500
"""Timed updates; of small models enough to fill the budget, so that what comes once an epoch is among them."""


@dataclass
class _Clocked:
    """A teacher whose time is taken."""

    inner: Teacher
    sync: Callable[[], None]
    seconds: float = 0.0
    flops: int = 0
    counting: bool = False
    batch: Batch | None = None
    said: Signals | None = None

    def signals(self, batch: Batch) -> Signals:
        """What the teacher says."""
        self.sync()
        start = time.perf_counter()
        if self.counting:
            with FlopCounterMode(display=False) as counter:
                said = self.inner.signals(batch)
            self.flops = counter.get_total_flops()
        else:
            said = self.inner.signals(batch)
        self.sync()
        self.seconds += time.perf_counter() - start
        self.batch, self.said = batch, said
        return said

    def after_step(self, learner: nn.Module) -> None:
        """As the teacher's own."""
        self.inner.after_step(learner)

    def after_epoch(self, learner: nn.Module, improved: bool) -> None:
        """As the teacher's own."""
        self.inner.after_epoch(learner, improved)

    def state(self) -> dict[str, Tensor]:
        """As the teacher's own."""
        return self.inner.state()

    def close(self) -> None:
        """As the teacher's own."""
        self.inner.close()


@dataclass(frozen=True)
class Pace:
    """What an update of a stage costs, and what comes with it."""

    batch: int
    """Examples of an update."""
    updates: int
    """Updates of a round."""
    per_epoch: int
    rounds: int
    evaluations: int
    """Evaluations (and checkpoints) of a round."""
    update: float
    """Seconds of an update."""
    teachers: dict[str, float]
    """Seconds of each teacher's answer to a batch."""
    evaluation: float
    """Seconds of an evaluation on the validation split."""
    saving: float
    """Seconds of a checkpoint."""
    flops: int
    """Of a whole update."""
    teacher_flops: dict[str, int]
    """Of each teacher's answer to a batch."""
    forward_flops: int
    """Of the learner's forward for one example."""
    peak: int
    """Most bytes that tensors take during an update: models, optimizer, gradients and what the forward keeps."""
    exchanged: int
    """Bytes of the gradients that data-parallel processes exchange."""
    said: dict[str, Signals] = field(repr=False, default_factory=dict)
    """An answer of each teacher."""

    @property
    def seconds(self) -> float:
        """All rounds, with evaluations and checkpoints; early stopping would make it less."""
        extra = self.evaluations * (self.evaluation + self.saving) + self.saving
        return self.rounds * (self.updates * self.update + extra)


def calibrate(session: Session, phase: Phase, *, budget: float, share: int = 1) -> Pace:
    """Times some updates of a phase; its models are changed by them, in memory.

    Args:
        budget: seconds that the timed updates may take, a few of them aside.
        share: number of machines that divide an update; one machine's part of it is timed.
    """
    stage = session.stage(phase, session.phases.index(phase), 0)
    whole = epoch_plan(stage, 0)
    updates = stage.plan.steps if stage.plan.steps is not None else stage.plan.epochs * whole.updates
    stage.plan = replace(stage.plan, batch_size=max(whole.per_update // share, stage.plan.accumulate))
    sync = _synchronizer(stage)
    clocked = {name: _Clocked(teacher, sync) for name, teacher in stage.context.teachers.items()}
    stage.context.teachers = cast(dict[str, Teacher], clocked)
    try:
        runs = trial(stage)
        next(runs)  # taps learn in the first update what they must copy
        peak = _peak(stage, [session.models[name].module for name in clocked if name in session.models], runs)
        flops = _flops(clocked, runs)
        said = {name: teacher.said for name, teacher in clocked.items() if teacher.said is not None}
        times, heard = _timed(runs, clocked, sync, budget)
        epochs = updates / whole.updates
        return Pace(
            batch=whole.per_update,
            updates=updates,
            per_epoch=whole.updates,
            rounds=phase.repeat,
            evaluations=max(1, round(epochs / stage.plan.evaluate_every)),
            update=fmean(times),  # what a run adds up: slow ones too
            teachers={name: fmean(values) for name, values in heard.items()},
            evaluation=_evaluation(session, stage, phase, budget),
            saving=_saving(stage),
            flops=flops * share,
            teacher_flops={name: teacher.flops * share for name, teacher in clocked.items() if teacher.said is not None},
            forward_flops=_forward_flops(stage),
            peak=peak,
            exchanged=sum(p.numel() * p.element_size() for m in stage.members for p in m.learner.parameters() if p.requires_grad),
            said=said,
        )
    finally:
        for member in stage.members:
            member.learner.close()
        for teacher in stage.context.teachers.values():
            teacher.close()


def _synchronizer(stage: Stage) -> Callable[[], None]:
    device = stage.context.backend.device
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def _timed(runs: Any, clocked: dict[str, _Clocked], sync: Callable[[], None], budget: float) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds of updates, and of each teacher in them."""
    times: list[float] = []
    heard: dict[str, list[float]] = {name: [] for name, teacher in clocked.items() if teacher.said is not None}
    began = time.perf_counter()
    while len(times) < LEAST or (len(times) < MOST and time.perf_counter() - began < budget):
        for teacher in clocked.values():
            teacher.seconds = 0.0
        start = time.perf_counter()
        next(runs)
        sync()
        times.append(time.perf_counter() - start)
        for name, values in heard.items():
            values.append(clocked[name].seconds)
    return times, heard


def _flops(clocked: dict[str, _Clocked], runs: Any) -> int:
    """FLOPs of an update; those of its teachers are noted beside it."""
    for teacher in clocked.values():
        teacher.counting = True
    with FlopCounterMode(display=False) as counter:
        next(runs)
    for teacher in clocked.values():
        teacher.counting = False
    return counter.get_total_flops()


def _forward_flops(stage: Stage) -> int:
    """FLOPs of the learner's forward for one example, as far as its terms need it."""
    learner = stage.context.learner
    batch = stage.train.__getitems__([0]).to(stage.context.backend.device)
    with undisturbed(learner), FlopCounterMode(display=False) as counter:
        learner.signals(batch)
    return counter.get_total_flops()


def _peak(stage: Stage, teachers: Sequence[nn.Module], runs: Any) -> int:
    """Most bytes of tensors during an update, the teachers' weights among them."""
    device = stage.context.backend.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        next(runs)
        return torch.cuda.max_memory_allocated(device)
    before = [*_resident(stage), *(tensor for module in teachers for tensor in (*module.parameters(), *module.buffers()))]
    with Held(before) as held:
        next(runs)
    return held.most


def _resident(stage: Stage) -> list[Tensor]:
    """What stays between updates: models, and the optimizers' moments."""
    context = stage.context
    found: list[Tensor] = []
    for module in [context.learner, *(player.module for player in context.players.values())]:
        found += [*module.parameters(), *module.buffers()]
    for player in context.players.values():
        if player.optimizer is not None:
            found += [value for state in player.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return found


def _evaluation(session: Session, stage: Stage, phase: Phase, budget: float) -> float:
    """Seconds of an evaluation; of a long one, from its first batches."""
    valid = session.data(phase.data).valid
    if valid is None:
        return 0.0
    if len(valid) <= 4 * EVAL_BATCH:
        return sum(least(member.evaluate) for member in stage.members if member.evaluate is not None)
    return sum(_forwards(session, name, valid, budget / len(phase.members)) for name in phase.members) * len(valid)


def least(run: Callable[[], Any]) -> float:
    """Seconds of the shorter of two runs; the first may have to warm up."""
    times: list[float] = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _forwards(session: Session, name: str, examples: Examples, budget: float) -> float:
    """Seconds that a model takes to answer for one held-out example; of texts, also to be measured on it, which takes as long."""
    if session.task.labels == "token":
        count = min(EVAL_BATCH, len(examples))
        rows = [i * len(examples) // count for i in range(count)]
        return least(lambda: _measured(session, session.ask(name, examples, rows))) / count
    backend, call = session.backend, session.call(name)
    module = session.models[name].module.to(backend.device)
    marks = [time.perf_counter()]
    with undisturbed(module):
        for batch in eval_loader(examples, batch_size=EVAL_BATCH):
            float(call(module, batch.to(backend.device)).logits.float().sum())  # waits for the device
            marks.append(time.perf_counter())
            if len(marks) > 2 and marks[-1] - marks[0] > budget:
                break
    return median(b - a for a, b in pairwise(marks)) / min(EVAL_BATCH, len(examples))


def _measured(session: Session, said: Collected) -> None:
    """What results.json has of an answer and of its distance to another of its size."""
    session.task.report(said.logits, said.labels, said.examples)
    session.task.agreement(said.logits, said.logits, said.labels)


def judging(session: Session, names: Sequence[str], budget: float) -> float:
    """Seconds that it takes to judge models on one example of the test split."""
    test = session.data().test
    return sum(_forwards(session, name, test, budget / max(len(names), 1)) for name in names)


def _saving(stage: Stage) -> float:
    watch = stage.watch()
    return least(lambda: stage.save(watch))


@dataclass(frozen=True)
class Labelled:
    """What it costs to write a teacher's answers, and to read them."""

    example: float
    """Seconds for an example: data, teacher, codec."""
    writing: float
    """Seconds that the last shard takes to be written, which nothing hides."""
    reading: float
    """Seconds to read the answers to a batch of the student's."""


def calibrate_labelling(
    session: Session,
    teacher: Teacher,
    examples: Examples,
    plan: Manifest,
    place: Place,
    *,
    batch: int,
    shard: int,
    reads: int,
    budget: float,
) -> Labelled:
    """Writes and reads a small store of real answers.

    Args:
        plan: the manifest of the whole store; of its examples only some are labelled.
        place: where the small store may lie.
        batch: examples of a forward.
        shard: examples of a shard.
        reads: examples of a batch of the student's.
        budget: seconds.
    """
    device, batch = session.backend.device, min(batch, len(examples))
    view = examples.augmented(plan.key.seed, 0)

    def answered(rows: Sequence[int]) -> tuple[Signals, Tensor]:
        group = view.__getitems__(rows)
        return teacher.signals(group.to(device)), group.index

    once = least(lambda: answered(range(batch)))
    groups = max(2, min(16, int(budget / once), len(examples) // batch))
    writer = StoreWriter(place, replace(plan, views=1, examples=groups * batch), shard_size=groups * batch)
    pieces: list[dict[str, Tensor]] = []
    times: list[float] = []
    for number in range(groups):
        start = time.perf_counter()
        first = number * batch % (len(examples) - batch + 1)
        pieces.append(writer.encode(*answered(range(first, first + batch))))
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    writer.write(0, 0, groups * batch, iter(pieces))
    writing = (time.perf_counter() - start) * min(plan.examples, shard) / (groups * batch)
    writer.finish()
    reader, names = StoreReader(place), list(plan.signals)
    index = torch.randperm(groups * batch, generator=torch.Generator().manual_seed(0))[:reads]
    return Labelled(median(times) / batch, writing, least(lambda: reader.read(index, 0, names)))
