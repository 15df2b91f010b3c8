"""A source by its reference, such as `csv:data.csv`, and all its rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownName
from .arguments import build
from .sources import SOURCES
from .sources.base import Pool, Source, Wanted


def build_source(source: str, args: Mapping[str, Any], *, allow_code: bool = False, where: str = "data.source") -> tuple[Source, str]:
    """A source by its reference, its arguments checked, and the location that it is to read.

    Raises:
        UnknownName: no such source.
        DataError: an argument that the source does not take.
        CodeNotAllowed: local code that the user has not allowed.
    """
    name, colon, location = source.partition(":")
    if name in SOURCES.names():
        return build(SOURCES.get(name), args, f"{where} {name!r}"), location
    if colon and _importable(name):
        from .sources._code import CodeSource

        return CodeSource(reference=source, args=dict(args), allow_code=allow_code), location
    hint = "A source is written `csv:data.csv`." if colon else f"A source is written NAME:WHERE, such as csv:{name}."
    raise UnknownName("data source", name, SOURCES.names(), hint)


def _importable(module: str) -> bool:
    top = module.partition(".")[0]
    if not top.isidentifier():
        return False
    return (Path.cwd() / top).is_dir() or (Path.cwd() / f"{top}.py").is_file() or importlib.util.find_spec(top) is not None


def read_source(source: str, args: Mapping[str, Any], wanted: Wanted, *, allow_code: bool, where: str = "data.source") -> Pool:
    """All rows of a source."""
    reader, location = build_source(source, args, allow_code=allow_code, where=where)
    try:
        return reader.read(location, wanted)
    except (OSError, MemoryError) as error:
        raise DataError(f"{source}: cannot be read: {error}") from error
