"""All that a recipe asks for, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.evaluation import Collected
from ..session import Session
from .costs import costs, waits
from .desk import Appraisal, Panel
from .exposing import exposing
from .fairness import fairness
from .fidelity import fidelity
from .kernel import kernels
from .privacy import membership
from .robustness import robustness


def appraise(session: Session, said: Mapping[str, Collected], teacher: str | None) -> dict[str, Appraisal]:
    """What is added to the results of every model, by its name.

    Args:
        session: after its last stage.
        said: what the models say of the test split.
        teacher: the model that the student is compared with.
    """
    panel = Panel(session, said, teacher, {name: Appraisal() for name in said})
    wish = panel.wish
    if wish.fidelity:
        fidelity(panel)
    if wish.corruptions:
        robustness(panel)
    if wish.groups is not None:
        fairness(panel, wish.groups)
    if wish.membership:
        membership(panel)
    if wish.canaries or session.recipe.data.canaries is not None:
        exposing(panel)
    if wish.kernel is not None:
        kernels(panel, wish.kernel)
    if wish.cost:
        costs(panel)
    if wish.first_token is not None:
        waits(panel, wish.first_token)
    return panel.found
