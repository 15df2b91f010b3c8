"""Small mistakes that a person could make in a formula, as changes of its syntax tree."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

MARK = re.compile(r"#\s*mutate: equivalent(?: ([a-z]+(?:, [a-z]+)*))? \(.+\)")
"""Ends a line whose mutants that survive are equivalent to it, with the reason in brackets; kinds before it leave the others out."""

_OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_NAMES = {
    "sum": "mean",
    "mean": "sum",
    "amax": "amin",
    "amin": "amax",
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "argmax": "argmin",
    "argmin": "argmax",
    "all": "any",
    "any": "all",
    "triu": "tril",
    "tril": "triu",
    "floor": "ceil",
    "ceil": "floor",
    "cos": "sin",
    "sin": "cos",
    "exp": "expm1",
    "log": "log1p",
    "softmax": "log_softmax",
    "log_softmax": "softmax",
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "new_zeros": "new_ones",
    "new_ones": "new_zeros",
    "square": "abs",
    "abs": "square",
    "relu": "neg",
}
_BOUNDS = {
    "Positive": "NonNegative",
    "NonNegative": "float",
    "Fraction": "NonNegative",
    "PositiveInt": "NonNegativeInt",
    "NonNegativeInt": "int",
}
_SYMMETRIC = {
    *("max", "min", "maximum", "minimum", "mse_loss", "l1_loss", "smooth_l1_loss", "squared_error", "logaddexp", "dot", "vecdot"),
    *("cosine_similarity", "isclose", "allclose", "isinstance", "cast", "zip", "replace"),
}
"""Calls whose first two arguments are alike, or of which a swap can only fail."""
_MAKERS = {"len", "range", "zip", "enumerate", "tuple", "list", "dict", "set", "isinstance", "super", "field", "cast", "partial", "getattr"}
"""Calls that are not to be replaced by their argument: what comes out is of another kind, so that it can only fail."""
_VIEWS = {"size", "item", "items", "keys", "values", "get", "format", "join", "register_buffer", "removeprefix"}


@dataclass(frozen=True)
class Mutant:
    """One mistake."""

    number: int
    line: int
    kind: str
    before: str
    after: str
    tree: ast.Module = field(repr=False, compare=False)
    function: str
    """Qualified name of the function whose body holds it; empty where it is outside of functions, so that the module is made anew."""

    def __str__(self) -> str:
        return f"{self.line}: {self.kind}: {self.before}  ->  {self.after}"


Edit = tuple[str, Callable[[Any], ast.AST | None]]
"""Kind of a mistake, and what it makes of a fresh copy of the node (None removes a statement)."""


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for number, node in enumerate(nodes):
        node._number = number  # type: ignore[attr-defined]  # noqa: SLF001 - copies keep it
    found: list[Mutant] = []
    seen = {ast.unparse(tree)}
    for node, function, statement in _places(tree):
        for kind, change in _edits(node, statement):
            mutated = cast(ast.Module, _Replace(node._number, change).visit(copy.deepcopy(tree)))  # type: ignore[attr-defined]  # noqa: SLF001
            ast.fix_missing_locations(mutated)
            text = ast.unparse(mutated)
            if text in seen:
                continue
            seen.add(text)
            before, after = _short(node), _short(change(copy.deepcopy(node)))
            found.append(Mutant(len(found), getattr(node, "lineno", 0), kind, before, after, mutated, function))
    return found


def marked(source: str) -> dict[int, set[str]]:
    """The lines whose surviving mutants are declared equivalent, with the kinds of mutants of which that is said; none means all."""
    found = {number: MARK.search(line) for number, line in enumerate(source.splitlines(), 1)}
    return {number: set(mark[1].split(", ")) if mark[1] else set() for number, mark in found.items() if mark}


class _Replace(ast.NodeTransformer):
    def __init__(self, number: int, change: Callable[[ast.AST], ast.AST | None]) -> None:
        self.number, self.change = number, change

    def visit(self, node: ast.AST) -> ast.AST:
        """Changes the node of the number, and leaves the others."""
        if getattr(node, "_number", None) != self.number:
            return self.generic_visit(node)
        new = self.change(node) or ast.Pass()
        return ast.copy_location(new, node)


def _short(node: ast.AST | None) -> str:
    text = " ".join(ast.unparse(node).split()) if node is not None else "(nothing)"
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass(frozen=True)
class _Statement:
    """Where a node stands."""

    raises: bool = False
    needs: bool = False
    """Within a call of `Needs`, whose words are mutated too."""
    arguments: frozenset[str] = frozenset()


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, str, _Statement]]:
    """Every node that may be mutated, the outermost function that holds it, and the statement that it stands in."""

    def walk(node: ast.AST, function: str, prefix: str, where: _Statement) -> Iterator[tuple[ast.AST, str, _Statement]]:
        for name, value in ast.iter_fields(node):
            if _skipped(node, name, where):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or _ignored(child):
                    continue
                own, inner, place = function, prefix, where
                if isinstance(child, ast.ClassDef) and not function:
                    inner = f"{prefix}{child.name}."
                if isinstance(node, ast.FunctionDef) and not function and name == "body":
                    own = f"{prefix}{node.name}"
                    place = _Statement(arguments=frozenset(a.arg for a in [*node.args.args, *node.args.kwonlyargs]))
                place = _entered(child, place)
                yield child, own, place
                yield from walk(child, own, inner, place)

    yield from walk(tree, "", "", _Statement())


def _entered(node: ast.AST, where: _Statement) -> _Statement:
    if isinstance(node, ast.Raise):
        return _Statement(True, where.needs, where.arguments)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Needs":
        return _Statement(where.raises, True, where.arguments)
    return where


def _skipped(node: ast.AST, name: str, where: _Statement) -> bool:
    """Parts that say nothing of what is computed: types, but for the bounds of fields, names and decorators of classes."""
    if name in ("annotation", "returns", "type_comment", "ctx"):
        return not (isinstance(node, ast.AnnAssign) and name == "annotation" and isinstance(node.annotation, ast.Name))
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip, a second lock
        return True
    return (isinstance(node, ast.ClassDef) and name != "body") or (isinstance(node, ast.JoinedStr) and not where.raises)


def _ignored(node: ast.AST) -> bool:
    """Imports, docstrings, exemptions from the contract, and what only a type checker reads."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return True
    if isinstance(node, ast.AnnAssign | ast.Assign):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        if any(isinstance(target, ast.Name) and target.id in ("exempt", "__all__") for target in targets):
            return True
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Subscript)
            and ast.unparse(node.value.value) in ("Literal", "Annotated")
        ):
            return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _edits(node: ast.AST, where: _Statement) -> Iterator[Edit]:  # noqa: C901, PLR0912 - one branch for each kind of node
    match node:
        case ast.BinOp(op=op):
            for other in _OPERATORS.get(type(op), ()):
                yield "operator", lambda n, o=other: ast.BinOp(n.left, o(), n.right)
        case ast.AugAssign(op=op):
            for other in _OPERATORS.get(type(op), ()):
                yield "operator", lambda n, o=other: ast.AugAssign(n.target, o(), n.value)
            yield "removed", lambda n: None
        case ast.UnaryOp():
            yield "operator", lambda n: n.operand
        case ast.Compare(ops=[op]):
            for other in _COMPARISONS[type(op)]:
                yield "comparison", lambda n, o=other: ast.Compare(n.left, [o()], n.comparators)
            yield from _words(node)
        case ast.BoolOp(op=op):
            yield "condition", lambda n: ast.BoolOp(ast.And() if isinstance(n.op, ast.Or) else ast.Or(), n.values)
        case ast.If() | ast.IfExp():
            yield "condition", _negated
        case ast.comprehension(ifs=[_, *_]):
            yield "condition", lambda n: ast.comprehension(n.target, n.iter, [ast.UnaryOp(ast.Not(), n.ifs[0]), *n.ifs[1:]], n.is_async)
        case ast.Constant():
            yield from _constants(node, where)
        case ast.JoinedStr():
            yield "message", lambda n: ast.Constant("XX")
        case ast.Tuple(elts=[_, *_]) if where.needs:
            yield "needs", lambda n: ast.Tuple(n.elts[:-1], n.ctx)
        case ast.AnnAssign(annotation=ast.Name(id=bound), value=value) if bound in _BOUNDS and value is not None:
            yield "bound", lambda n: ast.AnnAssign(n.target, ast.Name(_BOUNDS[n.annotation.id], ast.Load()), n.value, n.simple)
        case ast.AnnAssign(annotation=ast.Subscript(), value=ast.Constant(value=str())):
            yield from _choices(node)
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield "removed", lambda n: None
        case ast.Assign(targets=[target]):
            if _reassigned(target, node.value, where):
                yield "removed", lambda n: None
        case ast.Call():
            yield from _calls(node)
        case ast.FunctionDef(decorator_list=[ast.Call(), *_]):
            yield "decorator", _undecorated


def _negated(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.If | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _undecorated(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.FunctionDef)
    node.decorator_list = []
    return node


def _reassigned(target: ast.expr, value: ast.expr, where: _Statement) -> bool:
    """Whether all that an assignment names has a value before it, so that removing it is no plain mistake of names."""
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    read = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    return bool(names) and names <= (where.arguments | read)


def _words(node: ast.Compare) -> Iterator[Edit]:
    """The name of a variant that is compared with."""
    other = node.comparators[0]
    if isinstance(other, ast.Constant) and isinstance(other.value, str):
        yield "choice", lambda n: ast.Compare(n.left, n.ops, [ast.Constant("XX")])


def _choices(node: ast.AnnAssign) -> Iterator[Edit]:
    """Another default of a field with choices."""
    annotation, value = node.annotation, node.value
    assert isinstance(annotation, ast.Subscript)
    assert isinstance(value, ast.Constant)
    items = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    for item in items:
        if ast.unparse(annotation.value) == "Literal" and isinstance(item, ast.Constant) and item.value != value.value:
            yield "default", lambda n, new=item.value: ast.AnnAssign(n.target, n.annotation, ast.Constant(new), n.simple)


def _constants(node: ast.Constant, where: _Statement) -> Iterator[Edit]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", lambda n: ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", lambda n: ast.Constant(value + 1 if value + 1 != value else 1.0)
        if 1 < abs(value) < 1e6:
            yield "constant", lambda n: ast.Constant(value - 1)
    elif isinstance(value, str) and where.needs:
        others = {"none": "one", "optional": "none", "one": "many", "many": "one", "any": "full", "space": "any", "full": "any"}
        heads = {"student": "both", "teacher": "both", "both": "teacher"}
        new = (others | heads).get(value)
        if new is not None:
            yield "needs", lambda n: ast.Constant(new)
    elif isinstance(value, str) and where.raises and len(value) > 3:
        yield "message", lambda n: ast.Constant("XX")


def _calls(node: ast.Call) -> Iterator[Edit]:
    """Another function, swapped arguments, an argument instead of the call."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _NAMES:
        yield "function", _renamed
    plain = [a for a in node.args if not isinstance(a, ast.Starred)]
    if len(plain) == len(node.args) >= 2 and name not in _SYMMETRIC and ast.dump(plain[0]) != ast.dump(plain[1]) and not _fixed(plain):
        yield "swapped", lambda n: ast.Call(n.func, [n.args[1], n.args[0], *n.args[2:]], n.keywords)
    for number, word in enumerate(node.keywords):
        if isinstance(word.value, ast.Constant) and isinstance(word.value.value, str) and name != "Needs":
            yield "argument", lambda n, i=number: ast.Call(n.func, n.args, n.keywords[:i] + n.keywords[i + 1 :])
    if isinstance(node.func, ast.Name) and name[:1].islower() and name not in _MAKERS and plain and not isinstance(plain[0], ast.Constant):
        yield "unwrapped", lambda n: n.args[0] if not isinstance(n.args[0], ast.Starred) else n
    elif isinstance(node.func, ast.Attribute) and name not in _VIEWS:
        base = node.func.value
        if (
            not (isinstance(base, ast.Name) and base.id in ("self", "torch", "F", "math", "nn", "linalg", "cls"))
            and ast.unparse(base) != "torch.linalg"
        ):
            yield "unwrapped", lambda n: n.func.value
        elif plain and name in (
            "relu",
            "sigmoid",
            "softplus",
            "softmax",
            "log_softmax",
            "normalize",
            "where",
            "abs",
            "clamp",
            "nan_to_num",
        ):
            yield "unwrapped", lambda n: n.args[0]


def _renamed(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Call)
    if isinstance(node.func, ast.Attribute):
        node.func.attr = _NAMES[node.func.attr]
    elif isinstance(node.func, ast.Name):
        node.func.id = _NAMES[node.func.id]
    return node


def _fixed(arguments: list[ast.expr]) -> bool:
    return all(isinstance(a, ast.Constant) for a in arguments[:2])
