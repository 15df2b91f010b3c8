"""A store is whole or refused; any example can be read in any order; an interrupted one goes on."""

from __future__ import annotations

import json
import re

import pytest
import torch

from limbeck.store.manifest import Key, Manifest, Signal, StoreError, read_manifest, sealed
from limbeck.store.reader import StoreReader
from limbeck.store.writer import StoreWriter
from limbeck.types import Signals

KEY = Key(teacher="a" * 64, data="b" * 64, inputs="{}", seed=3)
LOGITS, LAYER = torch.randn(2, 23, 5), torch.randn(2, 23, 3, 2, 2)


def reseal(folder, record):
    """Writes a manifest that nobody but its author can tell from a true one."""
    (folder / "manifest.json").write_text(sealed(json.dumps({**record, "sha256": "0" * 64})))


def plan(**changes):
    signals = {"logits": Signal((5,), "dense", {"dtype": "fp32"}), "stage2": Signal((3, 2, 2), "dense", {"dtype": "bf16"})}
    return Manifest(**{"examples": 23, "views": 2, "signals": signals, "key": KEY, **changes})


def fill(folder, *, stop_after=None, rank=0, world=1, **changes):
    """Writes what is missing, and returns how many shards that were."""
    writer = StoreWriter(folder, plan(**changes), shard_size=8, rank=rank, world=world)
    done = 0
    for view, start, stop in writer.missing():
        if done == stop_after:
            return done
        batches = []
        for begin in range(start, stop, 3):
            rows = torch.arange(begin, min(begin + 3, stop))
            batches.append(writer.encode(Signals(LOGITS[view, rows], {"stage2": LAYER[view, rows]}), rows))
        writer.write(view, start, stop, iter(batches))
        done += 1
    if world == 1:
        writer.finish()
    return done


def test_any_examples_in_any_order(tmp_path):
    assert fill(tmp_path) == 6
    reader = StoreReader(tmp_path)
    index = torch.tensor([22, 0, 7, 8, 15, 16, 7])
    for view in (0, 1):
        signals = reader.read(index, view, ["logits", "stage2"])
        assert torch.equal(signals.logits, LOGITS[view, index])
        assert torch.equal(signals.features["stage2"], LAYER[view, index].bfloat16().float())
    assert reader.read(index, 0, ["stage2"]).logits is None
    assert not (tmp_path / "parts").exists()


def test_manifest_can_be_read_by_anyone(tmp_path):
    fill(tmp_path)
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert (record["format"], record["version"], record["examples"], record["views"]) == ("limbeck-store", 1, 23, 2)
    assert record["signals"]["stage2"] == {"shape": [3, 2, 2], "codec": "dense", "fields": {"dtype": "bf16"}}
    assert [shard["stop"] - shard["start"] for shard in record["shards"]] == [8, 8, 7, 8, 8, 7]
    assert read_manifest(tmp_path).key == KEY


def test_an_interrupted_store_goes_on_and_is_not_visible(tmp_path):
    fill(tmp_path, stop_after=2)
    with pytest.raises(StoreError, match=r"no manifest\.json there.*begun and never finished: run the same `limbeck label` again"):
        StoreReader(tmp_path)
    assert fill(tmp_path) == 4
    assert torch.equal(StoreReader(tmp_path).read(torch.arange(23), 1, ["logits"]).logits, LOGITS[1])


def test_a_damaged_shard_of_an_interrupted_store_is_made_again(tmp_path):
    fill(tmp_path, stop_after=3)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert fill(tmp_path) == 4


def test_two_processes_share_the_shards(tmp_path):
    assert fill(tmp_path, rank=0, world=2) + fill(tmp_path, rank=1, world=2) == 6
    assert fill(tmp_path) == 0
    assert torch.equal(StoreReader(tmp_path).read(torch.arange(23), 0, ["logits"]).logits, LOGITS[0])


def test_another_plan_does_not_go_on_with_it(tmp_path):
    fill(tmp_path, stop_after=1)
    with pytest.raises(StoreError, match=r"an unfinished store of something else lies here \(key differ\)"):
        fill(tmp_path, key=Key("c" * 64, "b" * 64, "{}", 3))


def test_finishing_too_early_is_refused(tmp_path):
    fill(tmp_path, stop_after=2)
    with pytest.raises(StoreError, match="4 of 6 shards are missing"):
        StoreWriter(tmp_path, plan(), shard_size=8).finish()


@pytest.mark.parametrize("where", [9, 100, -1])
def test_a_flipped_byte_is_found_at_open(tmp_path, where):
    fill(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[3]
    content = bytearray(shard.read_bytes())
    content[where] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=rf"{re.escape(str(shard))}: its contents have changed since it was written"):
        StoreReader(tmp_path)


def test_a_missing_and_a_truncated_shard_are_named(tmp_path):
    fill(tmp_path)
    first, second = sorted(tmp_path.glob("*.safetensors"))[:2]
    size = second.stat().st_size
    second.write_bytes(second.read_bytes()[:-7])
    with pytest.raises(StoreError, match=rf"{re.escape(str(second))}: expected {size:,} bytes, found {size - 7:,}"):
        StoreReader(tmp_path)
    first.unlink()
    with pytest.raises(StoreError, match=rf"{re.escape(str(first))}: the shard is missing \(examples 0 to 7, view 0\)"):
        StoreReader(tmp_path)


def test_a_shard_too_many_is_named(tmp_path):
    fill(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[2]
    more = shard.with_name("view0002-000000000000.safetensors")
    more.write_bytes(shard.read_bytes())
    with pytest.raises(StoreError, match=rf"{re.escape(str(more))}: the manifest knows no such shard; it belongs to another store"):
        StoreReader(tmp_path)


def test_a_hole_in_the_manifest_is_found(tmp_path):
    fill(tmp_path)
    record = json.loads((tmp_path / "manifest.json").read_text())
    file = record["shards"].pop(4)["file"]
    reseal(tmp_path, record)
    (tmp_path / file).unlink()
    with pytest.raises(StoreError, match=r"view 1 has no signals of example 8 \(of 23\)"):
        StoreReader(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "expected the manifest of a store"),
        ('{"format": "limbeck-store", "version": 9}', "expected version 1 of the format, found 9"),
        ('{"format": "limbeck-store", "version": 1, "signals": {}}', r"the manifest is damaged: it has no checksum \('sha256'\)"),
        (
            sealed(json.dumps({"format": "limbeck-store", "version": 1, "signals": {}, "sha256": "0" * 64})),
            "is damaged: KeyError: 'shards'",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, content, message):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        StoreReader(tmp_path)


def test_a_store_of_something_else_is_refused_with_what_differs(tmp_path):
    fill(tmp_path)
    reader = StoreReader(tmp_path)
    reader.check(KEY, 23)
    with pytest.raises(StoreError) as caught:
        reader.check(Key("x", "b" * 64, "[]", 3), 24)
    text = str(caught.value)
    assert "the teacher's weights (store aaaa" in text
    assert "normalisation or augmentation (store {}, recipe [])" in text
    assert "number of training examples (store 23, recipe 24)" in text
    assert "the training data" not in text
    with pytest.raises(StoreError, match="reads 'stage3' of the teacher, the store holds 'logits', 'stage2'"):
        reader.has(["logits", "stage3"])


def test_unknown_codecs_are_named(tmp_path):
    fill(tmp_path)
    reseal(tmp_path, json.loads((tmp_path / "manifest.json").read_text().replace('"dense"', '"dence"')))
    with pytest.raises(StoreError, match=r"the codec 'dence' of the store cannot be used: .*Did you mean 'dense'"):
        StoreReader(tmp_path)


def test_every_example_may_have_a_view_of_its_own(tmp_path):
    fill(tmp_path)
    reader = StoreReader(tmp_path)
    index, views = torch.tensor([22, 0, 7, 7, 15, 16, 3]), torch.tensor([1, 0, 1, 0, 0, 1, 1])
    signals = reader.read(index, views, ["logits", "stage2"])
    assert torch.equal(signals.logits, LOGITS[views, index])
    assert torch.equal(signals.features["stage2"], LAYER[views, index].bfloat16().float())
    assert reader.read(index, views, ["stage2"]).logits is None
    assert reader.read(index, views, ["logits"]).features == {}
    assert torch.equal(reader.read(index, torch.ones_like(index), ["logits"]).logits, LOGITS[1, index])


def test_a_signal_can_be_read_in_another_way(tmp_path):
    fill(tmp_path, signals={"logits": Signal((5,), "topk", {"k": 3, "dtype": "fp32"}), "stage2": plan().signals["stage2"]})
    reader = StoreReader(tmp_path)
    reader.complete("logits", completion="hard", keep=2)
    found = reader.read(torch.arange(4), 0, ["logits"]).logits.softmax(1)
    torch.testing.assert_close(found, torch.nn.functional.one_hot(LOGITS[0, :4].argmax(1), 5).float(), rtol=0, atol=1e-6)
    with pytest.raises(StoreError, match="the store holds 'logits', 'stage2'"):
        reader.complete("stage9", completion="hard", keep=None)
