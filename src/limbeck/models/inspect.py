"""What a model is made of: path, type, output, parameters and FLOPs of every layer. Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ModelError
from ..taps.path import Tap, key_examples, parse_tap, pick


@dataclass(frozen=True)
class LayerRow:
    """One layer, or the whole model (empty path)."""

    path: str
    """What a tap names."""
    type: str
    """Class of the layer."""
    outputs: Mapping[str, tuple[int, ...]]
    """Shape, batch first, of every tensor that the layer gives, by its tap; empty where it does not run itself."""
    parameters: int
    """Number of parameters in it and below it; shared ones count once."""
    flops: int
    """Floating-point operations of one forward, below it included; a multiplication with addition counts as two."""
    calls: int
    """How often it runs in one forward."""

    @property
    def depth(self) -> int:
        """Nesting: 0 for the model itself, 1 for its children."""
        return self.path.count(".") + 1 if self.path else 0


def layer_table(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> list[LayerRow]:
    """Rows for the model and each layer, in the order of their definition.

    Args:
        module: the model; it runs once in evaluation mode and is left as it was.
        inputs: example inputs, batch first: a tensor, or keyword arguments. Parameters and inputs may lie on the meta device.

    Raises:
        ModelError: where the model cannot run on such inputs.
    """
    outputs: dict[str, Any] = {}
    calls: dict[str, int] = {}
    names = dict(module.named_modules())
    handles = [layer.register_forward_hook(_recorder(path, outputs, calls)) for path, layer in names.items()]
    training = [layer for layer in names.values() if layer.training]
    module.eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            _call(module, inputs)
    except Exception as error:
        raise ModelError(f"{type(module).__name__} cannot run on inputs of {_shapes(inputs)}: {type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
        for layer in training:
            layer.training = True
    flops = _flops_by_path(module, counter)
    return [
        LayerRow(
            path,
            type(layer).__name__,
            outputs.get(path, {}),
            sum(p.numel() for p in layer.parameters()),
            flops.get(path, 0),
            calls.get(path, 0),
        )
        for path, layer in names.items()
    ]


def _call(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> Any:
    return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)


def _recorder(path: str, outputs: dict[str, Any], calls: dict[str, int]) -> Any:
    def record(module: nn.Module, args: Any, output: Any) -> None:
        calls[path] = calls.get(path, 0) + 1
        outputs[path] = _tensors(path, output)

    return record


def _tensors(path: str, output: Any) -> dict[str, tuple[int, ...]]:
    """Tap to shape of each tensor in `output`."""
    tap = Tap(path)
    if isinstance(output, Tensor):
        return {str(tap): tuple(output.shape)}
    return {text: tuple(pick(output, parse_tap(text).keys, text).shape) for text in key_examples(output, tap)}


def _flops_by_path(module: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """The counter names layers by the class of the model and their path."""
    root = type(module).__name__
    total = {path: sum(counts.values()) for path, counts in counter.get_flop_counts().items()}
    return {"": counter.get_total_flops(), **{path[len(root) + 1 :]: n for path, n in total.items() if path.startswith(f"{root}.")}}


def _shapes(inputs: Tensor | Mapping[str, Tensor]) -> str:
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name} {tuple(x.shape)}" for name, x in inputs.items())
    return f"shape {tuple(inputs.shape)}"
