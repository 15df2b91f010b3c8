r"""Held-out inputs that are worse than what was trained on: noise, blur, less contrast, parts that are hidden, at five severities.

What happens to an example is a function of the seed and of its place, never of the batch that it comes in, and stronger severities of a
kind share their random numbers with the weaker ones. The kinds are those of the reference that make sense for small and large images
alike; widths are shares of the image's side, so that one scale serves all sizes.

Reference: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv:1903.12261, section 4; the strengths are this implementation's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError, UnknownName
from ..types import DataInfo
from .base import Examples
from .stores import TokenStore
from .transforms.base import Draws, Transform
from .typos import TEXTS, misspelt

LEVELS: Mapping[str, Mapping[str, tuple[float, float, float, float, float]]] = {
    "image": {
        "noise": (0.06, 0.1, 0.16, 0.24, 0.35),
        "shot": (100.0, 40.0, 18.0, 9.0, 5.0),
        "impulse": (0.02, 0.05, 0.09, 0.16, 0.26),
        "blur": (0.01, 0.02, 0.03, 0.04, 0.055),
        "pixelate": (0.8, 0.65, 0.5, 0.38, 0.28),
        "contrast": (0.7, 0.5, 0.35, 0.22, 0.12),
        "brightness": (0.08, 0.16, 0.25, 0.35, 0.5),
        "occlusion": (0.03, 0.07, 0.13, 0.2, 0.3),
    },
    "tabular": {"noise": (0.1, 0.25, 0.5, 0.8, 1.2), "missing": (0.05, 0.1, 0.2, 0.35, 0.5)},
    "text": {"typos": (0.02, 0.05, 0.1, 0.15, 0.25), "dropped_words": (0.05, 0.1, 0.2, 0.3, 0.45)},
}
"""By kind of data and corruption, its strength at severity 1 to 5: images in the unit of their range, tables in deviations of a column."""


def kinds_of(names: Sequence[str], kind: str) -> list[str]:
    """The corruptions that are meant by `names`, of which `all` is every one for this kind of data.

    Raises:
        UnknownName: for the first one that there is not.
    """
    known = LEVELS[kind]
    for name in names:
        if name not in known and name != "all":
            raise UnknownName(f"corruption of {kind} data", name, ["all", *known])
    return list(known) if "all" in names else list(dict.fromkeys(names))


@final
@dataclass(frozen=True, kw_only=True)
class Corruption(Transform):
    """One corruption at one strength."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular")

    name: str
    strength: float
    low: float = 0.0
    """Images: the least value that a pixel may have."""
    high: float = 1.0
    """The largest."""
    mean: tuple[float, ...] = ()
    """Tables: what stands for a missing value of each column."""
    std: tuple[float, ...] = ()
    """The deviation of each column."""

    def apply(self, inputs: Tensor, draws: Draws) -> Tensor:
        """The corrupted inputs."""
        if inputs.ndim == 2:
            return _TABLE[self.name](self, inputs, draws)
        unit = (inputs - self.low) / (self.high - self.low)
        return _IMAGE[self.name](self.strength, unit, draws).clamp(0, 1) * (self.high - self.low) + self.low


def _normal(inputs: Tensor, draws: Draws) -> Tensor:
    return torch.stack([torch.randn(inputs.shape[1:], generator=generator) for generator in draws.generators()])


def _uniform(inputs: Tensor, draws: Draws) -> Tensor:
    return torch.stack([torch.rand(inputs.shape[1:], generator=generator) for generator in draws.generators()])


def _noise(strength: float, images: Tensor, draws: Draws) -> Tensor:
    return images + strength * _normal(images, draws)


def _shot(strength: float, images: Tensor, draws: Draws) -> Tensor:
    rates = images.clamp(0, 1) * strength
    drawn = [torch.poisson(rate, generator=generator) for rate, generator in zip(rates, draws.generators(), strict=True)]
    return torch.stack(drawn) / strength


def _impulse(strength: float, images: Tensor, draws: Draws) -> Tensor:
    drawn = _uniform(images, draws)
    return torch.where(drawn < strength / 2, 0.0, torch.where(drawn > 1 - strength / 2, 1.0, images))


def _blur(strength: float, images: Tensor, draws: Draws) -> Tensor:
    sigma = 0.4 + strength * max(images.shape[2:])  # of tiny images a share of the side alone would be nothing
    radius = min(max(1, round(3 * sigma)), min(images.shape[2:]) - 1)
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-offset.float().square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(images.dtype)
    around = F.pad(images, (radius,) * 4, mode="reflect")[:, :, None]
    # Image by image: of a whole batch, a convolution rounds in an order that depends on its size.
    rows, columns = kernel[None, None, None, :], kernel[None, None, :, None]
    return torch.stack([F.conv2d(F.conv2d(image, rows), columns)[:, 0] for image in around])


def _pixelate(strength: float, images: Tensor, draws: Draws) -> Tensor:
    size = [max(1, round(strength * side)) for side in images.shape[2:]]
    return F.interpolate(F.interpolate(images, size, mode="area"), images.shape[2:], mode="area")


def _contrast(strength: float, images: Tensor, draws: Draws) -> Tensor:
    mean = images.double().mean((1, 2, 3), keepdim=True).to(images.dtype)
    return mean + strength * (images - mean)


def _brightness(strength: float, images: Tensor, draws: Draws) -> Tensor:
    return images + strength


def _occlusion(strength: float, images: Tensor, draws: Draws) -> Tensor:
    """A grey square of that share of the area, wholly inside."""
    height, width = images.shape[2:]
    side = max(1, round((strength * height * width) ** 0.5))
    tall, wide = min(side, height), min(side, width)
    top, left = draws.integers(0, height - tall + 1), draws.integers(1, width - wide + 1)
    down, across = torch.arange(height)[None] - top[:, None], torch.arange(width)[None] - left[:, None]
    inside = ((down >= 0) & (down < tall))[:, None, :, None] & ((across >= 0) & (across < wide))[:, None, None, :]
    return images.masked_fill(inside, 0.5)


def _column_noise(corruption: Corruption, rows: Tensor, draws: Draws) -> Tensor:
    return rows + corruption.strength * torch.tensor(corruption.std) * _normal(rows, draws)


def _missing(corruption: Corruption, rows: Tensor, draws: Draws) -> Tensor:
    return torch.where(_uniform(rows, draws) < corruption.strength, torch.tensor(corruption.mean), rows)


_IMAGE: Mapping[str, Callable[[float, Tensor, Draws], Tensor]] = {
    "noise": _noise,
    "shot": _shot,
    "impulse": _impulse,
    "blur": _blur,
    "pixelate": _pixelate,
    "contrast": _contrast,
    "brightness": _brightness,
    "occlusion": _occlusion,
}
_TABLE: Mapping[str, Callable[[Corruption, Tensor, Draws], Tensor]] = {"noise": _column_noise, "missing": _missing}


def corrupted(examples: Examples, info: DataInfo, name: str, severity: int, *, seed: int, tokenizer: str | None = None) -> Examples:
    """The same examples, corrupted; further views of them likewise.

    Args:
        examples: of the test split; what is done to them already comes first.
        info: of the data, for the kind and the scale of the columns.
        name: of the corruption.
        severity: from 1 to 5.
        seed: of what is random.
        tokenizer: of texts.

    Raises:
        UnknownName: no such corruption of this kind of data.
        DataError: where a view of the examples is of another kind, or texts have views.
    """
    (known,) = kinds_of([name], info.kind)
    strength = LEVELS[info.kind][known][severity - 1]
    if isinstance(examples.store, TokenStore):
        if examples.views:
            raise DataError("evaluate.corruptions: texts with further views (data.views) are not corrupted. Leave one of the two out.")
        store = misspelt(examples.store, examples.rows, TEXTS[known], strength, seed=seed, tokenizer=tokenizer)
        return Examples(store, examples.labels, groups=examples.groups)
    own = (*examples.transforms, corruption_of(examples, None, info, known, strength))
    views = {}
    for view, shown in examples.views.items():
        if info.views[view].kind != info.kind:
            raise DataError(f"evaluate.corruptions: the view {view!r} shows {info.views[view].kind} data, {known} is for {info.kind} data.")
        views[view] = replace(shown, transforms=(*shown.transforms, corruption_of(examples, view, info.views[view], known, strength)))
    made = Examples(examples.store, examples.labels, examples.rows, own, views, examples.groups, examples.among)
    return made.augmented(*(examples.key or (seed, 0)))


def corruption_of(examples: Examples, view: str | None, info: DataInfo, name: str, strength: float) -> Corruption:
    """The corruption in the scale of what is seen of the examples."""
    if info.kind == "tabular":
        width = info.input_shape[0]
        return Corruption(name=name, strength=strength, mean=info.mean or (0.0,) * width, std=info.std or (1.0,) * width)
    some = examples.seen(view).store.gather(examples.rows[:256])
    low, high = min(0.0, float(some.min())), max(1.0, float(some.max()))
    return Corruption(name=name, strength=strength, low=low, high=high)
