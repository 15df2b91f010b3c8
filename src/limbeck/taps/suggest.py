"""Layer paths of a model, and those nearest to one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from torch import nn

from .aliases import aliases


def layer_paths(module: nn.Module) -> dict[str, nn.Module]:
    """Every path to its layer, the model itself under the empty path; a shared layer stands under each of its paths."""
    return dict(module.named_modules(remove_duplicate=False))


def with_aliases(module: nn.Module) -> dict[str, nn.Module]:
    """The same, and the common names (`stage1`, `head`) that the model does not use itself, with what lies below them."""
    layers = layer_paths(module)
    common = aliases(module, layers)
    below = {name + path[len(own) :]: layer for name, own in common.items() for path, layer in layers.items() if path.startswith(f"{own}.")}
    return layers | below | {name: layers[path] for name, path in common.items()}


def nearest(path: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """The paths most like `path`, best first."""
    options = [p for p in known if p]
    last = path.rpartition(".")[2]
    same_ending = [p for p in options if p.rpartition(".")[2] == last or p.endswith(f".{path}")]
    close = difflib.get_close_matches(path, options, n=count, cutoff=0.6)
    return list(dict.fromkeys([*close, *sorted(same_ending, key=len)]))[:count]


def explain_missing(path: str, layers: Mapping[str, nn.Module]) -> str:
    """Why `path` names no layer, and what stands near it."""
    parent, last = path, path
    while parent and parent not in layers:
        parent, _, last = parent.rpartition(".")
    children = [name for name, _ in layers[parent].named_children()] if parent in layers else []
    close = nearest(path, layers)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    inside = f"{parent!r}" if parent else "the model"
    shown = ", ".join(children[:12]) + (", ..." if len(children) > 12 else "") if children else "no layers"
    return f"no layer is called {path!r}: {inside} has no {last!r}.{hint} In {inside} there are: {shown}."


def suggest_taps(module: nn.Module, *, count: int = 12) -> list[str]:
    """Paths that are commonly worth a tap: the direct children, and the blocks of those that are lists or sequences.

    A child that holds its blocks in a list further down, as an encoder of texts does, gives its outputs as a record, which cannot be
    tapped; its own children stand in its place.
    """
    return _suggested(module, "", count)[:count]


def _suggested(module: nn.Module, prefix: str, count: int) -> list[str]:
    found: list[str] = []
    for name, child in module.named_children():
        path = prefix + name
        if isinstance(child, nn.ModuleList):  # runs no forward of its own
            found += [f"{path}.{inner}" for inner, _ in child.named_children()]
        elif _blocks_below(child):
            found += _suggested(child, f"{path}.", count)
        elif any(True for _ in child.parameters()):
            found.append(path)
            found += [f"{path}.{i}" for i, c in child.named_children() if any(True for _ in c.children())] if len(found) < count else []
    return found


def _blocks_below(module: nn.Module) -> bool:
    """Whether blocks that are many layers each lie in a list somewhere below."""
    lists = (layer for layer in module.modules() if isinstance(layer, nn.ModuleList))
    return any(any(True for _ in block.children()) for blocks in lists for block in blocks)
