"""The words of a claim: numbers, names, operators; where each stands; and the error that points at one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import LimbeckError

LONGEST = 500
"""Characters of the longest claim."""

Kind = Literal["number", "name", "quoted", "operator", "end"]

_PATTERN = re.compile(
    r"""(?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<quoted>'[^']*'|"[^"]*")
    | (?P<operator>>=|<=|==|!=|=|[-+*/().,<>])
    """,
    re.VERBOSE,
)
_MEANT = {"\u2265": ">=", "\u2264": "<=", "\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/"}
"""Signs that look like those of the grammar: as in mathematical type."""


@dataclass(frozen=True)
class Token:
    """A word of a claim and the column where it begins, from 0."""

    kind: Kind
    text: str
    column: int

    def shown(self) -> str:
        """How an error calls it."""
        return "the end" if self.kind == "end" else repr(self.text)


class ClaimError(LimbeckError):
    """A claim that cannot be read, or that names what is not there; points at the place.

    Args:
        text: the claim.
        column: where the fault is, from 0.
        message: what was expected, what was found, what to do.
    """

    def __init__(self, text: str, column: int, message: str) -> None:
        self.text, self.column, self.message = text, column, message
        super().__init__(f"claim, column {column + 1}: {message}\n{self.excerpt}")

    @property
    def excerpt(self) -> str:
        """The claim with a caret under the fault; long ones are cut around it."""
        start = max(0, self.column - 60)
        part = self.text[start : start + 120].translate(str.maketrans("\t\n\r", "   "))
        return f"  {part}\n  {' ' * (self.column - start)}^"


def tokenize(text: str) -> list[Token]:
    """The words of a claim; the last one is the end.

    Raises:
        ClaimError: where the claim is too long, or a character belongs to no word.
    """
    if len(text) > LONGEST:
        raise ClaimError(text, LONGEST, f"a claim has at most {LONGEST} characters, found {len(text)}; write several claims.")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _PATTERN.match(text, at)
        if match is None or _is_power(text, at):
            raise ClaimError(text, at, _unknown(text, at))
        kind: Kind = match.lastgroup  # pyright: ignore[reportAssignmentType]  (the groups are named like the kinds)
        _check_end_of_number(text, kind, match.end())
        tokens.append(Token(kind, match.group(), at))
        at = match.end()
    return [*tokens, Token("end", "", len(text))]


def _is_power(text: str, at: int) -> bool:
    return text.startswith("**", at) and not text.startswith("**.", at)  # 2**.accuracy is 2 times the accuracy of all arms


def _check_end_of_number(text: str, kind: Kind, end: int) -> None:
    if kind != "number" or end == len(text):
        return
    if text[end].isalnum() or text[end] == "_":
        hint = "an arm whose name begins with a digit goes in quotes, such as '4x'.accuracy"
        raise ClaimError(text, end, f"expected an operator after the number, found {text[end]!r}; {hint}.")
    if text[end] == ".":
        raise ClaimError(text, end, "expected digits after the point of a number.")


def _unknown(text: str, at: int) -> str:
    character = text[at]
    if character in "*^":
        return "a claim knows no powers; write a product, such as a.ece * a.ece."
    if character in "'\"":
        return f"the quote {character} is not closed."
    meant = f" Did you mean {_MEANT[character]!r}?" if character in _MEANT else ""
    return f"{character!r} has no meaning in a claim.{meant} A claim is made of numbers, ARM.METRIC, + - * / ( ) and one of > < >= <=."
