"""Tables in CSV files."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from ...errors import DataError
from ._tables import Cells, TableSource


@final
@dataclass(frozen=True, kw_only=True)
class Csv(TableSource):
    """A `.csv` or `.tsv` file (or `.gz`), or a folder with `train.csv`, `valid.csv`, `test.csv`."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

    separator: str | None = None
    """Between the cells: a comma where absent, a tab in `.tsv` files."""
    header: bool = True
    """Whether the first line holds the names of the columns."""
    names: tuple[str, ...] | None = None
    """Names of the columns of a file without header; `0`, `1`, ... where absent."""
    charset: str = "utf-8"
    """Encoding of the characters."""
    quotes: bool = True
    """Whether a cell may stand in double quotes, which are not part of it, and then hold separators and line breaks."""

    def load(self, path: Path) -> dict[str, Cells]:
        """The columns as texts, by name."""
        separator = self.separator or ("\t" if ".tsv" in path.name else ",")
        if len(separator) != 1:
            raise DataError(f"{path}: args.separator must be one character, got {separator!r}.")
        rows, lines = self._rows(path, separator)
        if not rows:
            raise DataError(f"{path} is empty.")
        names = [name.strip() for name in rows[0]] if self.header else list(self.names or ()) or [str(i) for i in range(len(rows[0]))]
        body = slice(1 if self.header else 0, None)
        self._check(path, names, rows, lines, separator)
        return {name: [row[i] for row in rows[body]] for i, name in enumerate(names)}

    def _rows(self, path: Path, separator: str) -> tuple[list[list[str]], list[int]]:
        """All lines that are not blank, and their numbers."""
        charset = "utf-8-sig" if self.charset.lower().replace("_", "-") in ("utf-8", "utf8") else self.charset
        opener = gzip.open if path.suffix == ".gz" else open
        rows: list[list[str]] = []
        lines: list[int] = []
        try:
            with opener(path, "rt", encoding=charset, newline="") as file:
                reader = csv.reader(file, delimiter=separator, quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE)
                for row in reader:
                    if row and (len(row) > 1 or row[0].strip()):
                        rows.append(row)
                        lines.append(reader.line_num)
        except (UnicodeError, LookupError) as error:
            raise DataError(f"{path} is not {self.charset} text ({error}). Set args.charset, such as latin-1.") from error
        except (csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: cannot be read as CSV: {error}.") from error
        return rows, lines

    def _check(self, path: Path, names: Sequence[str], rows: list[list[str]], lines: list[int], separator: str) -> None:
        if repeated := sorted({name for name in names if list(names).count(name) > 1}):
            raise DataError(f"{path}: the column {repeated[0]!r} occurs twice in the header. Rename one.")
        if len(names) == 1 and (other := next((mark for mark in (";", "\t", "|") if mark in rows[0][0]), None)):
            raise DataError(f"{path}: one column is found with the separator {separator!r}; set args.separator: {other!r}?")
        for row, line in zip(rows, lines, strict=True):
            if separator == "\t" and any("\n" in cell and "\t" in cell for cell in row):
                raise DataError(
                    f"{path}: a cell that begins with a double quote takes in all up to line {line}, with tabs and line breaks. If quotes "
                    "are plain characters in this file, set args.quotes: false."
                )
            if len(row) != len(names):
                raise DataError(f"{path}:{line}: expected {len(names)} cells, found {len(row)}. Mend the line, or check args.separator.")
