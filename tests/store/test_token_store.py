"""A store of documents: found by their contents in any order, whole or refused, the same however it was made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.store.token_stores import KEY, VOCABULARY, WIDTH, Texts, Voice, dense, read, write

from limbeck.cli.main import main
from limbeck.engine.backend import Backend
from limbeck.errors import Interrupted
from limbeck.store.manage import convert, merge, parse_codec, told
from limbeck.store.manifest import TOKENS, Manifest, StoreError, read_manifest
from limbeck.store.reader import StoreReader
from limbeck.store.shards import open_shard
from limbeck.store.token_reader import TokenReader
from limbeck.store.token_shards import Piece, assembled, check_bytes, keys_of
from limbeck.tokens import Hidden, Logits, Sampled, TopK, rows_of
from limbeck.types import Signals

CODECS = {"topk": {"k": 20}, "sampled": {"draws": 9}, "hidden": {"dtype": "fp32"}}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("codec", CODECS)
def test_any_documents_in_any_order(codec, tmp_path):
    manifest, texts, voice = write(tmp_path, codec, **CODECS[codec])
    assert (manifest.examples, len(manifest.shards)) == (20, 4)
    reader = TokenReader(tmp_path)
    kind = {"topk": TopK, "sampled": Sampled, "hidden": Hidden}[codec]
    for numbers in ([3], [19, 0, 7, 8, 15], list(range(20))[::-1]):
        said, batch = read(reader, texts, numbers)
        assert isinstance(said, kind)
        live = dense(voice.says(batch))
        if isinstance(said, Hidden):
            torch.testing.assert_close(dense(said), live, rtol=1e-5, atol=1e-5)
            assert len(said.head.weight) == VOCABULARY
        elif isinstance(said, TopK):
            assert torch.equal(said.ids, live.topk(20).indices.sort(1).values)
            torch.testing.assert_close(said.log_probs.double(), live.gather(1, said.ids), rtol=0, atol=0.01)
        elif isinstance(said, Sampled):
            weight = torch.zeros(len(live), VOCABULARY).scatter_add_(1, said.ids, said.weights)
            assert ((weight - live.exp()).abs().amax(1) <= 2 / 9).all()


@pytest.mark.parametrize("codec", CODECS)
def test_tokens_of_a_document_in_any_order(codec, tmp_path):
    _, texts, _ = write(tmp_path, codec, **CODECS[codec])
    reader = TokenReader(tmp_path)
    whole, batch = read(reader, texts, [4, 11])
    pick = torch.tensor([5, 0, 7, 7])
    owner = (batch.extra["documents"] == 11).long()
    some = reader.read(texts.keys(np.array([4, 11])), owner[pick], batch.extra["within"][pick], batch.labels[pick])
    torch.testing.assert_close(dense(some), dense(whole)[pick])


def test_another_order_makes_the_same_store_and_reads_it(tmp_path):
    _, texts, voice = write(tmp_path / "a")
    order = [int(i) for i in np.random.default_rng(1).permutation(20)]
    write(tmp_path / "b", texts=texts.subset(order), voice=voice)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    other = Texts(ids=[*texts.subset(order[:7]).ids])
    reader = TokenReader(tmp_path / "a")
    reader.check_documents(other)
    said, batch = read(reader, other, [6, 2])
    assert isinstance(said, TopK)
    assert torch.equal(said.ids, dense(voice.says(batch)).topk(64).indices.sort(1).values)


def test_documents_that_are_missing_are_counted(tmp_path):
    _, texts, _ = write(tmp_path)
    reader = TokenReader(tmp_path)
    more = Texts(ids=[*texts.ids[:5], np.array([1, 2, 3, 4]), *texts.ids[5:], np.array([9, 9, 9])])
    with pytest.raises(
        StoreError, match=rf"{re.escape(str(tmp_path))}: 2 of 22 documents are not in the store \(the first: number 5 of the"
    ):
        reader.check_documents(more)
    with pytest.raises(
        StoreError, match=r"1 of 2 documents are not in the store \(the first: the one with the key [0-9a-f]{16}\).*max_length"
    ):
        read(reader, more, [0, 5])
    texts.trained[3] = ~texts.trained[3]
    with pytest.raises(StoreError, match="1 of 20 documents are not in the store"):
        reader.check_documents(texts)


def test_signals_of_other_targets_are_refused(tmp_path):
    _, texts, _ = write(tmp_path)
    reader = TokenReader(tmp_path)
    batch = texts.shown(np.array([2, 9]))
    owner, keys = (batch.extra["documents"] == 9).long(), texts.keys(np.array([2, 9]))
    shifted = batch.labels.roll(1)
    count = int((check_bytes(shifted) != check_bytes(batch.labels)).sum())
    with pytest.raises(
        StoreError, match=rf"{count} of {len(shifted)} tokens were stored for other targets .*token 0 of the document with the"
    ):
        reader.read(keys, owner, batch.extra["within"], shifted)
    with pytest.raises(StoreError, match=r"tokens were stored for other targets"):
        reader.read(keys, owner, batch.extra["within"] + 1, batch.labels)
    with pytest.raises(StoreError, match=r"1 of 1 tokens were stored for other targets"):
        reader.read(keys, owner[-1:], torch.tensor([99]), batch.labels[-1:])


def test_check_bytes_differ_between_neighbours():
    found = check_bytes(torch.arange(100_000))
    assert found.dtype == torch.uint8
    assert int((found[1:] == found[:-1]).sum()) == 0
    assert torch.bincount(found.long(), minlength=256).min() > 300
    assert check_bytes(torch.tensor([1])).tolist() == [2_654_435_761 >> 24]


class Stop:
    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self) -> bool:
        self.after -= 1
        return self.after < 0


@pytest.mark.parametrize("codec", CODECS)
def test_an_interrupted_store_goes_on_and_is_the_same(codec, tmp_path):
    whole, texts, _ = write(tmp_path / "whole", codec, **CODECS[codec])
    with pytest.raises(Interrupted, match="every whole shard"):
        write(tmp_path / "part", codec, interrupted=Stop(5), **CODECS[codec])
    with pytest.raises(StoreError, match="begun and never finished"):
        TokenReader(tmp_path / "part")
    texts.batches.clear()
    manifest, _, _ = write(tmp_path / "part", codec, texts, **CODECS[codec])
    assert 0 < sum(map(len, texts.batches)) < 21
    assert manifest == whole
    assert bytes_of(tmp_path / "part") == bytes_of(tmp_path / "whole")


def test_another_teacher_does_not_go_on_with_it(tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        write(tmp_path, interrupted=Stop(5))
    monkeypatch.setattr("tests.store.token_stores.KEY", type(KEY)("c" * 64, "", "{}", 3))
    with pytest.raises(StoreError, match=r"an unfinished store of something else lies here \(key differ\)"):
        write(tmp_path)


def test_two_processes_make_the_same_store(tmp_path, monkeypatch):
    write(tmp_path / "one", "hidden")

    class Second(Backend):
        def __init__(self, **_: object) -> None:
            super().__init__(device="cpu")
            self.rank, self.world, self.is_main = 1, 2, False

        def wait(self) -> None:
            pass

    class First(Second):
        def __init__(self, **_: object) -> None:
            super().__init__()
            self.rank, self.is_main = 0, True

    monkeypatch.setattr("tests.store.token_stores.Backend", Second)
    plan, _, _ = write(tmp_path / "two", "hidden")
    assert plan.shards == ()
    monkeypatch.setattr("tests.store.token_stores.Backend", First)
    manifest, texts, _ = write(tmp_path / "two", "hidden")
    assert len(manifest.shards) == 4
    assert sum(map(len, texts.batches)) == 1 + 12  # the first is asked for shapes; shards 0 and 2 have six documents each
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


@pytest.mark.parametrize("name", ["head.safetensors", "view0000-000000000006.safetensors", "manifest.json"])
def test_a_changed_byte_is_found_at_open(name, tmp_path):
    write(tmp_path, "hidden")
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(StoreError, match=r"its contents have changed|cannot be read"):
        TokenReader(tmp_path)


def test_a_missing_head_is_named(tmp_path):
    write(tmp_path, "hidden")
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(StoreError, match=r"head\.safetensors: the file is missing"):
        TokenReader(tmp_path)


def test_shards_are_sorted_by_key(tmp_path):
    manifest, texts, _ = write(tmp_path)
    found = b"".join(keys_of(open_shard(tmp_path / shard.file, shard.file)).tobytes() for shard in manifest.shards)
    keys = [found[i : i + 32] for i in range(0, len(found), 32)]
    assert keys == sorted(texts.keys(np.arange(20)).tobytes()[i : i + 32] for i in range(0, 640, 32))


def test_equal_documents_are_one_to_the_reader(tmp_path):
    twice = Texts(ids=[np.array([1, 2, 3])] * 9 + [np.array([4, 5, 6])])
    write(tmp_path, "hidden", twice)
    reader = TokenReader(tmp_path)
    for number in range(10):
        read(reader, twice, [number])


def test_documents_without_a_trained_token_are_left_out(tmp_path):
    texts = Texts()
    lengths = texts.lengths
    texts.lengths = lambda numbers: np.where(numbers == 3, 0, lengths(numbers))  # type: ignore[method-assign]
    manifest, _, _ = write(tmp_path, texts=texts)
    assert manifest.examples == 19
    TokenReader(tmp_path).check_documents(texts)


def test_what_was_measured_is_what_it_says(tmp_path):
    manifest, texts, voice = write(tmp_path, "topk", k=20)
    said, batch = read(TokenReader(tmp_path), texts, list(range(20)))
    p, q = dense(voice.says(batch)), dense(said)
    expected = {
        "tokens": len(p),
        "sample": len(p),
        "nll": float(-p.gather(1, batch.labels[:, None]).mean()),
        "kl": float((p.exp() * (p - q)).sum(1).mean()),
        "reverse_kl": float((q.exp() * (q - p)).sum(1).mean()),
        "outside": float(1 - p.topk(20).values.exp().sum(1).mean()),
    }
    assert manifest.measured == pytest.approx(expected, rel=1e-4)
    assert read_manifest(tmp_path).measured == manifest.measured


def test_of_samples_only_the_finite_divergence_is_told(tmp_path):
    manifest, _, _ = write(tmp_path, "sampled")
    assert set(manifest.measured) == {"tokens", "sample", "nll", "reverse_kl", "outside"}
    text = told(tmp_path, manifest)
    assert "sampled (draws: 50, how: stratified, temperature: 1.0, seed: 0) of 300 tokens" in text
    assert "KL of what is stored to the teacher 0." in text


def test_a_large_store_is_measured_on_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.dictation.SAMPLE", 10)
    manifest, _, _ = write(tmp_path, shard=20)
    assert 0 < manifest.measured["sample"] < 40 < manifest.measured["tokens"]


def test_info_and_verify(tmp_path, capsys):
    write(tmp_path, "hidden")
    assert main(["store", "info", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"20 documents, \d+ trained tokens, one view each, 4 shards", text)
    assert re.search(
        r"hidden \(dtype: bf16\) of 300 tokens, 8 channels\n[\d.]+ bytes a token, keys and index included\nhead.safetensors:", text
    )
    assert re.search(r"on \d+ tokens, in nats a token: the teacher's own loss [\d.]+, KL of the teacher to what is stored", text)
    assert main(["store", "verify", str(tmp_path)]) == 0
    assert "everything is as it was written" in capsys.readouterr().out
    assert main(["store", "info", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"]["tokens"] > 0


def test_parts_are_merged(tmp_path):
    write(tmp_path / "whole", "hidden")
    with pytest.raises(Interrupted):
        write(tmp_path / "part", "hidden", interrupted=Stop(5))
    merge([tmp_path / "part", tmp_path / "whole"], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_the_two_kinds_of_store_are_told_apart(tmp_path):
    write(tmp_path / "tokens")
    with pytest.raises(StoreError, match="what a language model says of tokens lies here, and signals of examples are asked for"):
        StoreReader(tmp_path / "tokens")
    with pytest.raises(StoreError, match="is not converted"):
        convert(tmp_path / "tokens", tmp_path / "out", {})
    with pytest.raises(StoreError, match="made for a vocabulary of 300 tokens, the data have 301"):
        TokenReader(tmp_path / "tokens").check_vocabulary(301)
    TokenReader(tmp_path / "tokens").check_vocabulary(300)
    with pytest.raises(StoreError, match=r"the teacher's weights \(store a+, recipe b+\) differ"):
        TokenReader(tmp_path / "tokens").check_teacher("b" * 64)
    TokenReader(tmp_path / "tokens").check_teacher(KEY.teacher)
    TokenReader(tmp_path / "tokens").check_teacher(None)


def test_a_teacher_without_hidden_states_or_tokens(tmp_path):
    class Plain(Voice):
        def signals(self, batch):
            found = super().signals(batch).tokens
            assert isinstance(found, Hidden)
            return Signals(tokens=Logits(found.hidden @ found.head.weight.T))

    class Silent(Voice):
        def signals(self, batch):
            return super().signals(batch) if not self.count else Signals()

    manifest, _, _ = write(tmp_path / "plain", voice=Plain())
    assert manifest.signals[TOKENS].shape == (VOCABULARY, 0)
    assert "kl" in manifest.measured
    with pytest.raises(StoreError, match="says nothing of tokens"):
        write(tmp_path / "silent", voice=Silent())


def test_codecs_of_the_command_line():
    name, signal = parse_codec("tokens=topk:k=50,dtype=int8")
    assert (name, signal.codec, dict(signal.fields)) == ("tokens", "topk", {"k": 50, "dtype": "int8"})
    with pytest.raises(StoreError, match=r"'dense' of the store cannot be used: no codec of tokens is called 'dense'"):
        parse_codec("tokens=dense")


def test_a_document_that_is_shown_twice_is_refused():
    codec = parse_codec("tokens=hidden")[1].build_tokens()
    keys = np.zeros((1, 32), dtype=np.uint8)
    arrays = {"values": torch.zeros(2, WIDTH)}
    for within in ([0, 0], [0, 2]):
        piece = Piece(np.array([0, 0]), np.array(within), arrays)
        with pytest.raises(StoreError, match="more than once, or not all of them"):
            assembled([piece], keys, codec, VOCABULARY, torch.zeros(6))


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_read_is_known_without_reading(codec, tmp_path):
    _, texts, _ = write(tmp_path, codec, **CODECS[codec])
    reader = TokenReader(tmp_path)
    said, batch = read(reader, texts, [3, 4])
    meta = reader.meta(batch.units)
    assert type(meta) is type(said)
    for one, two in zip(rows_of(meta), rows_of(said), strict=True):
        assert one.device.type == "meta"
        assert one.dtype == two.dtype
        assert len(one) == len(two)
        assert codec == "sampled" or one.shape == two.shape


def test_shapes_of_the_manifest(tmp_path):
    manifest, _, _ = write(tmp_path, "hidden")
    assert manifest.signals[TOKENS].shape == (VOCABULARY, WIDTH)
    assert isinstance(read_manifest(tmp_path), Manifest)
    assert [file.file for file in manifest.files] == ["head.safetensors"]
