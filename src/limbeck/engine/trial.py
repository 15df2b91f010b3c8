"""A round of training whose updates someone else asks for, one by one: to time them, and to let several take turns."""

from __future__ import annotations

from collections.abc import Iterator

from .checkpoint import seed_everything
from .loop import one_update, prepare, updates
from .stage import Stage


def trial(stage: Stage) -> Iterator[None]:
    """Makes an update whenever it is asked, without end: data, teachers, learner, objective, optimizer and log as in `loop.train`.

    Nothing is evaluated and nothing is saved.
    """
    total = prepare(stage)
    watch = stage.watch()
    seed_everything(stage.plan.seed + stage.context.backend.rank)
    stage.train_mode()
    while True:
        for batches in updates(stage):
            one_update(stage, batches, watch, total)
            stage.progress.within += 1
            if stage.progress.update % stage.plan.log_every == 0:
                stage.log(watch)
            yield
        stage.progress.epoch, stage.progress.within = stage.progress.epoch + 1, 0
