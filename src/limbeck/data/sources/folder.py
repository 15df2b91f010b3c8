"""Images in folders: one folder a class, with or without `train`, `valid` and `test` above them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch

from ...errors import DataError, did_you_mean
from ..stores import ImageFiles, Store, TensorStore, open_image
from .base import Pool, Source, Wanted, all_train, as_part, existing, joined

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
"""Endings of the files that are read; others are passed over."""

_EXIF_FORMATS = {"JPEG", "MPO", "TIFF", "WEBP"}


@final
@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """One folder a class, named as the class; `train/`, `valid/` (or `val/`) and `test/` above them where they exist."""

    channels: Literal[1, 3] = 3
    """3 reads every image as RGB, 1 as greyscale."""
    cache_mb: int = 512
    """Images are decoded once and kept in memory up to so many MB; above, each is decoded when its batch asks for it."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """All images of all parts."""
        root = existing(location, "folder")
        if not root.is_dir():
            raise DataError(f"folder: {root} is a file; give the folder that holds one folder a class.")
        parts = _parts(root)
        first = parts.get("train", root)
        names = [folder.name for folder in _folders(first)]
        if not names:
            raise DataError(f"folder: {first} has no subfolders; expected one folder a class with its images inside.")
        paths: list[Path] = []
        labels: list[int] = []
        counts: dict[str, int] = {}
        for part, folder in (parts or {"all": root}).items():
            before = len(paths)
            for child in _folders(folder):
                if child.name not in names:
                    raise DataError(f"folder: {child} is a class that {first} lacks.{did_you_mean(child.name, names)}")
                images = _images(child)
                paths += images
                labels += [names.index(child.name)] * len(images)
            counts[part] = len(paths) - before
        if len(names) < 2:
            raise DataError(f"folder: {first} has only the class {names[0]!r}; a classification needs at least two.")
        store = self._store(paths, wanted)
        return Pool("image", store, np.array(labels), joined(counts) if parts else all_train(len(paths)), tuple(names))

    def _store(self, paths: Sequence[Path], wanted: Wanted) -> Store:
        if wanted.size is not None:
            shape = (self.channels, wanted.size, wanted.size)
            store = ImageFiles(paths, shape, resize=True)
        else:
            store = ImageFiles(paths, (self.channels, *_common_size(paths)), resize=False)
        if wanted.preview or len(store) * int(np.prod(store.shape)) > self.cache_mb * 2**20:
            return store
        with ThreadPoolExecutor() as pool:
            chunks = list(pool.map(store.read, torch.arange(len(store)).split(64)))
        return TensorStore(torch.cat(chunks))


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the parts, in the order train, valid, test; empty where `root` holds the classes itself."""
    found = {part: folder for folder in _folders(root) if (part := as_part(folder.name)) is not None and _folders(folder)}
    if "train" not in found:
        return {}
    return {part: found[part] for part in ("train", "valid", "test") if part in found}


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file())
    if not files:
        raise DataError(f"folder: {folder} holds no images ({', '.join(sorted(SUFFIXES))}). Add some or remove the folder.")
    return files


def _common_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Height and width of all images, from their headers."""
    first: tuple[int, int] | None = None
    for path in paths:
        with open_image(path) as image:
            width, height = image.size
            # EXIF orientations 5 to 8 lie on their side; of PNG, asking for it would decode the whole image.
            if image.format in _EXIF_FORMATS and image.getexif().get(0x0112, 1) >= 5:
                width, height = height, width
        first = first or (height, width)
        if (height, width) != first:
            raise DataError(
                f"folder: the images differ in size: {paths[0]} is {first[0]} x {first[1]}, {path} is {height} x {width} "
                "(height x width). Set data.size, such as 64, to resize all of them."
            )
    if first is None:
        raise DataError("folder: there are no images.")
    return first
