"""What each codec keeps, in how many bytes, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.store.codecs.dense import Dense
from limbeck.store.codecs.pooled import Pooled
from limbeck.store.codecs.sampled import Sampled
from limbeck.store.codecs.tinyvit import TinyViT, pack, unpack
from limbeck.store.codecs.topk import TopK, complete
from limbeck.store.manifest import CODECS

INDEX = torch.arange(5)


def there_and_back(codec, signal, index=INDEX):
    return codec.decode(codec.encode(signal, index), tuple(signal.shape[1:]))


@pytest.mark.parametrize("name", CODECS.names())
def test_every_codec_writes_what_its_layout_says(name):
    codec, signal = CODECS.get(name)(), torch.randn(5, 120)
    arrays = codec.encode(signal, INDEX)
    layout = codec.layout((120,))
    assert {key: (value.dtype, tuple(value.shape[1:])) for key, value in arrays.items()} == dict(layout)
    assert codec.bytes_per_example((120,)) == sum(value[0].numel() * value.element_size() for value in arrays.values())
    assert CODECS.get(name)(**codec.fields()) == codec


@pytest.mark.parametrize(("dtype", "error", "size"), [("fp32", 0.0, 160), ("fp16", 2**-11, 80), ("bf16", 2**-8, 80)])
def test_dense_rounds_to_the_nearest(dtype, error, size):
    signal = torch.randn(5, 40)
    codec = Dense(dtype=dtype)
    assert ((there_and_back(codec, signal) - signal).abs() <= error * signal.abs() + 1e-7).all()
    assert codec.bytes_per_example((40,)) == size


def test_dense_int8_has_one_scale_an_example():
    signal = torch.randn(5, 3, 8) * torch.tensor([1e-3, 1, 10, 1e4, 0]).reshape(5, 1, 1)
    found = there_and_back(Dense(dtype="int8"), signal)
    largest = signal.flatten(1).abs().amax(1).reshape(5, 1, 1)
    assert ((found - signal).abs() <= largest / 254 * 1.0001).all()
    assert Dense(dtype="int8").bytes_per_example((3, 8)) == 28


def test_dense_fp16_stays_finite():
    assert there_and_back(Dense(dtype="fp16"), torch.tensor([[1e6, -1e6]]), torch.arange(1)).tolist() == [[65504.0, -65504.0]]


def test_topk_by_hand():
    logits = torch.tensor([[0.1, 0.5, 0.2, 0.2]]).log()
    codec = TopK(k=2, dtype="fp32")
    arrays = codec.encode(logits, torch.arange(1))
    assert arrays["index"].tolist()[0][0] == 1
    assert arrays["value"].tolist()[0] == pytest.approx([0.5, 0.2])
    found = codec.decode({"index": torch.tensor([[1, 2]], dtype=torch.uint16), "value": torch.tensor([[0.5, 0.2]])}, (4,)).softmax(1)
    assert found.tolist()[0] == pytest.approx([0.15, 0.5, 0.2, 0.15])


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("tail", [0.1, 0.5, 0.2, 0.1, 0.1]),
        ("renormalised", [0, 5 / 7, 2 / 7, 0, 0]),
        ("smoothing", [0.125, 0.5, 0.125, 0.125, 0.125]),
        ("hard", [0, 1, 0, 0, 0]),
    ],
)
def test_completions_by_hand(completion, expected):
    found = complete(torch.tensor([[1, 2]]), torch.tensor([[0.5, 0.2]]), classes=5, completion=completion)
    assert found.tolist()[0] == pytest.approx(expected)
    assert found.sum().item() == pytest.approx(1)


def test_topk_keeps_the_tail_mass_at_its_temperature():
    logits = torch.randn(5, 30) * 3
    codec = TopK(k=4, dtype="fp32", temperature=2.0)
    found, exact = (there_and_back(codec, logits) / 2).softmax(1), (logits / 2).softmax(1)
    top = exact.topk(4, 1)
    torch.testing.assert_close(found.gather(1, top.indices), top.values)
    torch.testing.assert_close(found.sum(1), torch.ones(5))


def test_topk_reaches_any_number_of_classes():
    logits = torch.zeros(2, 100_000)
    logits[0, 99_999], logits[1, 70_000] = 30, 30
    found = there_and_back(TopK(k=3), logits, torch.arange(2))
    assert found.argmax(1).tolist() == [99_999, 70_000]
    assert found.isfinite().all()
    assert [TopK(k=3).bytes_per_example((c,)) for c in (65_536, 65_537)] == [12, 18]
    assert TopK(k=3).encode(torch.eye(2, 65_536).flip(1) * 30, torch.arange(2))["index"][0, 0].item() == 65_535


def test_sampled_is_unbiased_and_repeatable():
    logits = torch.tensor([2.0, 1.0, 0.0, -3.0]).expand(4000, 4)
    codec = Sampled(draws=8)
    index = torch.arange(4000)
    share = there_and_back(codec, logits, index).softmax(1)
    torch.testing.assert_close(share.mean(0), logits[0].softmax(0), atol=0.01, rtol=0)
    assert share[0].mul(8).round().sum().item() == 8
    parts = torch.cat([codec.encode(logits[i : i + 1], index[i : i + 1])["index"] for i in (7, 3)])
    assert torch.equal(parts, codec.encode(logits[[7, 3]], index[[7, 3]])["index"])
    assert not torch.equal(
        codec.encode(logits[:50], index[:50])["index"], Sampled(draws=8, seed=1).encode(logits[:50], index[:50])["index"]
    )


def test_sampled_at_a_temperature():
    logits = torch.tensor([4.0, 0.0]).expand(4000, 2)
    share = (there_and_back(Sampled(draws=4, temperature=2.0), logits, torch.arange(4000)) / 2).softmax(1)
    assert share[:, 0].mean().item() == pytest.approx(1 / (1 + math.exp(-2)), abs=0.01)


def test_pooled_averages_positions():
    maps, tokens = torch.randn(5, 6, 4, 4), torch.randn(5, 7, 6)
    torch.testing.assert_close(there_and_back(Pooled(dtype="fp32"), maps), maps.mean((2, 3)))
    torch.testing.assert_close(there_and_back(Pooled(dtype="fp32"), tokens), tokens.mean(1))
    quarters = there_and_back(Pooled(dtype="fp32", size=2), maps)
    torch.testing.assert_close(quarters[:, :, 0, 0], maps[:, :, :2, :2].mean((2, 3)))


def test_pooled_projection_keeps_lengths_where_nothing_is_dropped():
    vectors = torch.randn(5, 6)
    found = there_and_back(Pooled(dtype="fp32", channels=6), vectors)
    torch.testing.assert_close(found.norm(dim=1), vectors.norm(dim=1))
    assert there_and_back(Pooled(dtype="fp32", channels=2), torch.randn(5, 6, 3, 3)).shape == (5, 2)
    assert there_and_back(Pooled(channels=2, size=2), torch.randn(5, 6, 4, 4)).shape == (5, 2, 2, 2)


@pytest.mark.parametrize(
    ("codec", "shape", "message"),
    [
        (TopK(), (3, 4), r"topk stores class probabilities \(classes,\), found a signal of shape \[3, 4\]; use dense"),
        (TopK(k=10), (10,), "keeps fewer than all classes: k is 10, the signal has 10"),
        (Sampled(), (3, 4), "sampled stores class distributions"),
        (Pooled(size=2), (8,), "stores vectors, tokens"),
        (Pooled(channels=9), (8,), "at most the signal's own 8 channels, asked for 9"),
    ],
)
def test_what_cannot_be_written_is_refused(codec, shape, message):
    with pytest.raises(LimbeckError, match=message):
        codec.layout(shape)


def test_bounds():
    with pytest.raises(ValueError, match=r"TopK\.k must be > 0, got 0"):
        TopK(k=0)
    with pytest.raises(ValueError, match=r"Dense\.dtype must be one of 'fp32'"):
        Dense(dtype="int4")  # type: ignore[arg-type]


def test_tinyvit_bytes_by_hand():
    records = pack(torch.tensor([-2]), torch.tensor([[258, 3]]), torch.tensor([[0.5, 0.25]]))
    assert records.tolist() == [[0xFE, 0xFF, 0xFF, 0xFF, 0x02, 0x01, 0x03, 0x00, 0x00, 0x38, 0x00, 0x34]]
    seeds, index, value = unpack(records)
    assert (seeds.tolist(), index.tolist(), value.tolist()) == ([-2], [[258, 3]], [[0.5, 0.25]])


def test_tinyvit_there_and_back():
    logits = torch.tensor([[0.1, 0.5, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]]).log()
    codec = TinyViT(k=2)
    record = codec.encode(logits, torch.tensor([7, 9]))["record"]
    assert unpack(record)[0].tolist() == [7, 9]
    found = codec.decode({"record": record}, (4,)).softmax(1)
    torch.testing.assert_close(found[1], torch.tensor([0.15, 0.15, 0.3, 0.4]), rtol=1e-3, atol=0)
    hard = codec.completed("hard", None).decode({"record": record}, (4,)).softmax(1)
    torch.testing.assert_close(hard[1], torch.tensor([0.0, 0, 0, 1]), rtol=0, atol=1e-6)
    assert codec.completed(None, None) == codec
    assert codec.bytes_per_example((40,)) == 12
    assert TinyViT().k == 100


def test_tinyvit_refuses_what_does_not_fit():
    assert TinyViT(k=1).layout((32_767,))
    with pytest.raises(
        LimbeckError, match=r"the codec tinyvit stores at most 32,767 classes, the signal has 32,768\. Use topk, which has no limit"
    ):
        TinyViT(k=1).layout((32_768,))
    with pytest.raises(LimbeckError, match=r"stores class probabilities \(classes,\), found a signal of shape \[3, 4\]; use dense"):
        TinyViT(k=1).layout((3, 4))
    with pytest.raises(LimbeckError, match="keeps fewer than all classes: k is 4, the signal has 4"):
        TinyViT(k=4).layout((4,))
    with pytest.raises(LimbeckError, match="tell at most 32,767 classes apart, found class 32,768"):
        pack(torch.tensor([0]), torch.tensor([[32_768]]), torch.ones(1, 1))
    pack(torch.tensor([2**31 - 1, -(2**31)]), torch.tensor([[32_767], [0]]), torch.ones(2, 1))
    for seed in (2**31, -(2**31) - 1):
        with pytest.raises(LimbeckError, match="seeds of 32 bits"):
            pack(torch.tensor([seed]), torch.tensor([[0]]), torch.ones(1, 1))
    for length in (4, 10):
        with pytest.raises(LimbeckError, match=rf"have 4 \+ 4 k bytes, found {length}"):
            unpack(torch.zeros(1, length, dtype=torch.uint8))
    with pytest.raises(LimbeckError, match="convert this one with --signal logits=topk"):
        TinyViT().completed(None, 3)


def test_another_completion_reads_the_same_arrays():
    """FKD's label types, of one store."""
    logits = torch.tensor([[0.1, 0.5, 0.25, 0.15]]).log()
    codec = TopK(k=3, dtype="fp32", temperature=2.0)
    plain = TopK(k=3, dtype="fp32")
    arrays = plain.encode(logits, torch.arange(1))
    expected = {
        ("tail", 2): [0.125, 0.5, 0.25, 0.125],
        ("renormalised", None): [0.0, 5 / 9, 2.5 / 9, 1.5 / 9],
        ("smoothing", None): [0.5 / 3, 0.5, 0.5 / 3, 0.5 / 3],
        ("hard", 1): [0.0, 1.0, 0.0, 0.0],
        (None, None): [0.1, 0.5, 0.25, 0.15],
    }
    for (completion, keep), row in expected.items():
        found = plain.completed(completion, keep).decode(arrays, (4,)).softmax(1)
        torch.testing.assert_close(found, torch.tensor([row]), rtol=1e-5, atol=1e-6)
    assert codec.completed("hard", 2) == TopK(k=2, dtype="fp32", completion="hard", temperature=2.0)
    with pytest.raises(LimbeckError, match="the store keeps 3 probabilities an example, `keep` asks for 4"):
        codec.completed(None, 4)
    with pytest.raises(LimbeckError, match="Dense keeps no list of largest probabilities"):
        Dense().completed("tail", None)
