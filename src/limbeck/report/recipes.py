"""What differs between the recipes of several runs, told from the resolved files that lie in them.

A resolved recipe is YAML in block style with one value a line, so lines and their indentation are all that must be understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"""^(?P<key>"[^"]*"|'[^']*'|[^\s:#\[\]{}"'-][^:#]*?)\s*:(?:\s+(?P<value>.*))?$""")


def flatten(text: str) -> dict[str, str]:
    """Dotted key to the text of its value; comments are left out, items of a list have their position as key."""
    values: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    last = ""
    for line in text.splitlines():
        content = without_comment(line)
        bare = content.strip()
        if not bare or bare in ("---", "..."):
            continue
        indent = len(content) - len(content.lstrip())
        if bare.startswith("- ") or bare == "-":
            last = _item(values, stack, indent, bare[1:].strip())
            continue
        found = _KEY.match(bare)
        if not found:
            values[last] = f"{values.get(last, '')} {bare}".strip()
            continue
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, found["key"].strip("\"'")))
        last = ".".join(name for _, name in stack)
        if found["value"]:
            values[last] = found["value"]
    return values


def without_comment(line: str) -> str:
    """The line up to a `#` that stands outside quotes and after a space (or at its start)."""
    quote = ""
    for i, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (i == 0 or line[i - 1] in " [{,:("):
            quote = sign
        elif sign == "#" and (i == 0 or line[i - 1].isspace()):
            return line[:i].rstrip()
    return line.rstrip()


def differences(texts: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Key and its value in each recipe, for the keys that are not the same in all; an empty text where a key is absent."""
    found = [flatten(text) for text in texts]
    keys = list(dict.fromkeys(key for values in found for key in values))
    rows = [(key, tuple(values.get(key, "") for values in found)) for key in keys]
    return [row for row in rows if len(set(row[1])) > 1]


def _item(values: dict[str, str], stack: list[tuple[int, str]], indent: int, value: str) -> str:
    while stack and (stack[-1][0] > indent or stack[-1][1].isdigit()):
        stack.pop()
    parent = ".".join(name for _, name in stack)
    count = len({key[len(parent) + 1 :].split(".")[0] for key in values if key.startswith(parent + ".")})
    stack.append((indent + 1, str(count)))
    path = f"{parent}.{count}"
    found = _KEY.match(value)
    if found:
        stack.append((indent + 2, found["key"].strip("\"'")))
        path = f"{path}.{found['key']}"
        value = found["value"] or ""
    if value:
        values[path] = value
    return path
