"""A teacher whose answers were written down once: it needs no model, no memory and no time.

Where inputs are mixed, so are the probabilities (at temperature 1) that are stored for the two examples, by the share that each has of the
input; the logits are then logarithms of probabilities. Stored layers cannot be mixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

from torch import Tensor

from ..errors import LimbeckError
from ..ops.mixture import log_mixture
from ..store.opening import open_store
from ..store.reader import LOGITS, StoreReader
from ..store.token_reader import TokenReader
from ..types import Batch, PositiveInt, Signals
from ._heard import Shown, check_keep, on_device, token_signals
from .base import Setting, Teacher


@final
@dataclass(eq=False, kw_only=True)
class StoredTeacher(Teacher):
    """Reads the signals that `limbeck label` has written, by example and augmentation."""

    source: ClassVar = "none"

    path: str
    """Folder of the store, or an address of fsspec such as `s3://bucket/store`."""
    verify: bool = True
    """Compare every shard with its checksum before training."""
    completion: Literal["tail", "renormalised", "smoothing", "hard"] | None = None
    """How the largest probabilities of a `topk` (or `tinyvit`) store are completed; as the store says, where absent."""
    keep: PositiveInt | None = None
    """Read only so many of the probabilities that a `topk` store keeps; all, where absent."""

    def open(self, setting: Setting) -> None:
        request = setting.request
        self._names = [*([LOGITS] if request.logits else []), *request.taps]
        self.reader = open_store(self.path, verify=self.verify)
        self._device = request.device
        self._places: Tensor | None = None
        self._shown: Shown | None = None
        if isinstance(self.reader, TokenReader):
            if request.taps:
                raise LimbeckError(
                    f"{self.path}: the objective reads {', '.join(request.taps)} of the teacher, the store holds tokens only."
                )
            check_keep(self.reader, self.keep, self.completion)
            if self.reader.head is not None:  # once, not with every batch
                self.reader.head = on_device(self.reader.head, self._device)
            return
        self.reader.has(self._names)
        if self.completion is not None or self.keep is not None:
            self.reader.complete(LOGITS, completion=self.completion, keep=self.keep)

    def show(self, shown: Shown) -> None:
        """Says which documents the numbers in batches of texts mean."""
        self._shown = shown

    def place(self, places: Tensor | None) -> None:
        """Says where in the store each example stands, `(examples,)`; None where the store holds just these examples, in their order."""
        self._places = places

    @property
    def replay(self) -> tuple[int, int] | None:
        if not self.reader.manifest.augmented:
            return None
        return self.reader.manifest.key.seed, self.reader.manifest.views

    def signals(self, batch: Batch) -> Signals:
        if isinstance(self.reader, TokenReader):
            return Signals(tokens=token_signals(self.reader, self._shown, batch, self.keep, self._device))
        own = self._read(self.reader, batch.index, batch.epoch)
        if batch.mixed is None:
            return own
        if own.features:
            raise LimbeckError(
                "stored layers cannot be mixed, and data.mix mixes the inputs; let terms on layers ask a teacher that speaks."
            )
        other = self._read(self.reader, batch.mixed.partner, batch.mixed.epoch)
        return replace(own, logits=log_mixture(own.logits, other.logits, batch.mixed.share), parts=(own, other))

    def _read(self, reader: StoreReader, index: Tensor, view: int | Tensor) -> Signals:
        index = self._places[index] if self._places is not None else index
        found = reader.read(index, view if reader.manifest.views > 1 else 0, self._names)
        if self._device.type == "cpu":
            return found
        found.logits = found.logits.to(self._device) if found.logits is not None else found.logits
        found.features = {name: value.to(self._device, non_blocking=True) for name, value in found.features.items()}
        return found
