"""Layer names that hold for every model, so that a recipe need not change with its models: `stage1` to `stage4`, and `head`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import TapError
from .head import find_head

STAGES = 4


def aliases(module: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Common name to path, for those names that the model does not use itself.

    `stageN` is where the resolution has fallen to 1/4, 1/8, 1/16 and 1/32 of the image; in a model of one resolution, the last block of
    each quarter of the depth. timm models say where that is; others are known by torchvision's names (`layer1` to `layer4`). `head` is
    the classifier; its input, `head:input`, is the embedding of the example.
    """
    found = {f"stage{i + 1}": path for i, path in enumerate(_stages(module, layers)) if path in layers}
    if "head" not in layers:
        found |= _head(module, layers)
    return {name: path for name, path in found.items() if name not in layers}


def _stages(module: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    info: Any = vars(module).get("feature_info")
    entries = [entry for entry in getattr(info, "info", info) or [] if isinstance(entry, dict) and {"module", "reduction"} <= entry.keys()]
    if entries and len({entry["reduction"] for entry in entries}) == 1:  # as many quarters as there are blocks, at most four
        count = min(STAGES, len(entries))
        return [entries[(i + 1) * len(entries) // count - 1]["module"] for i in range(count)]
    if entries:
        by_reduction = {entry["reduction"]: entry["module"] for entry in entries}
        wanted = [by_reduction.get(4 * 2**i) for i in range(STAGES)]
        return [path for path in wanted if path is not None] if None not in wanted else [e["module"] for e in entries[-STAGES:]]
    named = [f"layer{i + 1}" for i in range(STAGES)]
    return named if all(name in layers for name in named) else []


def _head(module: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    try:
        head = find_head(module)
    except TapError:
        return {}
    return {"head": next(path for path, layer in layers.items() if layer is head)}
