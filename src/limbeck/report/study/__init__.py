"""The page of a study: its arms over seeds, ranked and compared, with its claims and how to repeat each number."""

from __future__ import annotations

from .joining import of_runs as of_runs
from .joining import ranked as ranked
from .joining import read_all as read_all
from .joining import values_of as values_of
from .page import study_page as study_page
from .page import write_study_report as write_study_report
from .reading import Study as Study
from .reading import is_study as is_study
from .reading import read_study as read_study
from .terminal import study_tables as study_tables

__all__ = [
    "Study",
    "is_study",
    "of_runs",
    "ranked",
    "read_all",
    "read_study",
    "study_page",
    "study_tables",
    "values_of",
    "write_study_report",
]
