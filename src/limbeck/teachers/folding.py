"""Folds batch normalisation into the convolutions before it: the same function of the input with less work.

In evaluation mode a batch normalisation is a scale and a shift of each channel, which the convolution before it can do by itself.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

from torch import fx, nn
from torch.nn.utils import fuse_conv_bn_eval, parametrize

from ..taps.path import parse_tap
from ..taps.suggest import with_aliases

_NORMS = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def fold(module: nn.Module, taps: Sequence[str]) -> nn.Module:
    """A copy of `module` for evaluation, without the batch normalisations that can be folded; it shares all other tensors.

    A convolution whose own output is tapped stays as it is, and so does whatever has hooks, a parametrisation or is used twice. A model
    whose forward cannot be traced is returned itself.

    Args:
        module: a model in evaluation mode; it stays as it is.
        taps: what will be read of it.
    """
    pairs = _pairs(module, taps)
    if not pairs:
        return module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    folded = copy.deepcopy(module, shared)
    for conv, norm in pairs:
        folded.set_submodule(conv, fuse_conv_bn_eval(folded.get_submodule(conv), folded.get_submodule(norm)))  # pyright: ignore[reportArgumentType]
        folded.set_submodule(norm, nn.Identity())
    return folded.eval().requires_grad_(False)


def _pairs(module: nn.Module, taps: Sequence[str]) -> list[tuple[str, str]]:
    """Paths of the convolutions and of the normalisations behind them that can be folded."""
    if not any(isinstance(m, tuple(_NORMS.values())) for m in module.modules()):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = fx.Tracer().trace(module)
    except Exception:  # any model's own code may refuse to be traced; then there is nothing to fold
        return []
    calls = [node for node in graph.nodes if node.op == "call_module"]
    often = [node.target for node in calls]
    layers = with_aliases(module)
    read = {(id(layers.get(tap.path)), tap.side) for tap in map(parse_tap, taps)}
    found = []
    for node in calls:
        conv = node.args[0] if node.args else None
        if not isinstance(conv, fx.Node) or conv.op != "call_module" or len(conv.users) > 1:
            continue
        paths = (str(conv.target), str(node.target))
        once = often.count(conv.target) == often.count(node.target) == 1
        seen = (id(layers[paths[0]]), "output") in read or (id(layers[paths[1]]), "input") in read
        if once and not seen and _folds(module.get_submodule(paths[0]), module.get_submodule(paths[1])) and not _twice(module, paths):
            found.append(paths)
    return found


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the two are a plain convolution and the plain normalisation that belongs to it, with nothing attached to them."""
    if _NORMS.get(type(conv)) is not type(norm) or norm.running_mean is None:  # pyright: ignore[reportArgumentType]
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks or parametrize.is_parametrized(m) for m in (conv, norm))  # noqa: SLF001
    return not hooked and not norm.training


def _twice(module: nn.Module, paths: tuple[str, str]) -> bool:
    """Whether one of two layers stands in the model under a second name, or shares its weight with another."""
    own = {id(tensor) for path in paths for tensor in module.get_submodule(path).parameters()}
    names = [name for name, tensor in module.named_parameters(remove_duplicate=False) if id(tensor) in own]
    return len(names) != len(own)
