"""Classification data sets of torchvision, such as `torchvision:CIFAR10`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import DataError, MissingDependency
from ..stores import to_pixels
from ._arrays import inputs_from_array
from .base import Pool, Source, Wanted, choose, joined


@final
@dataclass(frozen=True, kw_only=True)
class Torchvision(Source):
    """A class of `torchvision.datasets` with a training and a test part; decoded into memory."""

    root: str = "data"
    """Folder that holds the files."""
    download: bool = False
    """Fetch the files where they are missing."""
    channels: int = 3
    """Of images that are decoded from files: 3 for RGB, 1 for greyscale."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Training and test part."""
        try:
            from torchvision import datasets
        except ImportError as error:
            raise MissingDependency("torchvision", "vision", "a source torchvision:") from error
        options = {name: cls for name in datasets.__all__ if inspect.isclass(cls := getattr(datasets, name))}
        cls = choose(location, options, "torchvision")
        images: list[Any] = []
        labels: list[Any] = []
        counts: dict[str, int] = {}
        names: tuple[str, ...] = ()
        for part in ("train", "test"):
            made = self._make(cls, location, part)
            pixels, targets, names = self._content(made, wanted, location)
            images.append(pixels)
            labels.append(targets)
            counts[part] = len(targets)
        if len({group.shape[1:] for group in images}) > 1:
            raise DataError(f"torchvision:{location}: its parts differ in image size. Set data.size, such as 64.")
        kind, store = inputs_from_array(np.concatenate(images), wanted, where=f"torchvision:{location}")
        return Pool(kind, store, np.concatenate(labels), joined(counts), names)

    def _make(self, cls: type[Any], name: str, part: str) -> Any:
        accepted = inspect.signature(cls).parameters
        args: dict[str, Any] = {"root": self.root}
        if "train" in accepted:
            args["train"] = part == "train"
        elif "split" in accepted:
            args["split"] = part
        else:
            raise DataError(f"torchvision:{name} has no training and test part; use another source, such as folder:.")
        if "download" in accepted:
            args["download"] = self.download
        try:
            return cls(**args)
        except Exception as error:  # every data set of torchvision has its own
            hint = "" if self.download else " Set args.root to the folder with its files, or args.download: true to fetch them."
            raise DataError(f"torchvision:{name} cannot be read from {self.root!r}: {error}.{hint}") from error

    def _content(self, made: Any, wanted: Wanted, name: str) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
        """Pixels `(examples, ...)`, labels and class names of one part."""
        held = vars(made)
        names = tuple(str(label) for label in held.get("classes") or getattr(type(made), "classes", ()) or ())
        targets = held.get("targets", held.get("labels"))
        if "data" in held and targets is not None:
            return np.asarray(made.data), np.asarray(targets), names
        size = None if wanted.size is None else (wanted.size, wanted.size)
        pixels, labels = [], []
        for image, label in (made[i] for i in range(len(made))):
            if not isinstance(label, int | np.integer):
                raise DataError(f"torchvision:{name} is no classification data set: its labels are {type(label).__name__}.")
            pixels.append(to_pixels(image, self.channels, size))
            labels.append(int(label))
        if len({tuple(image.shape) for image in pixels}) > 1:
            raise DataError(f"torchvision:{name}: the images differ in size. Set data.size, such as 64.")
        return torch.stack(pixels).numpy(), np.asarray(labels), names
