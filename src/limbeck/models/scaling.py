r"""A model made of what others have learnt: each layer is a common beginning and the scaled changes of several source models.

.. math:: y = W_0 x + b_0 + \sum_k \omega_k \odot \left(\Delta W_k x + \Delta b_k\right)

where :math:`W_0` is the layer with which all sources began, :math:`\Delta W_k` what source k has changed in it, and :math:`\omega_k` is
learnt: one number for every channel of the layer (`channel`), for the layer (`layer`), or for the whole model (`model`). Nothing else
learns but the head. As scaling is linear, a forward pass costs that of one model, and at the end the sum is written into the weights, so
that an ordinary model is left.

Reference: Frohmann et al., "ScaLearn: Simple and Highly Parameter-Efficient Task Transfer by Learning to Scale", ACL 2024 (Findings),
arXiv:2310.01217, where the sources are adapters with a nonlinearity, so that their outputs are scaled and not their weights. Beginning and
dropout of the scales are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ModelError
from ..ops.fusion import scaled_sum
from ..taps.head import find_head

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SPREAD = 1e-3
"""Standard deviation of the scales at first."""


@dataclass(frozen=True)
class Sources:
    """Whose changes are scaled."""

    models: Sequence[str]
    """Models of the recipe, by name; they have the layers of this one and have begun with its weights."""
    scales: Literal["channel", "layer", "model"] = "channel"
    """What has a scale of its own, for each source."""
    total: float = 2.0
    """Sum of a channel's scales at first."""
    dropout: float = 0.0
    """Of the scales."""


class Scaled(nn.Module):
    """The parametrization of a weight or a bias: what it was, and the scaled changes."""

    changes: Tensor

    def __init__(self, like: Tensor, scales: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.register_buffer("changes", torch.zeros(scales.shape[0], *like.shape, dtype=like.dtype, device=like.device))
        self.scales, self.dropout = scales, dropout

    def forward(self, original: Tensor) -> Tensor:
        """The sum, of the shape of `original`, `(channels, ...)`."""
        scales = F.dropout(self.scales, self.dropout, self.training)
        rows = self.changes.flatten(2) if self.changes.ndim > 2 else self.changes.unsqueeze(2)  # (sources, channels, rest)
        found = scaled_sum(rows.permute(2, 0, 1), scales.to(original.dtype))
        return original + found.T.reshape(original.shape)


def add_scales(module: nn.Module, how: Sources, reference: str) -> frozenset[str]:
    """Gives the linear and convolutional layers of a model scales, in place; what the sources have changed is not known yet (`fill`).

    Returns:
        Names of the parameters that never learn: all but the scales and the head.

    Raises:
        ModelError: where there is no such layer beside the head.
    """
    head = find_head(module)
    layers = [layer for layer in module.modules() if isinstance(layer, _KINDS) and layer is not head]
    if not layers:
        raise ModelError(
            f"{reference}: {type(module).__name__} has no linear or convolutional layer beside its head, so nothing is scaled."
        )
    count, shared = len(how.models), None
    for layer in layers:
        width = layer.weight.shape[0] if how.scales == "channel" else 1
        if shared is None or how.scales != "model":
            first = torch.full((count, width), how.total / count, device=layer.weight.device)
            shared = nn.Parameter(first + _SPREAD * torch.randn_like(first))
        for name in ("weight", "bias"):
            value = cast("Tensor | None", getattr(layer, name))
            if value is not None:
                parametrize.register_parametrization(layer, name, Scaled(value, shared, how.dropout))
    own = {id(part.scales) for _, _, part in _scaled(module)} | {id(value) for value in head.parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in own)
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) not in own)


def _scaled(module: nn.Module) -> Iterator[tuple[str, Tensor, Scaled]]:
    """Name of every scaled parameter in a model without scales, what it was, and its parametrization."""
    for path, part in module.named_modules():
        if isinstance(part, Scaled):
            layer, _, inner = path.partition(".parametrizations.")
            name = inner.partition(".")[0]
            found = module.get_submodule(path.rpartition(".")[0])
            yield f"{layer}.{name}", cast("parametrize.ParametrizationList", found).original, part


def plain_names(module: nn.Module) -> dict[str, Tensor]:
    """The weights of a model under the names that they have without scales; those of the scales themselves are left out."""
    scaled = {name: original for name, original, _ in _scaled(module)}
    others = {name: value for name, value in module.state_dict().items() if ".parametrizations." not in name}
    return {**others, **scaled}


@torch.no_grad()
def begin(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Gives a model with scales the common beginning.

    Raises:
        ModelError: where `state` has other layers.
    """
    own = plain_names(module)
    _same(own, state, source)
    for name, value in own.items():
        value.copy_(state[name])


@torch.no_grad()
def fill(module: nn.Module, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes down what the sources have changed, by name of the source its weights; what they have changed in other parts is not used.

    Raises:
        ModelError: where a source has other layers.
    """
    for number, (source, state) in enumerate(sources.items()):
        _same({name: original for name, original, _ in _scaled(module)}, state, source)
        for name, original, part in _scaled(module):
            part.changes[number].copy_(state[name].to(original) - original)


def _same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            raise ModelError(f"the model {source!r} has no {name} of shape {tuple(value.shape)}, as the model that is made of it has.")


@torch.no_grad()
def merge_scales(module: nn.Module) -> None:
    """Writes the sums into the weights, in place: an ordinary model is left, which answers as in evaluation."""
    module.eval()
    for layer in [layer for layer in module.modules() if parametrize.is_parametrized(layer)]:
        for name in list(cast("nn.ModuleDict", layer.parametrizations)):
            parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
