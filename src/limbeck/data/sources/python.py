"""Text that every Python brings along, for language models."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ...errors import DataError, UnknownName
from .base import Pool, Source, Wanted, all_train
from .text import check_language

TOPICS = "topics"


@final
@dataclass(frozen=True, kw_only=True)
class Python(Source):
    """`python:topics`, the reference of the language that `help()` shows: about 80 documents, 700 kB of English and code; or the source
    code of a module or package of the standard library, such as `python:asyncio`, a document each file."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Documents as the only column, `text`, in the order of their names."""
        check_language(wanted, f"python:{location}")
        texts = _topics() if location == TOPICS else _code(location)
        return Pool("text", [], [], all_train(len(texts)), cells={"text": texts})


def _topics() -> list[str]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataError("python:topics: this Python was installed without pydoc_data.topics. Use text:PATH.") from error
    return [topics[name] for name in sorted(topics)]


def _code(name: str) -> list[str]:
    """The source code of a module, or of all modules of a package but its tests; nothing of it is run."""
    if name not in sys.stdlib_module_names:
        known = [TOPICS, *sorted(one for one in sys.stdlib_module_names if not one.startswith("_"))]
        raise UnknownName("text of python", name, known, "It is `topics`, or a module or package of the standard library.")
    folder = Path(sysconfig.get_path("stdlib"))
    inside = sorted(path for path in (folder / name).rglob("*.py") if not {"test", "tests"} & {*path.relative_to(folder).parts[1:]})
    found = inside or [path for path in [folder / f"{name}.py"] if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in found]
    if not any(texts):
        raise DataError(f"python:{name}: this Python has no source code of it. Use python:topics or text:PATH.")
    return texts
