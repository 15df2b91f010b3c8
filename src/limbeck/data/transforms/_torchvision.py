"""Transforms of torchvision.transforms.v2, seeded for every example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError, MissingDependency, UnknownName, did_you_mean
from .base import Draws, Transform


@dataclass(frozen=True, kw_only=True)
class TorchvisionTransform(Transform):
    """One transform of torchvision, applied to one image after the other under its own random state."""

    name: str
    transform: Callable[[Tensor], Tensor]

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """Transforms every image; torch's global random state is as before afterwards."""
        default = torch.default_generator
        state = default.get_state()
        try:
            images = []
            for generator, image in zip(draws.generators(), inputs, strict=True):
                default.manual_seed(generator.initial_seed())
                images.append(self.transform(image))
        finally:
            default.set_state(state)
        if any(image.shape != inputs.shape[1:] for image in images):
            found = next(tuple(image.shape) for image in images if image.shape != inputs.shape[1:])
            raise DataError(
                f"transform 'tv:{self.name}' changes the shape from {tuple(inputs.shape[1:])} to {found}; use data.size to resize."
            )
        return torch.stack(images).to(inputs.dtype)


def torchvision_transform(name: str, args: Any) -> TorchvisionTransform:
    """The transform `name` of torchvision.transforms.v2 with its arguments.

    Raises:
        UnknownName: no such transform.
        DataError: an argument that it does not take.
        MissingDependency: torchvision is not installed.
    """
    try:
        from torchvision.transforms import v2
    except ImportError as error:
        raise MissingDependency("torchvision", "vision", f"the transform tv:{name}") from error
    options = {key: cls for key, cls in vars(v2).items() if inspect.isclass(cls) and issubclass(cls, v2.Transform) and key != "Transform"}
    if name not in options:
        raise UnknownName("transform of torchvision", name, sorted(options))
    accepted = [parameter for parameter in inspect.signature(options[name]).parameters if parameter != "self"]
    if args is not None and not isinstance(args, Mapping):
        args = {accepted[0]: args} if accepted else {"": args}
    for key in args or {}:
        if key not in accepted:
            listed = ", ".join(accepted) or "none"
            raise DataError(f"transform 'tv:{name}': no argument is called {key!r}.{did_you_mean(str(key), accepted)} Accepted: {listed}.")
    try:
        return TorchvisionTransform(name=name, transform=options[name](**(args or {})))
    except Exception as error:  # whatever the constructor makes of its arguments
        raise DataError(f"transform 'tv:{name}': {error} Accepted: {', '.join(accepted)}.") from error
