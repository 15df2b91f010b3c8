"""Text that every Python brings along, for language models."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ...errors import DataError, UnknownName
from .base import Pool, Source, Wanted, all_train
from .text import check_language

TOPICS, DOMAINS = "topics", "domains"
_MODULES = (
    *("bisect", "calendar", "copy", "csv", "difflib", "fnmatch", "fractions", "functools", "heapq", "random"),
    *("shelve", "string", "tempfile", "textwrap"),
)
"""Modules whose source code is one of the domains."""


@final
@dataclass(frozen=True, kw_only=True)
class Python(Source):
    """`python:topics`, the reference of the language that `help()` shows: about 80 documents, 460 kB of English and code; or the source
    code of a module or package of the standard library, such as `python:asyncio`, a document each file; or `python:domains`, the reference,
    the source code of some modules and names of characters, each text with its `domain`."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Documents as the column `text`, in the order of their names; of several domains also `domain`."""
        check_language(wanted, f"python:{location}")
        if location != DOMAINS:
            texts = _topics() if location == TOPICS else _code(location)
            return Pool("text", [], [], all_train(len(texts)), cells={"text": texts})
        domains = {"reference": _topics(), "code": _hundreds([text for name in _MODULES for text in _code(name)]), "names": _names()}
        texts = [text for own in domains.values() for text in own]
        column = [name for name, own in domains.items() for _ in own]
        return Pool("text", [], [], all_train(len(texts)), cells={"text": texts, "domain": column})


def _topics() -> list[str]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataError("python:topics: this Python was installed without pydoc_data.topics. Use text:PATH.") from error
    return [topics[name] for name in sorted(topics)]


def _code(name: str) -> list[str]:
    """The source code of a module, or of all modules of a package but its tests; nothing of it is run."""
    if name not in sys.stdlib_module_names:
        known = [TOPICS, DOMAINS, *sorted(one for one in sys.stdlib_module_names if not one.startswith("_"))]
        raise UnknownName("text of python", name, known, "It is `topics`, `domains`, or a module or package of the standard library.")
    folder = Path(sysconfig.get_path("stdlib"))
    inside = sorted(path for path in (folder / name).rglob("*.py") if not {"test", "tests"} & {*path.relative_to(folder).parts[1:]})
    found = inside or [path for path in [folder / f"{name}.py"] if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in found]
    if not any(texts):
        raise DataError(f"python:{name}: this Python has no source code of it. Use python:topics or text:PATH.")
    return texts


def _hundreds(texts: list[str]) -> list[str]:
    """The texts cut after every hundredth line."""
    lines = [text.splitlines() for text in texts]
    return ["\n".join(own[start : start + 100]) for own in lines for start in range(0, len(own), 100)]


def _names() -> list[str]:
    """Names of characters, a line each, 64 to a text."""
    names = [unicodedata.name(chr(number), "").lower() for number in range(32, 0x1800)]
    there = [name for name in names if name]
    return ["\n".join(there[start : start + 64]) for start in range(0, len(there), 64)]
