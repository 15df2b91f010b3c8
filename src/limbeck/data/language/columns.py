"""Which column of a source holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import DataError, did_you_mean
from ...types import LanguageKind

Kind = Literal["text", "prompt", "chat", "tags", "spans"]

ROLES: Mapping[Kind, tuple[str, ...]] = {
    "chat": ("messages",),
    "prompt": ("prompt", "completion"),
    "text": ("text",),
    "tags": ("words", "tags"),
    "spans": ("question", "context", "answers"),
}
"""What a record of each kind is made of."""
FURTHER: Mapping[Kind, tuple[str, ...]] = {"spans": ("answer_start",)}
"""What it may also have, each in a column of the same name unless the user names another."""
_KINDS: Mapping[LanguageKind, tuple[Kind, ...]] = {
    "causal_lm": ("chat", "prompt", "text"),
    "masked_lm": ("text",),
    "seq2seq_lm": ("prompt",),
    "token_classification": ("tags",),
    "span_extraction": ("spans", "tags"),
}
_USUAL: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations", "chat"),
    "prompt": ("prompt", "instruction", "question", "query", "input", "source"),
    "completion": ("completion", "response", "answer", "output", "target"),
    "text": ("text", "content", "document", "story", "sentence"),
    "words": ("words", "tokens"),
    "tags": ("tags", "ner_tags", "labels", "upos", "pos_tags"),
    "question": ("question", "query"),
    "context": ("context", "passage"),
    "answers": ("answers", "answer"),
}


@dataclass(frozen=True)
class Records:
    """The rows of a source by what is in them."""

    kind: Kind
    cells: Mapping[str, Sequence[Any]]
    """One entry a row for every role of the kind; several columns of one role are lists."""
    names: Mapping[str, str]
    """The column (or columns) of each role, for messages."""
    where: str


def records(cells: Mapping[str, Sequence[Any]], asked: Mapping[str, str | Sequence[str]], language: LanguageKind, where: str) -> Records:
    """The columns that a task reads: those that the user names, else the usual names.

    Args:
        cells: columns of the source.
        asked: `data.columns`: role to column, or to several that are joined by line breaks.
        language: what the task learns.
        where: names the source in messages.

    Raises:
        DataError: a column that does not exist, or none or several sets of columns that could be meant.
    """
    kinds = _KINDS[language]
    chosen = _asked(asked, kinds, cells, where) if asked else _guessed(kinds, cells, where)
    kind: Kind = next(kind for kind in kinds if _makes(kind, chosen))
    columns = {role: _column(role, name, cells) for role, name in chosen.items()}
    return Records(kind, columns, {role: name if isinstance(name, str) else ", ".join(name) for role, name in chosen.items()}, where)


def _makes(kind: Kind, chosen: Iterable[str]) -> bool:
    """Whether the chosen roles make a record of a kind."""
    return set(ROLES[kind]) == set(chosen) - set(FURTHER.get(kind, ()))


def _column(role: str, name: str | Sequence[str], cells: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    if isinstance(name, str):
        return cells[name]
    return [_joined(parts) for parts in zip(*(cells[one] for one in name), strict=True)]


def _joined(parts: Sequence[Any]) -> Any:
    """Texts (or lists of words) joined by line breaks, without the empty ones; what is no text stays to be told of."""
    parts = [" ".join(part) if isinstance(part, list | tuple) and all(isinstance(word, str) for word in part) else part for part in parts]
    wrong = [part for part in parts if part is not None and not isinstance(part, str)]
    return wrong[0] if wrong else "\n".join(part for part in parts if part)


def _asked(
    asked: Mapping[str, str | Sequence[str]], kinds: Sequence[Kind], cells: Mapping[str, Sequence[Any]], where: str
) -> Mapping[str, str | Sequence[str]]:
    roles = [role for kind in kinds for role in (*ROLES[kind], *FURTHER.get(kind, ()))]
    for role, names in asked.items():
        if role not in roles:
            raise DataError(f"data.columns: expected {', '.join(roles)}, found {role!r}.{did_you_mean(role, roles)}")
        for name in [names] if isinstance(names, str) else names:
            if name not in cells:
                held = ", ".join(list(cells)[:20])
                raise DataError(f"{where}: data.columns.{role}: no column is called {name!r}.{did_you_mean(name, cells)} Columns: {held}.")
    if not any(_makes(kind, asked) for kind in kinds):
        raise DataError(f"data.columns: expected {_sets(kinds)}, found {' and '.join(asked)}.")
    return asked


def _guessed(kinds: Sequence[Kind], cells: Mapping[str, Sequence[Any]], where: str) -> Mapping[str, str]:
    possible: dict[Kind, dict[str, list[str]]] = {
        kind: {role: [name for name in _USUAL[role] if name in cells] for role in ROLES[kind]} for kind in kinds
    }
    complete: list[Kind] = [kind for kind in kinds if all(possible[kind].values())]
    clear: list[Kind] = [kind for kind in complete if all(len(names) == 1 for names in possible[kind].values())]
    if len(complete) == 1 and clear:
        further = [role for role in FURTHER.get(clear[0], ()) if role in cells]
        return {role: names[0] for role, names in possible[clear[0]].items()} | {role: role for role in further}
    if not complete and "text" in kinds and len(cells) == 1:
        return {"text": next(iter(cells))}
    held = ", ".join(list(cells)[:20])
    if not complete:
        raise DataError(f"{where}: no columns are called as usual. Set data.columns: {_sets(kinds)}. Columns: {held}.")
    several = complete[0] if len(complete) == 1 else None
    if several is not None:
        role, names = next((role, names) for role, names in possible[several].items() if len(names) > 1)
        told = f"{role} could be {' or '.join(names)}"
    else:
        told = "there is more than one way to read it (" + "; ".join(" and ".join(ROLES[kind]) for kind in complete) + ")"
    raise DataError(f"{where}: {told}. Set data.columns: {_sets(kinds)}. Columns: {held}.")


def _sets(kinds: Sequence[Kind]) -> str:
    return " or ".join("{" + ", ".join(f"{role}: NAME" for role in ROLES[kind]) + "}" for kind in kinds)
