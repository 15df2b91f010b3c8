"""Layer names that hold for every model, so that a recipe need not change with its models: `stage1`, ..., `last_stage`, `head`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from torch import nn

from ..errors import TapError
from .head import find_head

STAGES = 4
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus),
    *(nn.Sigmoid, nn.Tanh),
)


def aliases(module: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Common name to path, for those names that the model does not use itself.

    `stageN` is where the resolution has fallen to 1/4, 1/8, 1/16 and 1/32 of the image; in a model of one resolution, the last block of
    each quarter of the depth. timm models say where that is; others are known by the names `layer1`, `layer2`, ... or `stage1`, .... The
    deepest of them is `last_stage` as well. `stageN.activation` is the last activation function in a stage, where it is a layer: what the
    stage says before it is `stageN.activation:input`. `head` is the classifier; its input, `head:input`, is the embedding of the example.
    """
    stages = [path for path in _stages(module, layers) if path in layers]
    found = {f"stage{i + 1}": path for i, path in enumerate(stages)}
    if stages:
        found["last_stage"] = stages[-1]
    for name, path in dict(found).items():
        inside = [inner for inner, layer in layers.items() if inner.startswith(f"{path}.") and isinstance(layer, _ACTIVATIONS)]
        if inside:
            found[f"{name}.activation"] = inside[-1]
    if "head" not in layers:
        found |= _head(module, layers)
    return {name: path for name, path in found.items() if name not in layers}


def expanded(path: str, common: Mapping[str, str]) -> str:
    """The path of the model itself for one that begins with a common name, such as `layer1.0` for `stage1.0`."""
    for name, own in sorted(common.items(), key=lambda item: -len(item[0])):
        if path == name or path.startswith(f"{name}."):
            return own + path[len(name) :]
    return path


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
    for word in ("layer", "stage"):
        named = [f"{word}{i + 1}" for i in range(len(layers))]
        found = list(takewhile(lambda name: name in layers, named))
        if len(found) > 1:
            return found
    return []


def _head(module: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, str]:
    try:
        head = find_head(module)
    except TapError:
        return {}
    return {"head": next(path for path, layer in layers.items() if layer is head)}
