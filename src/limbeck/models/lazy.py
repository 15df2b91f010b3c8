r"""Lazy models: the change of a model's output since its beginning, enlarged, so that its parameters hardly need to move.

.. math:: f(x) = \alpha \left(F(\theta; x) - F(\theta_0; x)\right)

The larger alpha, the less must theta change for the same change of f, and the nearer is training to that of a linear model of the
gradients at theta_0, the neural tangent kernel (*lazy*); the smaller, the more do the features change (*rich*). The output is 0 at first.
The gradient is alpha times that of F, and the kernel alpha squared times: with plain gradient descent a rate of lr / alpha^2 gives
arms of different alpha the same speed.

theta_0 is a part of the model's state, as buffers of one further layer. Running statistics of both follow what each sees; with dropout the
output is 0 in evaluation only, where nothing is dropped. A forward costs two.

Reference: Chizat, Oyallon, Bach, "On Lazy Training in Differentiable Programming", NeurIPS 2019, arXiv:1812.07956, section 1; Kumar et
al., "Grokking as the Transition from Lazy to Rich Training Dynamics", ICLR 2024, arXiv:2310.06110.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import ModelError
from .checkpoints import load_into

_NAME = "lazy_start"


class Start(nn.Module):
    """What a model was at its beginning, and by how much its change is enlarged.

    Its layers have no contents and are hidden from `modules()`, so that taps, heads and counts of parameters are those of the model alone.

    Args:
        module: a model as it is now.
        alpha: the factor.
    """

    alpha: Tensor

    def __init__(self, module: nn.Module, alpha: float) -> None:
        super().__init__()
        own = _tensors(module)
        self._body = (copy.deepcopy(module).to("meta"),)
        self._keys = {name: name.replace(".", "__") for name in own}
        for name, value in own.items():
            self.register_buffer(self._keys[name], value.detach().clone())
        self.register_buffer("alpha", torch.tensor(float(alpha), device=next(iter(own.values())).device))

    def tensors(self) -> dict[str, Tensor]:
        """theta_0 by the model's own names, and its running statistics."""
        return {name: self.get_buffer(key) for name, key in self._keys.items()}

    def forward(self, *args: Any) -> Any:
        """What it gives for `args`; the mode is that of the model around it."""
        body = self._body[0].train(self.training)
        return functional_call(body, self.tensors(), args, tie_weights=False)  # all names are given, tied ones too


class _Change:
    """A forward hook of a lazy model: the enlarged change in the place of the output."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        """`output` and what is given back have one shape."""
        if not isinstance(output, Tensor):
            raise ModelError(f"{type(module).__name__} gives a {type(output).__name__}; lazy is for models that give one tensor.")
        start = start_of(module)
        return (output - start(*args)) * start.alpha


def make_lazy(module: nn.Module, alpha: float, reference: str) -> None:
    """Makes a model the enlarged change of itself from now on, in place; class, layers and their paths stay.

    Args:
        module: gives a tensor, and has its initial weights; on the meta device, too.
        alpha: positive.
        reference: what messages call the model.

    Raises:
        ModelError: where there is nothing to learn, and for containers, which run whatever is added to them.
    """
    if isinstance(module, nn.Sequential):
        raise ModelError(f"{reference} is a Sequential, which would run its own beginning as one more layer; wrap it in a module.")
    if next(module.parameters(), None) is None:
        raise ModelError(f"{reference} has no parameters, so it cannot be lazy.")
    module.add_module(_NAME, Start(module, alpha))
    module.register_forward_hook(_Change())


def is_lazy(module: nn.Module) -> bool:
    """Whether a model is lazy."""
    return _NAME in dict(module.named_children())


def start_of(module: nn.Module) -> Start:
    """The beginning of a lazy model."""
    return cast("Start", module.get_submodule(_NAME))


def of_start(name: str) -> bool:
    """Whether this is the name of a tensor of a beginning."""
    return name.startswith(f"{_NAME}.")


def without_start(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model but those of its beginning."""
    return {name: value for name, value in state.items() if not of_start(name)}


def check_start(state: Mapping[str, Tensor], alpha: float | None, reference: str, source: str) -> None:
    """Refuses weights whose model was lazy by another factor, or is not to be lazy any more.

    Args:
        state: of any model.
        alpha: what is asked for.
        reference: what messages call the model.
        source: what they call the weights.

    Raises:
        ModelError: says which `lazy` they go with.
    """
    given = state.get(f"{_NAME}.alpha")
    if given is None or (alpha is not None and math.isclose(given.item(), alpha, rel_tol=1e-6)):
        return
    raise ModelError(f"{source}: these are the weights of a lazy model; give {reference} its factor: lazy: {given.item():g}.")


def load_start(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Gives a lazy model the beginning in `state`, if there is one.

    Raises:
        ModelError: where it is the beginning of a model of other layers.
    """
    given = {name.removeprefix(f"{_NAME}."): value for name, value in state.items() if of_start(name)}
    if given:
        load_into(start_of(module), given, source=source)


@torch.no_grad()
def begin_lazy(module: nn.Module, state: Mapping[str, Tensor], source: str, *, alpha: float, other: float | None) -> None:
    """Lets a lazy model begin as another one, from which it then departs; as a lazy one, it goes on departing from that one's beginning.

    Args:
        module: the lazy model.
        state: of the other one.
        source: what messages call the other one.
        alpha: the factor of `module`.
        other: that of the other one; None where it is not lazy.

    Raises:
        ModelError: where the layers differ, or the factors do.
    """
    if other not in (None, alpha):
        raise ModelError(f"{source} is lazy by another factor: expected lazy: {alpha:g}, as of the learner, found {other:g}.")
    start = start_of(module)
    own = {f"{_NAME}.{name}": value for name, value in start.state_dict().items()}
    load_into(module, {**own, **state}, source=source)
    if other is None:
        now = _tensors(module)
        for name, value in start.tensors().items():
            value.copy_(now[name])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
