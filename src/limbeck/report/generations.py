"""What the models wrote after held-out prompts, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .table import ordered, summary_table

SHOWN = 1200
"""Characters of a prompt that are shown: its end, after which the models write."""


@dataclass(frozen=True)
class Said:
    """A text and whose it is."""

    title: str
    role: str
    """Of the model; empty for the reference."""
    text: str


@dataclass(frozen=True)
class Example:
    """A prompt, what follows it in the data, and what the models wrote."""

    prompt: str
    texts: tuple[Said, ...]


def generations(results: Mapping[str, Any]) -> tuple[Example, ...]:
    """The examples of a results.json, the models in the order of the table; empty where nothing was written."""
    found = results.get("generations")
    entries = found.get("examples") if isinstance(found, dict) else None
    table = summary_table(results)
    titles = dict(zip(table.models, table.titles, strict=True))
    models = [(name, role, titles[name]) for name, role, _ in ordered(results.get("models") or {})]
    return tuple(_example(entry, models) for entry in entries or () if isinstance(entry, dict))


def _example(entry: Mapping[str, Any], models: list[tuple[str, str, str]]) -> Example:
    prompt = visible(entry.get("prompt"))
    prompt = prompt if len(prompt) <= SHOWN else f"… {prompt[-SHOWN:]}"
    answers = entry.get("answers")
    said = answers if isinstance(answers, dict) else {}
    texts = [Said("Reference", "", visible(entry.get("reference")))]
    texts += [Said(title, role, visible(said[name])) for name, role, title in models if name in said]
    return Example(prompt, tuple(texts))


def visible(value: Any) -> str:
    """A text in which control characters can be seen, and cannot harm the page."""
    text = value if isinstance(value, str) else ""
    return "".join(_sign(character) for character in text)


def _sign(character: str) -> str:
    code = ord(character)
    if code < 0x20 and character not in "\n\t":
        return chr(0x2400 + code)
    return "\ufffd" if 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 else character
