"""What a store says of itself: its signals, how they are written, what they were made from, and its shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LimbeckError
from ..registry import Registry
from .codecs.base import Codec
from .places import Place, StoreError, place
from .tokens.base import TokenCodec

FORMAT, VERSION = "limbeck-store", 1
MANIFEST = "manifest.json"
CODECS = Registry("codec", "limbeck.store.codecs", "Codec")
TOKEN_CODECS = Registry("codec of tokens", "limbeck.store.tokens", "TokenCodec")
TOKENS = "tokens"
"""Name of the signal that language models give: a row for every trained token."""


SEAL = "sha256"
_BLANK = "0" * 64


@dataclass(frozen=True)
class Signal:
    """A signal that is stored: `logits`, a layer by its path, or `tokens`."""

    shape: tuple[int, ...]
    """Shape for one example, before it is written; of `tokens` the vocabulary, and the width of the hidden states (0 where none)."""
    codec: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the codec."""

    def build(self) -> Codec:
        """The codec, ready.

        Raises:
            StoreError: where this version has no codec of that name, or not with these fields.
        """
        return self._built(CODECS)

    def build_tokens(self) -> TokenCodec:
        """The same of a signal of tokens.

        Raises:
            StoreError: likewise.
        """
        return self._built(TOKEN_CODECS)

    def _built(self, codecs: Registry) -> Any:
        try:
            return codecs.get(self.codec)(**self.fields)
        except (LimbeckError, TypeError, ValueError) as error:
            raise StoreError(f"the codec {self.codec!r} of the store cannot be used: {error}") from None


@dataclass(frozen=True)
class Shard:
    """A file that holds one view of consecutive examples."""

    file: str
    view: int
    start: int
    stop: int
    bytes: int
    crc32: int
    """Of the whole file."""


@dataclass(frozen=True)
class Beside:
    """A file that belongs to the store and is no shard: the teacher's head, for hidden states."""

    file: str
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Key:
    """What the signals were made from. A store belongs to a recipe where all of it agrees."""

    teacher: str
    """SHA-256 of the teacher's weights, names and shapes."""
    data: str
    """SHA-256 of the training examples' inputs and order."""
    inputs: str
    """How inputs reach the teacher: normalisation and augmentation, as JSON."""
    seed: int
    """Seed of the augmentation; view v is that of epoch v."""
    origin: str = ""
    """Which model the teacher is and which stages trained it, as JSON; empty where that was not noted."""


@dataclass(frozen=True)
class Manifest:
    """The file `manifest.json`; written last, so that a store that has one is complete."""

    examples: int
    views: int
    """How many epochs' augmentations are stored; 1 without augmentation."""
    signals: Mapping[str, Signal]
    key: Key
    shards: Sequence[Shard] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    """For people: the teacher's reference, the data's source, versions."""
    files: Sequence[Beside] = ()
    """What lies beside the shards."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Language: the number of trained tokens, and on a sample of them how what is stored differs from the teacher."""

    def record(self) -> dict[str, Any]:
        """The fields as JSON has them; those of language are left out where they are empty."""
        found = asdict(self)
        return {name: value for name, value in found.items() if value or name not in ("files", "measured")}

    @property
    def language(self) -> bool:
        """Whether it holds what a language model says of tokens, by document."""
        return TOKENS in self.signals

    @property
    def augmented(self) -> bool:
        """Whether the teacher saw augmented inputs; if not, its one answer holds for every augmentation of the student's."""
        return bool(json.loads(self.key.inputs or "{}").get("transforms"))

    def text(self) -> str:
        """The file's contents. The last key seals it: the SHA-256 of the file with 64 zeros in place of these digits."""
        record = {"format": FORMAT, "version": VERSION, **self.record(), SEAL: _BLANK}
        return sealed(json.dumps(record, indent=1) + "\n")


def sealed(text: str) -> str:
    """The text of a manifest whose seal is blank, with its seal."""
    head, tail = text.rsplit(_BLANK, 1)
    return head + hashlib.sha256(text.encode()).hexdigest() + tail


def read_manifest(folder: str | Path | Place) -> Manifest:
    """Reads the manifest of a store.

    Raises:
        StoreError: where it is missing, damaged or of another version.
    """
    where = place(folder)
    name = where.at(MANIFEST)
    try:
        content = where.read(MANIFEST)
        record = json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        unfinished = " It was begun and never finished: run the same `limbeck label` again." if where.names("parts") else ""
        raise StoreError(f"{where}: no {MANIFEST} there, so it is no finished store of teacher signals.{unfinished}") from None
    except ValueError as error:
        raise StoreError(f"{name}: cannot be read: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StoreError(f"{name}: expected the manifest of a store (format {FORMAT!r}), found something else.")
    seal = record.get(SEAL)
    if isinstance(seal, str) and seal != hashlib.sha256(_BLANK.encode().join(content.rsplit(seal.encode(), 1))).hexdigest():
        raise StoreError(f"{name}: its contents have changed since it was written (checksum differs).")
    if record.get("version") != VERSION:
        raise StoreError(
            f"{name}: expected version {VERSION} of the format, found {record.get('version')!r}. Use the Limbeck that wrote it."
        )
    if not isinstance(seal, str):
        raise StoreError(f"{name}: the manifest is damaged: it has no checksum ({SEAL!r}).")
    return parse_manifest(record, name)


def parse_manifest(record: Mapping[str, Any], path: str) -> Manifest:
    """A manifest from its JSON.

    Raises:
        StoreError: where something is missing from it; `path` is what the message names.
    """
    try:
        signals = {name: Signal(tuple(s["shape"]), s["codec"], s["fields"]) for name, s in record["signals"].items()}
        shards = tuple(Shard(**shard) for shard in record["shards"])
        files = tuple(Beside(**file) for file in record.get("files", ()))
        measured = record.get("measured", {})
        return Manifest(record["examples"], record["views"], signals, Key(**record["key"]), shards, record["about"], files, measured)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: the manifest is damaged: {type(error).__name__}: {error}") from None
