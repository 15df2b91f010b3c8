"""Limbeck distils any teacher into any student: a typed recipe in, a smaller model and its evidence out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .run import distill as distill
    from .study import StudyRoom
    from .types import Batch as Batch
    from .types import Signals as Signals

    study: StudyRoom

__all__ = ["Batch", "Signals", "__version__", "distill", "study"]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that `import limbeck` stays fast and free of torch."""
    if name == "distill":
        from .run import distill

        return distill
    if name == "study":
        return importlib.import_module(".study", __name__)
    if name in ("Signals", "Batch"):
        from . import types

        return getattr(types, name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
