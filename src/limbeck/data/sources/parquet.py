"""Tables or texts in Parquet files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from ...errors import DataError, MissingDependency
from ._tables import Cells, TableSource


@final
@dataclass(frozen=True, kw_only=True)
class Parquet(TableSource):
    """A `.parquet` file, or a folder with `train.parquet`, `valid.parquet`, `test.parquet`."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def load(self, path: Path) -> dict[str, Cells]:
        """The columns by name."""
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingDependency("pyarrow", "study", "reading parquet") from error
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}") from error
        return {name: _cells(table.column(name)) for name in table.column_names}


def _cells(column: Any) -> Cells:
    """Numbers as an array where none is missing or all are floats, else a list with None where missing."""
    import pyarrow.types as kinds

    if kinds.is_floating(column.type):
        return np.asarray(column.to_numpy(), dtype=np.float64)
    if (kinds.is_integer(column.type) or kinds.is_boolean(column.type)) and column.null_count == 0:
        return np.asarray(column.to_numpy())
    return column.to_pylist()
