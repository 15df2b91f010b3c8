"""The blocks that a model is made of, for comparisons of whole models layer by layer."""

from __future__ import annotations

from torch import nn

MOST = 24


def block_paths(module: nn.Module) -> list[str]:
    """Paths of the blocks, in order: the items of the longest list of layers of one type that have parameters, else the parts of the model.

    Of more than 24 as many are taken, evenly spread, the first and the last among them.
    """
    lists = {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.ModuleList | nn.Sequential)}
    longest: list[str] = []
    for path, layer in lists.items():
        items = [name for name, item in layer.named_children() if any(True for _ in item.parameters())]
        alike = len({type(item) for name, item in layer.named_children() if name in items}) == 1
        if alike and len(items) > max(len(longest), 1):
            longest = [f"{path}.{name}" if path else name for name in items]
    paths = longest or [name for name, part in module.named_children() if any(True for _ in part.parameters())]
    if len(paths) <= MOST:
        return paths
    return [paths[round(place * (len(paths) - 1) / (MOST - 1))] for place in range(MOST)]
