"""How the inputs of a data set are kept, and how a batch of them is gathered by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError, MissingDependency, UnknownName


class Store(ABC):
    """All inputs of a source; a split reads some of its rows."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @abstractmethod
    def gather(self, rows: Tensor) -> Any:
        """The inputs at `rows` (int64) as they go to a model, batch first."""

    @abstractmethod
    def content(self, rows: Tensor) -> Iterator[bytes]:
        """Bytes that differ where the inputs at `rows` differ, to tell data sets apart."""

    def resized(self, size: int) -> Store:
        """Images scaled to `size` by `size`; anything else as it is."""
        return self


class TensorStore(Store):
    """Inputs in memory: bytes that stand for [0, 1] in steps of 1/255, or float32 as it is.

    Args:
        values: `(rows, ...)`, uint8 or floating point.
        columns: of a table: which column of the source each value comes from; `0`, `1`, ... where absent.
    """

    def __init__(self, values: Tensor, columns: Sequence[str] = ()) -> None:
        self.values = values if values.dtype == torch.uint8 else values.float()
        self.columns = tuple(columns) or tuple(str(i) for i in range(values.shape[1] if values.ndim == 2 else 0))

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.values.shape[1:])

    def gather(self, rows: Tensor) -> Tensor:
        """`(rows, ...)`, float32; bytes become [0, 1]."""
        picked = self.values.index_select(0, rows)
        return picked.float().div_(255) if picked.dtype == torch.uint8 else picked

    def content(self, rows: Tensor) -> Iterator[bytes]:
        """The values themselves."""
        for part in rows.split(4096):
            yield self.values.index_select(0, part).contiguous().numpy().tobytes()

    def resized(self, size: int) -> TensorStore:
        """Images scaled to `size` by `size` with antialiased bilinear interpolation."""
        if self.shape[1:] == (size, size):
            return self

        def scale(part: Tensor) -> Tensor:
            out = F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
            return out.round_().clamp_(0, 255).to(torch.uint8) if part.dtype == torch.uint8 else out

        return TensorStore(torch.cat([scale(part) for part in self.values.split(1024)]))

    def picked(self, columns: Sequence[str], where: str) -> TensorStore:
        """A table with only some of its columns, in their order; a column of the source may have become several values.

        Raises:
            UnknownName: no such column; `where` says who asks.
        """
        return TensorStore(self.values[:, self.places(columns, where)], [name for name in columns for own in self.columns if own == name])

    def places(self, columns: Sequence[str], where: str) -> list[int]:
        """Positions of the values that come from `columns`."""
        for name in columns:
            if name not in self.columns:
                raise UnknownName(f"column in {where}.columns", name, list(dict.fromkeys(self.columns)))
        return [i for name in columns for i, own in enumerate(self.columns) if own == name]


class ImageFiles(Store):
    """Images on disk, decoded when a batch asks for them.

    Args:
        paths: one file a row.
        shape: `(channels, height, width)` of every decoded image; channels is 1 or 3.
        resize: scale images of another size; otherwise they are an error that names the file.
    """

    def __init__(self, paths: Sequence[Path], shape: tuple[int, int, int], *, resize: bool) -> None:
        self.paths, self._shape, self.resize = [str(path) for path in paths], shape, resize

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self._shape

    def gather(self, rows: Tensor) -> Tensor:
        """`(rows, ...)`, float32; bytes become [0, 1]."""
        return self.read(rows).float().div_(255)

    def content(self, rows: Tensor) -> Iterator[bytes]:
        """Folder, name and size of every file; reading them all would take as long as an epoch."""
        for row in rows.tolist():
            path = Path(self.paths[row])
            yield f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode()

    def resized(self, size: int) -> ImageFiles:
        """The same files, scaled to `size` by `size`."""
        if self._shape[1:] == (size, size):
            return self
        return ImageFiles([Path(path) for path in self.paths], (self._shape[0], size, size), resize=True)

    def read(self, rows: Tensor) -> Tensor:
        """The decoded images at `rows` as bytes, `(rows, channels, height, width)`."""
        out = torch.empty((len(rows), *self._shape), dtype=torch.uint8)
        for slot, row in enumerate(rows.tolist()):
            out[slot] = decode_image(self.paths[row], self._shape, resize=self.resize)
        return out


def open_image(path: str | Path) -> Any:
    """A PIL image whose header is read and whose pixels are not.

    Raises:
        DataError: where the file is no image.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("pillow", "vision", "reading images") from error
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error}). Repair or remove the file.") from error


def decode_image(path: str | Path, shape: tuple[int, int, int], *, resize: bool) -> Tensor:
    """One image as bytes of `shape`, upright; greyscale and alpha become the asked number of channels.

    Raises:
        DataError: where the file is damaged, or has another size and `resize` is false.
    """
    try:
        with open_image(path) as image:
            pixels = to_pixels(image, shape[0], shape[1:] if resize else None)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the image is damaged ({error}). Repair or remove the file.") from error
    if tuple(pixels.shape) != shape:
        found, wanted = tuple(pixels.shape[1:]), shape[1:]
        raise DataError(f"{path}: expected an image of {wanted} (height, width), found {found}. Set data.size to resize all images.")
    return pixels


def to_pixels(image: Any, channels: int, size: tuple[int, int] | None) -> Tensor:
    """A PIL image as bytes `(channels, height, width)`, scaled to `size` (height, width) where given."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit images would be clipped, not scaled, by Pillow's own conversion.
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / (257.0 if values.max(initial=0) > 255 else 1.0)).clip(0, 255).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


class TokenStore(Store):
    """Token sequences of varying length, padded to the longest of each batch.

    Args:
        columns: flat values of every tokenizer output (`input_ids`, ...), all sequences end to end.
        lengths: number of tokens of each sequence.
        padding: the value that fills each column.
        max_length: longest sequence that can occur.
        left: pad on the left, as decoders do.
    """

    def __init__(
        self, columns: Mapping[str, Tensor], lengths: Tensor, padding: Mapping[str, int], *, max_length: int, left: bool = False
    ) -> None:
        self.columns, self.lengths, self.padding, self.left = dict(columns), lengths, dict(padding), left
        self.starts = lengths.cumsum(0) - lengths
        self.max_length = max_length

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def shape(self) -> tuple[int, ...]:
        """The longest sequence, `(tokens,)`."""
        return (self.max_length,)

    def gather(self, rows: Tensor) -> dict[str, Tensor]:
        """Every column, `(rows, tokens)`."""
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(rows) else 0
        offset = torch.arange(width)[None, :]
        if self.left:
            offset = offset - (width - lengths)[:, None]
        inside = (offset >= 0) & (offset < lengths[:, None])
        where = (self.starts[rows][:, None] + offset).clamp_(0, max(int(self.lengths.sum()) - 1, 0))
        return {name: flat[where].masked_fill_(~inside, self.padding[name]) for name, flat in self.columns.items()}

    def content(self, rows: Tensor) -> Iterator[bytes]:
        """Every column's values and the lengths."""
        for part in rows.split(4096):
            for name, values in sorted(self.gather(part).items()):
                yield name.encode() + values.contiguous().numpy().tobytes()
            yield self.lengths[part].numpy().tobytes()
