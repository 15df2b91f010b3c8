"""Domains of texts whose shares follow how far the student is behind its teacher."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.train_schema import MixtureSpec
from ..data.base import Splits
from ..data.language.rows import LanguageExamples
from ..engine.mixture import Mixture, probe_of
from ..errors import LimbeckError
from ..teachers.base import Teacher
from ..teachers.stored import StoredTeacher
from .stages import ALONE, Phase


def mixture_of(phase: Phase, splits: Splits, teachers: Mapping[str, Teacher], seed: int) -> Mixture | None:
    """The mixture of a phase; None where it asks for none, and for the student alone, which has no teacher to be compared with.

    Raises:
        LimbeckError: the data name no domains, or the teacher cannot be asked about held-out texts.
    """
    spec: MixtureSpec | None = phase.train.mixture
    if spec is None or phase.learner == ALONE:
        return None
    train, valid = splits.train, splits.valid
    if train.domains is None or valid is None or valid.domains is None or not isinstance(valid, LanguageExamples):
        raise LimbeckError(
            "train.mixture: name the column of the domains with `data.domain`, and hold out some texts with data.split.valid."
        )
    if spec.teacher not in teachers:
        known = ", ".join(map(repr, teachers)) or "none"
        raise LimbeckError(f"train.mixture.teacher: expected a teacher that this stage listens to ({known}), found {spec.teacher!r}.")
    if isinstance(teachers[spec.teacher], StoredTeacher):
        raise LimbeckError(f"train.mixture: {spec.teacher!r} is a store of answers to training texts; held-out texts need a live teacher.")
    rows, probed = probe_of(valid, valid.domains.numbers, valid.domains.names, spec.probe, seed)
    return Mixture(train.domains.names, train.domains.numbers, valid.some(rows), probed, spec.every, spec.alpha, seed, spec.teacher)
