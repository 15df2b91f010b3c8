"""Studies: arms over seeds, claims about them, and how they are decided. `limbeck.study(recipe)` runs one."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conduct import Study, Teller


class StudyRoom(ModuleType):
    """This room is called like the function that it is for, so that `limbeck.study(...)` stands beside `limbeck.distill(...)`."""

    def __call__(
        self,
        recipe: str | Path | Mapping[str, Any],
        *,
        seeds: int | None = None,
        workers: int = 1,
        set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
        out: str | Path | None = None,
        resume: bool = False,
        device: str | None = None,
        allow_code: bool = True,
        teller: Teller | None = None,
    ) -> Study:
        """Runs the study of a recipe; see `limbeck.study.conduct.study`."""
        from .conduct import Wish, study

        return study(recipe, Wish(set, seeds, workers, Path(out) if out is not None else None, resume, device, allow_code), teller)


sys.modules[__name__].__class__ = StudyRoom
