"""Parts are joined, codecs exchanged, and the command says what a store holds."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.store.test_store import LAYER, LOGITS, fill

from limbeck.cli.main import main
from limbeck.errors import LimbeckError
from limbeck.store.manage import convert, merge, parse_codec
from limbeck.store.manifest import Key, Signal, StoreError
from limbeck.store.reader import StoreReader

EVERY = torch.arange(23)


def test_parts_of_two_machines_become_one(tmp_path):
    fill(tmp_path / "a", rank=0, world=2)
    fill(tmp_path / "b", rank=1, world=2)
    assert len(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "whole").shards) == 6
    assert torch.equal(StoreReader(tmp_path / "whole").read(EVERY, 1, ["logits"]).logits, LOGITS[1])


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    fill(tmp_path / "a", stop_after=1)
    fill(tmp_path / "b", key=Key("x", "y", "z", 3))
    with pytest.raises(StoreError, match="its key differ from those of"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "whole")
    with pytest.raises(StoreError, match="5 of 6 shards are missing"):
        merge([tmp_path / "a"], tmp_path / "whole2")
    with pytest.raises(StoreError, match="neither a store of teacher signals nor the beginning of one"):
        merge([tmp_path / "none"], tmp_path / "whole3")


def test_a_damaged_part_is_refused(tmp_path):
    fill(tmp_path / "a")
    shard = next((tmp_path / "a").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"expected .* bytes, found"):
        merge([tmp_path / "a"], tmp_path / "whole")


def test_another_codec(tmp_path):
    fill(tmp_path / "a")
    manifest = convert(tmp_path / "a", tmp_path / "b", dict([parse_codec("logits=topk:k=2,dtype=fp32")]), batch=5)
    assert manifest.signals == {"logits": Signal((5,), "topk", {"k": 2, "dtype": "fp32"})}
    found = StoreReader(tmp_path / "b").read(EVERY, 0, ["logits"]).logits.softmax(1)
    exact = LOGITS[0].softmax(1)
    torch.testing.assert_close(found.amax(1), exact.amax(1))
    convert(tmp_path / "a", tmp_path / "c", dict([parse_codec("stage2=pooled:dtype=fp32"), parse_codec("logits=dense")]))
    pooled = StoreReader(tmp_path / "c").read(EVERY, 1, ["stage2"]).features["stage2"]
    torch.testing.assert_close(pooled, LAYER[1].bfloat16().float().mean((2, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logits", "--signal is written SIGNAL=CODEC"),
        ("logits=topk:k", "expected KEY=VALUE after the codec, found 'k'"),
        ("logits=topc", "Did you mean 'topk'"),
        ("logits=topk:k=0", "TopK.k must be > 0"),
        ("logits=topk:depth=1", "the codec 'topk' of the store cannot be used"),
    ],
)
def test_codecs_on_the_command_line(text, message):
    with pytest.raises(LimbeckError, match=message):
        parse_codec(text)


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    fill(tmp_path / "a")
    with pytest.raises(LimbeckError, match="topk stores class probabilities"):
        convert(tmp_path / "a", tmp_path / "b", dict([parse_codec("stage2=topk")]))
    with pytest.raises(StoreError, match="reads 'stage9' of the teacher"):
        convert(tmp_path / "a", tmp_path / "b", dict([parse_codec("stage9=dense")]))
    assert not (tmp_path / "b").exists()
    with pytest.raises(StoreError, match="something lies there already"):
        convert(tmp_path / "a", tmp_path / "a", dict([parse_codec("logits=dense")]))


def test_the_command(tmp_path, capsys):
    fill(tmp_path / "a")
    assert main(["store", "info", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "23 examples, 2 views each, 6 shards" in out
    assert "stage2  3 x 2 x 2  dense (dtype: bf16)  24" in out
    assert main(["store", "info", "--json", str(tmp_path / "a")]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 23
    assert main(["store", "verify", str(tmp_path / "a")]) == 0
    assert "everything is as it was written" in capsys.readouterr().out
    assert main(["store", "convert", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--signal", "logits=dense:dtype=int8"]) == 0
    assert "dense (dtype: int8)" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "a")
    fill(tmp_path / "a", stop_after=4)
    assert main(["store", "verify", str(tmp_path / "a")]) == 2
    assert "begun and never finished" in capsys.readouterr().err
    assert main(["store", "merge", str(tmp_path / "a"), "--out", str(tmp_path / "c")]) == 2
    assert "2 of 6 shards are missing" in capsys.readouterr().err
