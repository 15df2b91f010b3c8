"""Quotes in tables: those that enclose a cell, and those that are plain characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limbeck.data.base import DataRequest
from limbeck.data.load import load_data
from limbeck.errors import DataError


def names(source: str, **args: Any) -> tuple[str, ...]:
    return load_data(DataRequest(source, args=args), kind=None, labels="class").info.class_names


def test_quotes_that_are_plain_characters(tmp_path: Path):
    """A tab-separated file seldom quotes: a cell that begins with one would take in all up to the next."""
    path = tmp_path / "requests.tsv"
    path.write_text("".join(f"{chr(34) if i in (3, 17) else ''}say {i}\t{'ab'[i % 2]}\n" for i in range(40)))
    args: dict[str, Any] = {"header": False, "names": ["text", "label"], "encoding": "ordinal"}
    with pytest.raises(
        DataError, match=r"requests.tsv: a cell that begins with a double quote takes in all up to line 18, .*quotes: false"
    ):
        names(f"csv:{path}", **args)
    assert names(f"csv:{path}", **args, quotes=False) == ("a", "b")
    own = tmp_path / "own.csv"
    own.write_text("x,label\n" + '"1\n",a\n2,"b,c"\n' * 10)
    assert names(f"csv:{own}") == ("a", "b,c")
