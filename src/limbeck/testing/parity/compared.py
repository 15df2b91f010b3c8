"""Which losses each stored method of official numbers is compared with: read from the adapters, without importing them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def compared() -> dict[str, set[str]]:
    """The stored methods, each with the losses that its adapter in limbeck.testing.parity runs."""
    found: dict[str, set[str]] = {}
    for file in sorted(Path(__file__).with_name("adapters").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        losses = {a.asname or a.name: _loss_module(n, a) for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        for function in functions.values():
            names, waiting = set[str](), [function.name]
            while waiting:
                name = waiting.pop()
                if name not in names:
                    names.add(name)
                    used = functions.get(name)
                    waiting += [n.id for n in ast.walk(used) if isinstance(n, ast.Name)] if used else []
            calls = [
                d for d in function.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "adapter"
            ]
            for method in (a.value for call in calls for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)):
                found[method] = {losses[n] for n in names if losses.get(n)}
    return found


def _loss_module(node: ast.ImportFrom, name: ast.alias) -> str:
    """The loss whose module `name` is imported from, or is."""
    package, _, module = (node.module or "").partition(".")
    return "" if package != "losses" else module or name.name
