"""Whatever happens to a byte, a file or a process: damage is named when the store is opened, and what was begun goes on."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.store.test_store import LAYER, LOGITS, fill, plan

from limbeck.store.manifest import StoreError
from limbeck.store.reader import StoreReader
from limbeck.store.writer import StoreWriter
from limbeck.types import Signals

EVERY = torch.arange(23)
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "store"
    fill(folder)
    return folder


@pytest.mark.parametrize("seed", range(30))
def test_any_flipped_byte_is_named_with_its_file(whole, tmp_path, seed):
    chance = random.Random(seed)
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    files = sorted(folder.iterdir())
    file = folder / "manifest.json" if seed % 3 == 0 else chance.choice(files)
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    file.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=re.escape(str(file))):
        StoreReader(folder)


@pytest.mark.parametrize("seed", range(10))
def test_any_file_that_was_cut_short_is_named(whole, tmp_path, seed):
    chance = random.Random(seed)
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    file = folder / "manifest.json" if seed % 2 else chance.choice(sorted(folder.iterdir()))
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content))])
    with pytest.raises(StoreError, match=re.escape(str(file))):
        StoreReader(folder)


def test_the_last_byte_of_the_manifest_counts(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "store")
    file = tmp_path / "store" / "manifest.json"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"manifest\.json: its contents have changed since it was written \(checksum differs\)"):
        StoreReader(tmp_path / "store")


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_beginning_is_made_whole(whole, tmp_path, seed):
    """A flipped byte in a shard or a record of an unfinished store costs that shard and nothing else."""
    chance = random.Random(seed)
    folder = tmp_path / "store"
    fill(folder, stop_after=4)
    for left in (".view0001-000000000008.safetensors.1.tmp", ".tmp9XoVEY"):  # what a killed process leaves, and its safetensors
        (folder / left).write_bytes(b"half")
    file = chance.choice([*folder.glob("view*"), *folder.glob("parts/view*")])
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(content))
    assert fill(folder) == 3
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {file.name: file.read_bytes() for file in whole.iterdir()}


def test_a_process_killed_while_tidying_up_leaves_a_store(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    (folder / "parts").mkdir()
    (folder / "parts" / "plan.json").write_text("{")
    assert torch.equal(StoreReader(folder).read(EVERY, 1, ["logits"]).logits, LOGITS[1])


def test_an_unreadable_plan_is_named(tmp_path):
    fill(tmp_path, stop_after=1)
    file = tmp_path / "parts" / "plan.json"
    file.write_text("{")
    with pytest.raises(StoreError, match=rf"{re.escape(str(file))}: cannot be read: .* Remove {re.escape(str(tmp_path))} to begin anew"):
        fill(tmp_path)
    file.write_text("[]")
    with pytest.raises(StoreError, match=r"an unfinished store of something else lies here \(examples, views, signals, key"):
        fill(tmp_path)


def test_without_verification_the_length_still_counts(whole, tmp_path):
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    shard = sorted(folder.glob("*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    StoreReader(folder, verify=False)
    shard.write_bytes(bytes(content[:-1]))
    with pytest.raises(StoreError, match="the shard was cut short or overwritten"):
        StoreReader(folder, verify=False)
    content[:8] = (10**15).to_bytes(8, "little")
    shard.write_bytes(bytes(content))
    with pytest.raises(StoreError, match=rf"{re.escape(str(shard))}: cannot be read as a shard"):
        StoreReader(folder, verify=False).read(EVERY, 0, ["logits"])


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc/self/fd, which tells what a process has open")
def test_no_file_stays_open(whole):
    """A store of many views has more shards than a process may open files."""
    reader = StoreReader(whole)
    before = len(list(DESCRIPTORS.iterdir()))
    for view in (0, 1, 0, 1):
        assert torch.equal(reader.read(EVERY, view, ["logits"]).logits, LOGITS[view])
    assert len(list(DESCRIPTORS.iterdir())) == before


def test_another_language_could_read_it(whole):
    """The format as docs/store.md tells it, with nothing but JSON and numpy."""
    manifest = json.loads((whole / "manifest.json").read_bytes())
    assert (manifest["format"], manifest["version"]) == ("limbeck-store", 1)
    kinds = {"F32": "<f4", "BF16": "<u2"}
    found = {
        name: np.zeros((manifest["views"], manifest["examples"], *signal["shape"]), "f4") for name, signal in manifest["signals"].items()
    }
    for shard in manifest["shards"]:
        content = (whole / shard["file"]).read_bytes()
        length = int.from_bytes(content[:8], "little")
        for name, array in json.loads(content[8 : 8 + length]).items():
            begin, end = (8 + length + offset for offset in array["data_offsets"])
            rows = np.frombuffer(content[begin:end], kinds[array["dtype"]]).reshape(array["shape"])
            if array["dtype"] == "BF16":  # the upper half of a float32
                rows = (rows.astype("u4") << 16).view("f4")
            found[name.removesuffix("/values")][shard["view"], shard["start"] : shard["stop"]] = rows
    assert np.array_equal(found["logits"], LOGITS.numpy())
    assert np.array_equal(found["stage2"], LAYER.bfloat16().float().numpy())


def test_more_shards_than_examples_of_a_batch(tmp_path):
    """Rows from one shard and rows from many are put together alike."""
    writer = StoreWriter(tmp_path, plan(), shard_size=1)
    for view, start, stop in writer.missing():
        rows = torch.arange(start, stop)
        writer.write(view, start, stop, iter([writer.encode(Signals(LOGITS[view, rows], {"stage2": LAYER[view, rows]}), rows)]))
    writer.finish()
    index = torch.tensor([22, 3, 3, 0])
    found = StoreReader(tmp_path).read(index, 1, ["stage2", "logits"])
    assert torch.equal(found.logits, LOGITS[1, index])
    assert torch.equal(found.features["stage2"], LAYER[1, index].bfloat16().float())
    assert StoreReader(tmp_path).read(index[:0], 0, ["logits"]).logits.shape == (0, 5)
