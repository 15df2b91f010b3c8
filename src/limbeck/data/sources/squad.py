"""Questions about texts in the layout of SQuAD."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from ...errors import DataError
from ._tables import Cells, TableSource


@final
@dataclass(frozen=True, kw_only=True)
class Squad(TableSource):
    """A `.json` file of SQuAD (also XQuAD, MLQA), or a folder with `train.json`, `valid.json`, `test.json`.

    Columns are `question`, `context`, `answers`, `id` and `paragraph`, the number of the text, by which `data.split.group` keeps the
    questions about one text together.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def load(self, path: Path) -> dict[str, Cells]:
        """The columns by name, a row for every question."""
        try:
            loaded = json.loads(path.read_text(encoding="utf-8-sig"))
        except (UnicodeError, ValueError) as error:
            raise DataError(f"{path} cannot be read as JSON: {error}.") from error
        columns: dict[str, list[Any]] = {name: [] for name in ("question", "context", "answers", "id", "paragraph")}
        try:
            passages = [passage for article in loaded["data"] for passage in article["paragraphs"]]
            for number, passage in enumerate(passages):
                for asked in passage["qas"]:
                    row = (asked["question"], passage["context"], list(asked.get("answers", [])), asked.get("id"), number)
                    for cells, value in zip(columns.values(), row, strict=True):
                        cells.append(value)
        except (KeyError, TypeError) as error:
            layout = "data, paragraphs, context, qas, question, answers"
            raise DataError(f"{path} is not laid out as SQuAD ({layout}): {error!r} is missing or of the wrong kind.") from error
        return dict(columns)
