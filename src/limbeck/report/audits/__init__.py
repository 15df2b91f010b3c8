"""What `evaluate` asks for, drawn: of the models of one run, or of those of a study over its seeds."""

from __future__ import annotations

from .parts import Section as Section
from .sections import sections as sections
from .subjects import Subject as Subject
from .subjects import of_run as of_run

__all__ = ["Section", "Subject", "of_run", "sections"]
