"""The templates of pages, and what fills them alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from .numbers import ABSENT


@cache
def environment() -> jinja2.Environment:
    """Where templates come from; everything that is put in is escaped."""

    def load(name: str) -> str:
        return resources.files("limbeck.report").joinpath("templates", name).read_text(encoding="utf-8")

    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(load), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["style"] = Markup(load("style.css"))  # noqa: S704 (a file of this package)
    found.globals["absent"] = ABSENT
    found.filters["soft"] = soft
    return found


def soft(text: str) -> Markup:
    """The text, escaped, with places where a long name may be broken: after a comma, a point, a slash, an underscore or an equals sign."""
    return Markup("<wbr>").join(re.split(r"(?<=[,./_=])(?=[^\s\d])", str(text)))


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted key and text of every value, also of mappings within mappings."""
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows
