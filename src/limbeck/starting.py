"""The weights with which those who learn enter a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .assemble import Phase
from .models.base import BuiltModel
from .models.checkpoints import load_into
from .models.lazy import begin_lazy
from .models.prompt import begin_behind
from .models.scaling import begin as begin_scaled
from .models.scaling import fill

CONTINUE, FRESH = "continue", "fresh"
"""What `start` may be besides the name of a model."""


def begin(phase: Phase, models: Mapping[str, BuiltModel], restart: Callable[[str], None]) -> None:
    """Brings all who learn in a stage to where it starts.

    Args:
        phase: the stage; its `start` says where.
        models: all models of the run as they are now, by name.
        restart: gives the model of a name its initial weights.

    Raises:
        ModelError: where the learner is to begin as a model that has other layers.
    """
    if phase.start == FRESH:
        for name in phase.members:
            restart(name)
    elif phase.start != CONTINUE:
        begin_as(phase, models)
    gather(models[phase.learner], models)


def begin_as(phase: Phase, models: Mapping[str, BuiltModel]) -> None:
    """Gives the learner of a stage the weights of the model that its `start` names; one with a prompt keeps a head of its own.

    Raises:
        ModelError: where the two have not the same layers.
    """
    learner, other = models[phase.learner], models[phase.start]
    first = other.module.state_dict()
    if learner.request.sources is not None:
        begin_scaled(learner.module, first, phase.start)
        return
    if learner.request.prompt is not None:
        begin_behind(learner.module, first, f"the model {phase.start!r}")
        return
    alpha = learner.request.lazy
    if alpha is not None:
        begin_lazy(learner.module, first, f"the model {phase.start!r}", alpha=alpha, other=other.request.lazy)
        return
    load_into(learner.module, first, source=f"the model {phase.start!r}")


def gather(learner: BuiltModel, models: Mapping[str, BuiltModel]) -> None:
    """Tells a model that is made of others what these have learnt; nothing to do for any other.

    Raises:
        ModelError: where one of them has other layers.
    """
    if learner.request.sources is not None:
        fill(learner.module, {name: models[name].module.state_dict() for name in learner.request.sources.models})
