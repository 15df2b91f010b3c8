"""Text that every Python brings along, for language models."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import final

from ...errors import DataError
from .base import Pool, Source, Wanted, all_train, choose
from .text import check_language


@final
@dataclass(frozen=True, kw_only=True)
class Python(Source):
    """`python:topics`, the reference of the language that `help()` shows: about 80 documents, 700 kB of English and code."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Documents as the only column, `text`, in the order of their names."""
        check_language(wanted, f"python:{location}")
        module = choose(location, {"topics": "pydoc_data.topics"}, "python")
        try:
            topics: dict[str, str] = importlib.import_module(module).topics
        except ImportError as error:
            raise DataError(f"python:{location}: this Python was installed without {module}. Use text:PATH.") from error
        texts = [topics[name] for name in sorted(topics)]
        return Pool("text", [], [], all_train(len(texts)), cells={"text": texts})
