"""All sections that the results hold something for, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence

from ..numbers import Metric
from .groups import groups
from .latency import latency
from .layers import layers
from .parts import Section
from .privacy import canaries, membership
from .robustness import robustness
from .subjects import Subject


def sections(subjects: Sequence[Subject], main: Metric | None) -> list[Section]:
    """What `evaluate` asked for, as far as it was measured.

    Args:
        subjects: the models, the student of interest last.
        main: the metric of the task, by which groups are compared.
    """
    found = (robustness(subjects), groups(subjects, main), membership(subjects), canaries(subjects), layers(subjects), latency(subjects))
    return [section for section in found if section is not None]
