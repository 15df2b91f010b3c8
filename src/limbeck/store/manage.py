"""What can be done with whole stores: join parts, write them in another codec."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..errors import LimbeckError
from .manifest import MANIFEST, TOKENS, Manifest, Shard, Signal, StoreError, parse_manifest, read_manifest
from .places import Place, place
from .reader import StoreReader
from .shards import verify_shard
from .token_writer import HEAD, DocumentWriter
from .writer import PARTS, PLAN, StoreWriter, record_name

Progress = Callable[[int], None]


def merge(sources: Sequence[str | Path], out: str | Path) -> Manifest:
    """Joins the parts of one store that were made in several places, such as by several machines, each with some of the shards.

    Args:
        sources: finished stores or unfinished ones, each a path or an address of fsspec; all of the same plan.
        out: where the whole will lie; nothing may be there.

    Raises:
        StoreError: where they do not belong together, a shard is damaged, or some are missing from all of them.
    """
    whole = _vacant(out)
    found = [_contents(place(source)) for source in sources]
    plan, size = found[0][0], found[0][1]
    for source, (other, _, _) in zip(sources, found, strict=True):
        differs = [name for name in ("examples", "views", "signals", "key") if getattr(other, name) != getattr(plan, name)]
        if differs:
            raise StoreError(f"{source}: its {' and '.join(differs)} differ from those of {sources[0]}, so they are no parts of one store.")
    writer = DocumentWriter(whole, plan, (), shard_size=size) if plan.language else StoreWriter(whole, plan, shard_size=size)
    for source, (_, _, shards) in zip(sources, found, strict=True):
        part = place(source)
        if part.has(HEAD):
            _copy(part, whole, HEAD)
        for shard in shards:
            verify_shard(part, shard)
            _copy(part, whole, shard.file)
            whole.write(record_name(shard.view, shard.start), json.dumps(asdict(shard)))
    return writer.finish()


def _copy(source: Place, target: Place, name: str) -> None:
    with target.writing(name) as path:
        shutil.copyfile(source.fetch(name), path)


def _contents(part: Place) -> tuple[Manifest, int, list[Shard]]:
    """Plan, shard size and shards of a store, finished or not."""
    if part.has(MANIFEST):
        manifest = read_manifest(part)
        return (
            replace(manifest, shards=(), files=(), measured={}),
            max(shard.stop - shard.start for shard in manifest.shards),
            list(manifest.shards),
        )
    name = f"{PARTS}/{PLAN}"
    try:
        record = json.loads(part.read(name))
        records = [file for file in part.names(PARTS) if file.startswith("view") and file.endswith(".json")]
        shards = [Shard(**json.loads(part.read(f"{PARTS}/{file}"))) for file in records]
        return parse_manifest(record, part.at(name)), record["shard_size"], shards
    except FileNotFoundError:
        raise StoreError(f"{part}: neither a store of teacher signals nor the beginning of one.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{part.at(PARTS)}: the records of this unfinished store are damaged: {error}") from None


def convert(
    source: str | Path, out: str | Path, codecs: Mapping[str, Signal], *, batch: int = 1024, done: Progress | None = None
) -> Manifest:
    """Writes a store anew with other codecs.

    Args:
        source: a finished store; a path or an address of fsspec.
        out: where the new one will lie; nothing may be there.
        codecs: the signals to keep, each with its codec; a shape of () stands for the signal's own.
        batch: examples that are held at once.
        done: told how many examples were written.

    Raises:
        StoreError, LimbeckError: where a signal is not in the store, or cannot be written so.
    """
    where = _vacant(out)
    if read_manifest(source).language:
        raise StoreError(f"{source}: what a language model says of tokens is not converted; make the store anew with `limbeck label`.")
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
    writer = StoreWriter(where, replace(old, signals=signals, shards=()), shard_size=size)
    for view, start, stop in writer.missing():
        rows = [torch.arange(begin, min(begin + batch, stop)) for begin in range(start, stop, batch)]
        pieces = (writer.encode(reader.read(row, view, list(signals)), row) for row in rows)
        writer.write(view, start, stop, pieces, done=done)
    return writer.finish()


def _vacant(out: str | Path) -> Place:
    where = place(out)
    if where.occupied():
        raise StoreError(f"{out}: something lies there already; choose another folder with --out.")
    return where


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
    signal.build_tokens() if name == TOKENS else signal.build()
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


def told(path: str | Path, manifest: Manifest) -> str:
    """What a store holds, for people."""
    views = f"{manifest.views} views each" if manifest.views > 1 else "one view each"
    if manifest.language:
        return _told_tokens(path, manifest, views)
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


def _told_tokens(path: str | Path, manifest: Manifest, views: str) -> str:
    """The same of a store of documents: its bytes a token, and how far it is from the teacher."""
    signal, measured = manifest.signals[TOKENS], dict(manifest.measured)
    tokens, sample = int(measured.pop("tokens", 0)), int(measured.pop("sample", 0))
    size = sum(shard.bytes for shard in manifest.shards)
    fields = ", ".join(f"{key}: {value}" for key, value in signal.build_tokens().fields().items())
    lines = [
        f"{path}: {manifest.examples:,} documents, {tokens:,} trained tokens, {views}, {len(manifest.shards)} shards, {size_of(manifest)}",
        "",
        f"{signal.codec} ({fields}) of {signal.shape[0]:,} tokens" + (f", {signal.shape[1]:,} channels" if signal.shape[1] else ""),
        f"{size / max(tokens, 1):,.1f} bytes a token, keys and index included",
    ]
    for file in manifest.files:
        lines.append(f"{file.file}: {file.bytes / 2**20:,.1f} MiB, once")
    if sample:
        told = ", ".join(f"{_WORDS[name]} {value:.4g}" for name, value in measured.items() if name in _WORDS)
        lines.append(f"on {sample:,} tokens, in nats a token: {told}")
    lines += ["", *(f"{key}: {value}" for key, value in manifest.about.items())]
    return "\n".join([*lines, f"teacher {manifest.key.teacher[:16]}, documents {manifest.key.data[:16]}, inputs {manifest.key.inputs}"])


_WORDS = {
    "nll": "the teacher's own loss",
    "kl": "KL of the teacher to what is stored",
    "reverse_kl": "KL of what is stored to the teacher",
    "outside": "and the teacher's mass on tokens that are not named",
}


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
