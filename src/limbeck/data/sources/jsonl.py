"""Tables or texts in files with one JSON object a line."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from ...errors import DataError
from ._tables import Cells, TableSource


@final
@dataclass(frozen=True, kw_only=True)
class Jsonl(TableSource):
    """A `.jsonl` file (or `.gz`), or a folder with `train.jsonl`, `valid.jsonl`, `test.jsonl`; keys are the columns."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".jsonl.gz")

    def load(self, path: Path) -> dict[str, Cells]:
        """The columns by name; a key that a line lacks is missing there."""
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            lines = raw.decode("utf-8-sig").split("\n")
        except (UnicodeError, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is not UTF-8 text ({error}).") from error
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a JSON object: {error}.") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: expected a JSON object, found a {type(row).__name__}.")
            rows.append(row)
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}
