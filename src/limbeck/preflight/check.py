"""The whole check, in order."""

from __future__ import annotations

from .. import assemble
from ..assemble import Phase
from ..config.load import LoadedRecipe
from ..engine.backend import pick_device
from ..tasks.base import Task
from .data import check_data
from .evaluation import check_evaluation, check_first_token, check_kernel
from .found import Desk, Preflight
from .learning import Learning
from .models import Models
from .training import check_knowledge, check_training, line
from .vocabularies import check_vocabularies


def preflight(loaded: LoadedRecipe, *, allow_code: bool, device: str | None = None) -> Preflight:
    """Checks a recipe that has passed the static checks."""
    place = pick_device(device)
    desk = Desk(loaded, allow_code)
    phases: list[Phase] = []
    task: Task | None = None
    with desk.at("task"):
        task = assemble.build_task(desk.recipe, allow_code=allow_code)
    if task is None:
        return desk.found
    with desk.at("baseline"):
        phases = assemble.phases(desk.recipe, task, allow_code=allow_code)
    info = check_data(desk, task)
    task = task.on(info) if info is not None else task
    check_training(desk, phases, task, place)
    check_evaluation(desk, task, info)
    if info is None:
        return desk.found
    # A teacher that only lends its features may have been trained for other classes; who learns must answer for these.
    peers = {peer for phase in phases for peer in phase.peers}
    models = Models(desk, task, info, ({phase.learner for phase in phases} - set(desk.recipe.models)) | peers)
    check_kernel(desk, models.built, task)
    check_first_token(desk, models.built, task, info)
    check_vocabularies(desk, models.built, task, info)
    for phase in phases:
        Learning(desk, models, phase, task, info).check()
    check_knowledge(desk, phases)
    desk.found.plan = [line(phase) for phase in phases]
    return desk.found
