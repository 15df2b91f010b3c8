"""Reads what a part says of itself (docstrings, fields, defaults) from its source, without importing it or torch."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from . import types
from .errors import LimbeckError, UnknownName
from .registry import Registry

FAMILIES = {
    "logits": "what both models predict",
    "features": "inner layers, example by example",
    "relations": "how the examples of a batch lie to one another",
    "dense": "maps, position by position or channel by channel",
    "alone": "no teacher: the labels, or the student's own knowledge",
}
"""Families of losses, by what they compare."""


@dataclass(frozen=True)
class Field:
    """A hyper-parameter."""

    name: str
    type: str
    """In words, with its bounds, such as `number > 0` or `paper | official`."""
    default: str | None
    """As YAML writes it; None where a value must be given."""
    help: str


@dataclass(frozen=True)
class Doc:
    """What a part says of itself."""

    name: str
    kind: str
    class_name: str
    title: str
    """First line of the module docstring."""
    summary: str
    """First paragraph of the class docstring."""
    formula: str
    """LaTeX, or empty."""
    reference: str
    when_to_use: str
    """The paragraph `When to use: ...` of the module docstring, or empty; `cost` and `reference` are such paragraphs too."""
    cost: str
    description: str
    """Every other paragraph of the two docstrings."""
    fields: tuple[Field, ...]
    needs: Mapping[str, Any]
    """What a loss asks for with its defaults, as written in its `needs`; empty for other parts."""
    file: str

    @property
    def short_reference(self) -> str:
        """Authors, year and arXiv number, for a list."""
        authors = self.reference.split(', "')[0] if ', "' in self.reference else ""
        year, number = re.search(r"\b(19|20)\d\d\b", self.reference), re.search(r"arXiv:[\w.\-/]*\w", self.reference)
        return ", ".join([*([f"{authors} {year[0]}"] if authors and year else []), *([number[0]] if number else [])])

    @property
    def family(self) -> str:
        """Which of `FAMILIES` a loss belongs to, from what it asks for (dense: what it says it is for); empty for other parts."""
        if self.kind != "loss":
            return ""
        if not self.needs.get("teacher", True):
            return "alone"
        said = re.search(r"\bdense\b|\bdetect|\bsegment", f"{self.title} {self.when_to_use}")
        if self.needs.get("features", "none") != "none" and (said or "mask" in self.needs.get("extra", ())):
            return "dense"
        if self.needs.get("features") not in ("one", "many"):
            return "logits"
        return "relations" if self.needs.get("global_batch") else "features"


def describe(registry: Registry, name: str) -> Doc:
    """The documentation of a registered part, or of local code given as `module:Class`.

    Raises:
        UnknownName: where the registry knows no such part.
        LimbeckError: where its source cannot be found.
    """
    files = registry.files()
    if name in files:
        return describe_file(files[name], name=name, kind=registry.kind, base=registry.base)
    reference = name if ":" in name else ""
    if not reference:
        plugins = registry.plugins()
        if name not in plugins:
            raise UnknownName(registry.kind, name, registry.names())
        reference = plugins[name].value
    module, _, class_name = reference.partition(":")
    return describe_file(_module_file(module), name=name, kind=registry.kind, base=registry.base, class_name=class_name)


def _module_file(module: str) -> Path:
    local = Path.cwd().joinpath(*module.split(".")).with_suffix(".py")
    if local.is_file():
        return local
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise LimbeckError(
            f"the source of the module {module!r} was not found, neither here ({Path.cwd()}) nor among the installed packages."
        )
    return Path(spec.origin)


def describe_file(file: Path, *, name: str, kind: str, base: str = "", class_name: str = "") -> Doc:
    """The documentation of the class in `file` that is called `class_name`, or that extends `base`.

    Raises:
        LimbeckError: where there is no such class.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    cls = _find_class(tree, base, class_name)
    if cls is None:
        wanted = class_name or f"that extends {base}"
        raise LimbeckError(f"{file} defines no class {wanted}.")
    aliases = _Aliases(tree, file.parent)
    for node in cls.body:
        if isinstance(node, ast.AnnAssign):
            node.annotation = aliases.visit(node.annotation)
    title, module_rest = _split(ast.get_docstring(tree) or "")
    formula, told, rest = _sort(module_rest)
    summary, more = _paragraphs(ast.get_docstring(cls) or "")
    return Doc(
        name=name,
        kind=kind,
        class_name=cls.name,
        title=title.removesuffix("."),
        summary=summary,
        formula=formula,
        reference=told.get("Reference", ""),
        when_to_use=told.get("When to use", ""),
        cost=told.get("Cost", ""),
        description="\n\n".join([*rest, *more]),
        fields=tuple(_fields(cls)),
        needs=_needs(cls),
        file=str(file),
    )


class _Aliases(ast.NodeTransformer):
    """Writes out type aliases such as `Size = Literal["small", "large"]`, of the module or of one beside it that it imports."""

    def __init__(self, tree: ast.Module, folder: Path) -> None:
        self.known = _aliases(tree)
        for node in tree.body:
            beside = folder / f"{node.module}.py" if isinstance(node, ast.ImportFrom) and node.level == 1 else None
            if isinstance(node, ast.ImportFrom) and beside and beside.is_file() and any(a.name[0].isupper() for a in node.names):
                theirs = _aliases_of(beside, beside.stat().st_mtime_ns)
                self.known |= {a.asname or a.name: theirs[a.name] for a in node.names if a.name in theirs}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The type behind an alias."""
        return self.known.get(node.id, node)


@lru_cache
def _aliases_of(file: Path, changed: int) -> dict[str, ast.expr]:
    """Those of a file beside many others, such as the base of all losses."""
    return _aliases(ast.parse(file.read_text(encoding="utf-8")))


def _aliases(tree: ast.Module) -> dict[str, ast.expr]:
    assigned = [n for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Subscript)]
    types_only = [n for n in assigned if _head(n.value) in ("Literal", "Annotated")]
    return {target.id: n.value for n in types_only for target in n.targets if isinstance(target, ast.Name)}


def _find_class(tree: ast.Module, base: str, class_name: str) -> ast.ClassDef | None:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if class_name:
        return next((c for c in classes if c.name == class_name), None)
    public = [c for c in classes if not c.name.startswith("_")]
    extending = [c for c in public if any(_last_name(b) == base for b in c.bases)]
    # A part may extend the base through a class of its own; then it is the last public class with any base.
    return next(iter(extending), None) or next((c for c in reversed(public) if c.bases), None)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _split(docstring: str) -> tuple[str, list[str]]:
    first, _, rest = docstring.strip().partition("\n")
    return first.strip(), re.split(r"\n\s*\n", textwrap.dedent(rest).strip()) if rest.strip() else []


def _paragraphs(docstring: str) -> tuple[str, list[str]]:
    parts = [_flow(p) for p in re.split(r"\n\s*\n", docstring.strip())] if docstring.strip() else [""]
    return parts[0], parts[1:]


def _flow(paragraph: str) -> str:
    """One line for running text; lists and examples keep their lines."""
    lines = textwrap.dedent(paragraph).strip().splitlines()
    if any(line.startswith((" ", "-", "*")) for line in lines):
        return "\n".join(lines)
    return " ".join(line.strip() for line in lines)


def _sort(paragraphs: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Formula, the paragraphs that begin with a known word and a colon, and the rest."""
    formulas: list[str] = []
    told: dict[str, str] = {}
    rest: list[str] = []
    waiting = False  # `.. math::` may stand alone above an indented block
    for paragraph in paragraphs:
        text = paragraph.strip()
        if text.startswith(".. math::"):
            body = text.removeprefix(".. math::")
            waiting = not body.strip()
            formulas += [] if waiting else [" ".join(body.split())]
        elif waiting and paragraph.startswith(" "):
            formulas.append(" ".join(text.split()))
            waiting = False
        elif known := re.match(r"(Reference|When to use|Cost)s?:", text):
            told[known[1]] = " ".join(text[known.end() :].split())
        else:
            rest.append(_flow(paragraph))
    return "\n".join(formulas), told, rest


def _needs(cls: ast.ClassDef) -> dict[str, Any]:
    """Keywords of the last `Needs(...)` in the class; earlier ones belong to special cases."""
    calls = [n for n in ast.walk(cls) if isinstance(n, ast.Call) and _last_name(n.func) == "Needs"]
    if not calls:
        return {}
    last = max(calls, key=lambda call: call.lineno)
    return {k.arg: ast.literal_eval(k.value) for k in last.keywords if k.arg and _is_literal(k.value)}


def _is_literal(node: ast.expr) -> bool:
    return all(isinstance(n, ast.Constant | ast.Tuple | ast.List | ast.Load) for n in ast.walk(node))


def _fields(cls: ast.ClassDef) -> list[Field]:
    found: list[Field] = []
    for i, node in enumerate(cls.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id.startswith("_") or _head(node.annotation) in ("ClassVar", "Final", "InitVar"):
            continue
        after = cls.body[i + 1] if i + 1 < len(cls.body) else None
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        text = " ".join(text.split()) if isinstance(text, str) else ""
        default = _default(node.value)
        if default != "<internal>":
            found.append(Field(node.target.id, _words(node.annotation), default, text))
    return found


def _head(annotation: ast.expr) -> str:
    return _last_name(annotation.value if isinstance(annotation, ast.Subscript) else annotation)


def _default(value: ast.expr | None) -> str | None:
    if value is None:
        return None
    if isinstance(value, ast.Call) and _last_name(value.func) == "field":
        return _field_default({k.arg: k.value for k in value.keywords if k.arg})
    try:
        literal = ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)
    if isinstance(literal, str) and literal:
        return literal
    return re.sub(r"(?<![\d.])(\d+)e", r"\1.0e", json.dumps(literal))  # YAML takes 1e-06 for a text


def _field_default(arguments: dict[str, ast.expr]) -> str | None:
    """The default of `field(...)`."""
    if "init" in arguments and ast.unparse(arguments["init"]) == "False":
        return "<internal>"
    if "default" in arguments:
        return _default(arguments["default"])
    if "default_factory" not in arguments:
        return None
    factory = arguments["default_factory"]
    return {"list": "[]", "tuple": "[]", "dict": "{}"}.get(ast.unparse(factory), ast.unparse(getattr(factory, "body", factory)))


_BASES: dict[str, str] = {
    "float": "number",
    "int": "whole number",
    "str": "text",
    "bool": "true | false",
    "None": "null",
    "Any": "anything",
}


def _words(annotation: ast.expr) -> str:
    """A type in words."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _words(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return f"{_words(annotation.left)} | {_words(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        return _subscript(annotation)
    name = ast.unparse(annotation)
    alias = getattr(types, name, None) if name.isidentifier() else None
    if get_origin(alias) is Annotated:
        base, *bounds = get_args(alias)
        return _bounded(_BASES.get(str(base.__name__), str(base.__name__)), [(_SIGNS[type(b).__name__], _limit(b)) for b in bounds])
    if get_origin(alias) is Literal:
        return " | ".join(map(str, get_args(alias)))
    return _BASES.get(name, name)


_SIGNS = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}


def _limit(bound: Any) -> str:
    return str(getattr(bound, type(bound).__name__.lower()))


def _subscript(annotation: ast.Subscript) -> str:
    head, inner = _head(annotation), annotation.slice
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if head == "Literal":
        return " | ".join(str(_default(item)) for item in items)
    if head == "Annotated":
        bounds = [
            (_SIGNS[_last_name(b.func)], ast.unparse(b.args[0]))
            for b in items[1:]
            if isinstance(b, ast.Call) and _last_name(b.func) in _SIGNS
        ]
        return _bounded(_words(items[0]), bounds)
    if head in ("list", "Sequence"):
        return f"list of {_words(items[0])}"
    if head == "tuple":
        return "list of " + ", ".join(_words(i) for i in items if ast.unparse(i) != "...")
    if head in ("dict", "Mapping"):
        return "mapping"
    return ast.unparse(annotation)


def _bounded(base: str, bounds: list[tuple[str, str]]) -> str:
    if [sign for sign, _ in bounds] == [">=", "<="]:
        return f"{base} from {bounds[0][1]} to {bounds[1][1]}"
    return " and ".join([f"{base} {bounds[0][0]} {bounds[0][1]}", *(f"{sign} {limit}" for sign, limit in bounds[1:])]) if bounds else base
