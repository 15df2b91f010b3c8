"""What can be done with whole stores: join parts, write them in another codec."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..errors import LimbeckError
from .manifest import MANIFEST, Manifest, Shard, Signal, StoreError, parse_manifest, read_manifest
from .reader import StoreReader
from .shards import verify_shard
from .writer import PARTS, PLAN, StoreWriter

Progress = Callable[[int], None]


def merge(sources: Sequence[Path], out: Path) -> Manifest:
    """Joins the parts of one store that were made in several places, such as by several machines, each with some of the shards.

    Args:
        sources: finished stores or unfinished ones; all of the same plan.
        out: where the whole will lie; it must not exist.

    Raises:
        StoreError: where they do not belong together, a shard is damaged, or some are missing from all of them.
    """
    _vacant(out)
    found = [_contents(folder) for folder in sources]
    plan, size = found[0][0], found[0][1]
    for folder, (other, _, _) in zip(sources, found, strict=True):
        differs = [name for name in ("examples", "views", "signals", "key") if getattr(other, name) != getattr(plan, name)]
        if differs:
            raise StoreError(f"{folder}: its {' and '.join(differs)} differ from those of {sources[0]}, so they are no parts of one store.")
    out.mkdir(parents=True)
    writer = StoreWriter(out, plan, shard_size=size)
    for folder, (_, _, shards) in zip(sources, found, strict=True):
        for shard in shards:
            verify_shard(folder, shard)
            shutil.copyfile(folder / shard.file, out / shard.file)
            (out / PARTS / f"view{shard.view:04d}-{shard.start:012d}.json").write_text(json.dumps(asdict(shard)), encoding="utf-8")
    return writer.finish()


def _contents(folder: Path) -> tuple[Manifest, int, list[Shard]]:
    """Plan, shard size and shards of a store, finished or not."""
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        return replace(manifest, shards=()), max(shard.stop - shard.start for shard in manifest.shards), list(manifest.shards)
    path = folder / PARTS / PLAN
    if not path.is_file():
        raise StoreError(f"{folder}: neither a store of teacher signals nor the beginning of one.")
    record = json.loads(path.read_text(encoding="utf-8"))
    records = sorted((folder / PARTS).glob("view*.json"))
    shards = [Shard(**json.loads(record.read_text(encoding="utf-8"))) for record in records]
    return parse_manifest(record, path), record["shard_size"], shards


def convert(source: Path, out: Path, codecs: Mapping[str, Signal], *, batch: int = 1024, done: Progress | None = None) -> Manifest:
    """Writes a store anew with other codecs.

    Args:
        source: a finished store.
        out: where the new one will lie; it must not exist.
        codecs: the signals to keep, each with its codec; a shape of () stands for the signal's own.
        batch: examples that are held at once.
        done: told how many examples were written.

    Raises:
        StoreError, LimbeckError: where a signal is not in the store, or cannot be written so.
    """
    _vacant(out)
    reader = StoreReader(source)
    reader.has(list(codecs))
    old = reader.manifest
    index = torch.zeros(1, dtype=torch.int64)
    first = reader.read(index, 0, list(codecs))
    signals = {}
    for name, asked in codecs.items():
        value = first.logits if name == "logits" else first.features[name]
        signals[name] = replace(asked, shape=tuple(value.shape[1:]))
        signals[name].build().layout(signals[name].shape)
    size = max(shard.stop - shard.start for shard in old.shards)
    out.mkdir(parents=True)
    writer = StoreWriter(out, replace(old, signals=signals, shards=()), shard_size=size)
    for view, start, stop in writer.missing():
        rows = [torch.arange(begin, min(begin + batch, stop)) for begin in range(start, stop, batch)]
        pieces = (writer.encode(reader.read(row, view, list(signals)), row) for row in rows)
        writer.write(view, start, stop, pieces, done=done)
    return writer.finish()


def _vacant(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out}: something lies there already; choose another folder with --out.")


def parse_codec(text: str) -> tuple[str, Signal]:
    """`SIGNAL=CODEC[:KEY=VALUE,...]` as written on the command line, such as `logits=topk:k=10,dtype=fp16`.

    Raises:
        LimbeckError: where it is not written so, or the codec or its fields are unknown.
    """
    name, equals, rest = text.partition("=")
    codec, _, options = rest.partition(":")
    if not name or not equals or not codec:
        raise LimbeckError(f"--signal is written SIGNAL=CODEC or SIGNAL=CODEC:KEY=VALUE,..., such as logits=topk:k=10; got {text!r}.")
    fields: dict[str, object] = {}
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if not equals:
            raise LimbeckError(f"--signal {text!r}: expected KEY=VALUE after the codec, found {option!r}.")
        fields[key] = _value(value)
    signal = Signal((), codec, fields)
    signal.build()
    return name, signal


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def size_of(manifest: Manifest) -> str:
    """Size of all shards, in words."""
    count = sum(shard.bytes for shard in manifest.shards)
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"


def told(path: Path, manifest: Manifest) -> str:
    """What a store holds, for people."""
    views = f"{manifest.views} views each" if manifest.views > 1 else "one view each"
    lines = [f"{path}: {manifest.examples:,} examples, {views}, {len(manifest.shards)} shards, {size_of(manifest)}", ""]
    rows = [("signal", "shape", "codec", "bytes an example")]
    for name, signal in manifest.signals.items():
        fields = ", ".join(f"{key}: {value}" for key, value in signal.fields.items())
        shape = " x ".join(map(str, signal.shape))
        rows.append(
            (name, shape, f"{signal.codec} ({fields})" if fields else signal.codec, f"{signal.build().bytes_per_example(signal.shape):,}")
        )
    lines += [*_columns(rows), ""]
    lines += [f"{key}: {value}" for key, value in manifest.about.items()]
    lines += [f"teacher {manifest.key.teacher[:16]}, data {manifest.key.data[:16]}, inputs {manifest.key.inputs}, seed {manifest.key.seed}"]
    return "\n".join(lines)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
