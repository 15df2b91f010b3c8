"""The size of a store is known before it is written."""

from __future__ import annotations

import pytest
import torch

from limbeck.store.manifest import Key, Manifest
from limbeck.store.size import choices, store_size
from limbeck.store.writer import StoreWriter
from limbeck.types import Signals

KEY = Key("a" * 64, "b" * 64, "{}", 3)


@pytest.mark.parametrize("shape", [(5,), (300,), (70_000,), (8, 3, 3)])
def test_to_the_byte(shape, tmp_path):
    for number, (name, signal) in enumerate(choices(shape).items()):
        plan = Manifest(23, 2, {"stage2": signal, "logits": signal}, KEY)
        writer = StoreWriter(tmp_path / str(number), plan, shard_size=8)
        for view, start, stop in writer.missing():
            rows, value = torch.arange(start, stop), torch.randn(stop - start, *shape)
            writer.write(view, start, stop, iter([writer.encode(Signals(value, {"stage2": value}), rows)]))
        manifest = writer.finish()
        real = sum(path.stat().st_size for path in (tmp_path / str(number)).iterdir())
        found = store_size(plan, shard_size=8)
        digits = sum(10 - len(str(shard.crc32)) for shard in manifest.shards)
        assert found.total == real + digits, name
        assert found.data == 2 * 23 * 2 * signal.build().bytes_per_example(shape)


def test_every_codec_in_every_type_that_fits():
    expected = [
        *(f"dense:dtype={dtype}" for dtype in ("fp32", "fp16", "bf16", "int8")),
        *(f"pooled:dtype={dtype}" for dtype in ("fp32", "fp16", "bf16")),
        "sampled:draws=50",
        "topk:k=10,dtype=fp16",
        "topk:k=10,dtype=fp32",
    ]
    assert [name for name in choices((300,)) if name.partition(":")[0] in ("dense", "pooled", "sampled", "topk")] == expected
    assert "topk:k=5,dtype=fp16" in choices((10,))
    assert not any(name.startswith(("topk", "sampled")) for name in choices((8, 3, 3)))
    assert not any(name.startswith("topk") for name in choices((1,)))
