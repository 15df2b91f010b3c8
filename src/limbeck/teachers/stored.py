"""A teacher whose answers were written down once: it needs no model, no memory and no time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, final

from ..store.reader import LOGITS, StoreReader
from ..types import Batch, Signals
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

    def open(self, setting: Setting) -> None:
        request = setting.request
        self._names = [*([LOGITS] if request.logits else []), *request.taps]
        self.reader = StoreReader(self.path, verify=self.verify)
        self.reader.has(self._names)
        self._device = request.device

    @property
    def replay(self) -> tuple[int, int] | None:
        if not json.loads(self.reader.manifest.key.inputs or "{}").get("transforms"):
            return None  # what the teacher saw was not augmented, so its answers hold for any augmentation of the student's view
        return self.reader.manifest.key.seed, self.reader.manifest.views

    def signals(self, batch: Batch) -> Signals:
        found = self.reader.read(batch.index, batch.epoch if self.reader.manifest.views > 1 else 0, self._names)
        if self._device.type == "cpu":
            return found
        found.logits = found.logits.to(self._device) if found.logits is not None else found.logits
        found.features = {name: value.to(self._device, non_blocking=True) for name, value in found.features.items()}
        return found
