r"""Born-again generations: the student of one round teaches the next.

.. math:: \theta^t_{k+1} = \theta^s_k, \quad \theta^s_{k+1} \sim init

Reference: Furlanello et al., "Born-Again Neural Networks", ICML 2018, arXiv:1805.04770, section 3.
"""

from __future__ import annotations

from typing import final

from ...errors import ShapeMismatch
from .base import Action, Roster


@final
class RefreshTeacher(Action):
    """Copies the learner's weights into the teacher and starts the learner afresh.

    Teacher and student must have the same architecture. Where the stage has several teachers, all are refreshed.
    """

    def apply(self, roster: Roster, round: int) -> None:  # noqa: A002
        learner = roster.model("learner").state_dict()
        for name in roster.teacher_names():
            teacher = roster.model(name)
            own = teacher.state_dict()
            same = {key for key in own.keys() & learner.keys() if own[key].shape == learner[key].shape}
            differing = sorted((own.keys() | learner.keys()) - same)
            if differing:
                raise ShapeMismatch(
                    f"refresh_teacher: {name!r} and the learner must have the same architecture; {len(differing)} tensors differ, "
                    f"such as {differing[0]!r}. Name the same model for both."
                )
            teacher.load_state_dict(learner)
        roster.restart("learner")
