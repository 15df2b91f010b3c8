"""How parts are listed and shown; shared by `limbeck losses` and `limbeck methods`."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..describe import Doc, Field

WIDTH = 100
RECIPE_KEYS = {
    "loss": "loss",
    "adapter": "kind",
    "target": "targets",
    "teacher": "kind",
    "task": "task",
    "step": "step",
    "action": "between",
}
"""Under which key of a recipe a part of each kind is named."""


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def as_dict(doc: Doc) -> dict[str, Any]:
    """A part's documentation for `--json`, with an example and the recipes that use it."""
    found = {key: value for key, value in dataclasses.asdict(doc).items() if key not in ("file", "needs")}
    found["fields"] = [{**field, "default": _literal(field["default"])} for field in found["fields"]]
    found |= {"family": doc.family} if doc.family else {}
    found |= {"needs": dict(doc.needs)} if doc.needs else {}
    return found | {"example": example(doc), "recipes": recipes(doc)}


def _literal(default: str | None) -> Any:
    try:
        return None if default is None else json.loads(default)
    except ValueError:
        return default


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Left-aligned columns, two spaces apart."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_doc(doc: Doc) -> None:
    """All that is known of a part."""
    print(f"{doc.name} ({doc.kind})\n\n{doc.title}\n")
    if doc.formula:
        print(textwrap.indent(doc.formula, "    ") + "\n")
    told = {"When to use": doc.when_to_use, "Cost": doc.cost, "Reference": doc.reference}
    for text in filter(None, [*doc.description.split("\n\n"), doc.summary, *(f"{key}: {value}" for key, value in told.items() if value)]):
        paragraph = _plain(text)
        print((paragraph if "\n" in paragraph else textwrap.fill(paragraph, WIDTH)) + "\n")
    if words := needs_in_words(doc.needs):
        print(textwrap.fill(f"Reads {words}.", WIDTH) + "\n")
    if doc.fields:
        print(_fields(doc.fields))
    print("In a recipe:\n\n" + textwrap.indent(example(doc), "    "))
    if used := recipes(doc):
        print("\nRecipes: " + ", ".join(used))


def _plain(text: str) -> str:
    """Formulas within a text as they are typed."""
    return re.sub(r":math:`([^`]*)`", r"\1", text)


def _fields(fields: Iterable[Field]) -> str:
    heads = table([("field", "type", "default"), *((f.name, f.type, "required" if f.default is None else f.default) for f in fields)])
    indent = max(len(line) for line in heads) + 2
    lines = [heads[0].ljust(indent) + "meaning"]
    for head, field in zip(heads[1:], fields, strict=True):
        text = textwrap.wrap(_plain(field.help), max(WIDTH - indent, 30)) or [""]
        lines += [head.ljust(indent) + text[0], *(" " * indent + more for more in text[1:])]
    return "\n".join(lines) + "\n"


def needs_in_words(needs: Mapping[str, Any]) -> str:
    """`the logits and the labels`, from the keywords of `Needs`."""
    if not needs:
        return ""
    layers = {"one": "one layer", "many": "one or more layers"}.get(needs.get("features", "none"))
    who = "student and teacher" if needs.get("teacher", True) else "the student"
    read = ([layers] if layers else []) + (["the logits"] if needs.get("logits") or not layers else [])
    parts: list[str] = [f"{found} of {who}" for found in read]
    if needs.get("features") == "optional":
        parts[-1] += ", or one layer of each where the term names it"
    parts += {"student": ["the student's classifier"], "teacher": ["the teacher's classifier"], "both": ["both classifiers"]}.get(
        needs.get("head", "none"), []
    )
    parts += ["both models' answers to rotated images"] if needs.get("rotations") else []
    parts += ["the labels"] if needs.get("labels") else []
    extra: Iterable[str] = needs.get("extra", ())
    parts += [{"index": "the number of each example", "mask": "a mask of each example"}.get(name, name) for name in extra]
    text = ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    if layers:
        agreement = {"any": "shapes are free", "space": "spatial sizes must agree", "full": "shapes must agree"}[needs.get("match", "full")]
        text += f"; {agreement}" + ("" if needs.get("match") == "any" else ", else an adapter is added")
    return text + ("; a quantity of the whole batch, gathered over all processes" if needs.get("global_batch") else "")


def example(doc: Doc) -> str:
    """A piece of a recipe that names the part, with its defaults."""
    options = [f"{f.name}: {'...' if f.default is None else f.default}" for f in doc.fields]
    if doc.kind == "loss":
        layers = doc.needs.get("features") in ("one", "many")
        lines = [
            f"loss: {doc.name}",
            "weight: 1.0",
            *(["student: [LAYER]  # layer paths: limbeck inspect MODEL", "teacher: [LAYER]"] if layers else []),
        ]
        return "\n".join(["objective:", "  my_term:", *(f"    {line}" for line in [*lines, *options])])
    if doc.kind in ("adapter", "target"):
        key, name = ("adapter", "kind") if doc.kind == "adapter" else ("targets", "name")
        return f"{key}: {{{', '.join([f'{name}: {doc.name}', *options])}}}  # in a term of the objective"
    if doc.kind == "teacher":
        return f"teacher: {{kind: {doc.name}, model: MODEL}}"
    if doc.kind == "step":
        return f"train: {{step: {doc.name}}}"
    if doc.kind == "action":
        return f"stages:\n  distil: {{repeat: 2, between: {doc.name}}}"
    return f"{RECIPE_KEYS.get(doc.kind, doc.kind)}: {doc.name}"


def recipes(doc: Doc) -> list[str]:
    """The shipped recipes that name the part, relative to the folder that holds `recipes/`."""
    inside = ".*" if doc.kind == "target" else r"\s*[\"']?"  # a target may stand in a list or a mapping
    pattern = re.compile(rf"\b{RECIPE_KEYS.get(doc.kind, doc.kind)}:{inside}\b{re.escape(doc.name)}\b")
    package = Path(__file__).parents[1]
    for root in (package.parents[1], package):
        if (root / "recipes").is_dir():
            files = sorted((root / "recipes").rglob("*.yaml"))
            return [f.relative_to(root).as_posix() for f in files if pattern.search(f.read_text(encoding="utf-8"))]
    return []
