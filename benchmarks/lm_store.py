"""What a store of a language model's tokens costs: bytes a token, distortion, tokens written and read a second.

The teacher is a random head over random hidden states, scaled to a mean entropy of about 2 nats, as of a language model; the data are
random documents. Written is all that `limbeck label` does but the model's forward, the measurement of the distortion on about a thousand
tokens included, which is most of it where the store is small; read are batches of random documents, checked against their targets.

    python benchmarks/lm_store.py            the table
    python benchmarks/lm_store.py --quick    a small one, for a look
    python benchmarks/lm_store.py --json     one JSON object on standard output

DistillKit (arcee-ai/DistillKit) is on no index of packages, and its compressor is not rewritten here: beside our numbers stand the bytes
that it publishes, 300 a token with 128 tokens and 114 with 50 ("budget"), and those of a plain layout (4 bytes an id, 2 a value).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck.dictation import Dictation, dictate, token_signal
from limbeck.documents import document_key
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Silent
from limbeck.store.manifest import TOKENS, Key, Manifest, Signal
from limbeck.store.token_reader import TokenReader
from limbeck.tokens import Hidden, Projection
from limbeck.types import Batch, Signals

CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "topk-64": ("topk", {"k": 64}),
    "topk-64 int8": ("topk", {"k": 64, "dtype": "int8"}),
    "topk-50": ("topk", {"k": 50}),
    "topk-50 int8": ("topk", {"k": 50, "dtype": "int8"}),
    "sampled-12 draws": ("sampled", {"draws": 12}),
    "sampled-50 draws": ("sampled", {"draws": 50}),
    "hidden": ("hidden", {}),
    "hidden int8": ("hidden", {"dtype": "int8"}),
}
PUBLISHED = {"DistillKit, k = 128": 300, "DistillKit, k = 50": 114, "plain, k = 64": 384, "Megatron-LM, k = 64, before zstd": 320}
ENTROPY = 2.0


@dataclass
class Texts:
    """Random documents, all of whose tokens but the first are trained."""

    ids: np.ndarray
    """`(documents, tokens)`."""

    def __len__(self) -> int:
        return len(self.ids)

    def keys(self, numbers: np.ndarray) -> np.ndarray:
        """What they are known by."""
        mask = np.arange(self.ids.shape[1]) > 0
        return np.frombuffer(b"".join(document_key(self.ids[i], mask) for i in numbers.tolist()), dtype=np.uint8).reshape(-1, 32)

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """All are of one length."""
        return np.full(len(numbers), self.ids.shape[1])

    def shown(self, numbers: np.ndarray) -> Batch:
        """A row each."""
        ids = torch.from_numpy(self.ids[numbers])
        count, width = ids.shape
        rows = (torch.arange(count)[:, None] * width + torch.arange(width - 1)).flatten()
        within = torch.arange(width - 1).repeat(count)
        extra = {"documents": torch.from_numpy(numbers).repeat_interleave(width - 1), "within": within}
        return Batch({"input_ids": ids}, ids[:, 1:].flatten(), torch.from_numpy(numbers), extra, rows=rows)


def head_of(vocabulary: int, width: int) -> Projection:
    """A head whose distributions over random states have a mean entropy of about `ENTROPY`."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(vocabulary, width, generator=draw) / width**0.5
    states = torch.randn(32, width, generator=draw)
    low, high = scale, _ = 0.1, 40.0
    for _ in range(20):
        scale = (low * high) ** 0.5
        log_p = (scale * states @ weight.T).log_softmax(1)
        entropy = float(-(log_p.exp() * log_p).sum(1).mean())
        low, high = (scale, high) if entropy > ENTROPY else (low, scale)
    return Projection(weight, scale=scale)


def cell(name: str, texts: Texts, head: Projection, folder: Path) -> dict[str, Any]:
    """One codec, written and read."""
    codec, fields = CODECS[name]
    vocabulary, width = head.weight.shape
    table = torch.randn(4096, width, generator=torch.Generator().manual_seed(1))

    def ask(batch: Batch) -> Signals:
        ids = batch.inputs["input_ids"].flatten()[batch.rows]
        return Signals(tokens=Hidden(table[(ids * 31 + torch.arange(len(ids))) % 4096], head))

    said = ask(texts.shown(np.array([0]))).tokens
    if said is None:
        raise RuntimeError("the teacher is silent")
    signal = token_signal(said, {TOKENS: Signal((), codec, fields)}, vocabulary)
    plan = Manifest(0, 1, {TOKENS: signal}, Key("0" * 64, "", "{}", 0))
    begin = time.perf_counter()
    manifest = dictate(Dictation(ask, [texts], 16, 4096, folder), plan, Backend(device="cpu"), Silent(), lambda: False)
    written = time.perf_counter() - begin
    reader = TokenReader(folder)
    order = np.random.default_rng(0).permutation(len(texts))
    shown = [texts.shown(part) for part in np.array_split(order, max(len(order) // 8, 1))]
    tokens, begin = 0, time.perf_counter()
    for batch in shown:
        numbers, owner = batch.extra["documents"].unique(return_inverse=True)
        if batch.labels is not None:
            reader.read(texts.keys(numbers.numpy()), owner, batch.extra["within"], batch.labels)
        tokens += batch.units
    read = time.perf_counter() - begin
    count = manifest.measured["tokens"]
    size = sum(shard.bytes for shard in manifest.shards)
    found = {key: manifest.measured.get(key) for key in ("kl", "reverse_kl", "outside")}
    return {
        "codec": name,
        "bytes_per_token": size / count,
        "written_per_second": count / written,
        "read_per_second": tokens / read,
        **found,
    }


def main() -> int:
    """Measures and tells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter documents")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--vocabulary", type=int, default=151_936, help="tokens (default: 151936)")
    parser.add_argument("--width", type=int, default=1024, help="of the hidden states (default: 1024)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    documents, length = (8, 33) if args.quick else (64, 129)
    width = min(args.width, 64) if args.quick else args.width
    texts = Texts(np.random.default_rng(0).integers(0, args.vocabulary, (documents, length)))
    head = head_of(args.vocabulary, width)
    with tempfile.TemporaryDirectory() as folder:
        cells = [cell(name, texts, head, Path(folder) / name.replace(" ", "-")) for name in CODECS]
    about = {"vocabulary": args.vocabulary, "width": width, "tokens": documents * (length - 1), "torch": torch.__version__, "threads": 1}
    if args.json:
        sys.stdout.write(json.dumps({"about": about, "cells": cells, "published_bytes_per_token": PUBLISHED}) + "\n")
        return 0
    lines = [f"{'codec':<18}{'bytes/token':>12}{'written/s':>12}{'read/s':>12}{'KL':>11}{'KL back':>11}{'not named':>11}"]
    for own in cells:
        gaps = "".join(f"{own[key]:>11.2g}" if own[key] is not None else f"{'-':>11}" for key in ("kl", "reverse_kl", "outside"))
        speed = f"{own['written_per_second']:>12,.0f}{own['read_per_second']:>12,.0f}"
        lines.append(f"{own['codec']:<18}{own['bytes_per_token']:>12.1f}{speed}{gaps}")
    lines += [f"{name}: {size} bytes a token (published, or by its layout)" for name, size in PUBLISHED.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
