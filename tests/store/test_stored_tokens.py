"""What a language model says of tokens: bytes, what is read back, unbiased draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.ops.projection import logits_of
from limbeck.store.tokens._packing import bits_bytes, pack, pack_bits, packed_bytes, unpack, unpack_bits
from limbeck.store.tokens.hidden import Hidden
from limbeck.store.tokens.sampled import Sampled
from limbeck.store.tokens.topk import TopK
from limbeck.tokens import Hidden as States
from limbeck.tokens import Logits, Projection
from limbeck.tokens import Sampled as Drawn
from limbeck.tokens import TopK as Likeliest

NONE = torch.empty(0, 0, dtype=torch.float64)


def logits(rows: int = 40, vocabulary: int = 1000) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1)) * 3


def uniforms(rows: int, draws: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, draws, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("k", "vocabulary"), [(1, 1), (1, 2), (3, 7), (4, 4), (5, 5), (12, 151_936), (64, 262_144), (7, 1000), (300, 256)])
def test_rising_ids_come_back_from_the_bytes_that_were_promised(k, vocabulary):
    ids = np.sort(np.random.default_rng(0).integers(0, vocabulary, (9, k)), axis=1)
    ids[0], ids[1] = 0, vocabulary - 1
    packed = pack(ids, vocabulary)
    assert packed.shape == (9, packed_bytes(k, vocabulary))
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack(packed, k, vocabulary), ids)


def test_packed_ids_by_hand():
    # V=16, k=4: 2 low bits each, then the high parts 0, 1, 1, 3 as bits 0, 2, 3 and 6 of 7.
    assert packed_bytes(4, 16) == 2
    assert pack(np.array([[1, 4, 7, 14]]), 16).tolist() == [[0b10_11_00_01, 0b1001101]]


def test_sizes_stay_below_those_of_plain_bits():
    assert packed_bytes(64, 151_936) == 106  # 18 bits each: 144
    assert packed_bytes(12, 151_936) == 24
    assert packed_bytes(50, 128_256) == 83


def test_damaged_ids_are_no_ids():
    packed = pack(np.array([[1, 4, 7, 14]]), 16)
    packed[0, 1] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        unpack(packed, 4, 16)


def test_bits_come_back():
    values = np.array([[5, 0, 7], [1, 2, 3]])
    assert bits_bytes(3, 3) == 2
    np.testing.assert_array_equal(unpack_bits(pack_bits(values, 3), 3, 3), values)
    assert pack_bits(np.array([[5, 0, 7]]), 3).tolist() == [[0b11_000_101, 0b1]]


@pytest.mark.parametrize(("dtype", "worst"), [("fp32", 1e-5), ("fp16", 4e-3), ("bf16", 3e-2), ("int8", 5e-2)])
def test_topk_gives_the_likeliest_with_their_tail(dtype, worst):
    z = logits()
    codec = TopK(k=20, dtype=dtype)
    arrays = codec.encode(Logits(z), 1000, NONE)
    layout = codec.layout(1000, 0)
    assert {name: (value.dtype, tuple(value.shape[1:])) for name, value in arrays.items()} == dict(layout)
    read = codec.decode(arrays, 1000, None)
    log_p = z.double().log_softmax(1)
    best = log_p.topk(20).indices.sort(1).values
    assert torch.equal(read.ids, best)
    assert (read.log_probs - log_p.gather(1, best)).abs().max() < worst
    tail = 1 - read.log_probs.double().exp().sum(1)
    torch.testing.assert_close(tail, 1 - log_p.gather(1, best).exp().sum(1), rtol=worst + 1e-3, atol=1e-6)


def test_topk_of_hidden_states_is_that_of_their_logits_and_padding_rows_are_none():
    head = Projection(torch.randn(110, 6), torch.randn(110), 0.5, 7.0)
    states = torch.randn(5, 6)
    head.weight[100:] = 50.0
    z = logits_of(States(states, head), 100)
    one = TopK(k=7).encode(States(states, head), 100, NONE)
    two = TopK(k=7).encode(Logits(z), 100, NONE)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert TopK(k=7).decode(one, 100, None).ids.max() < 100


@pytest.mark.parametrize("tail", ["kept", "implied"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "int8"])
def test_the_probabilities_never_sum_to_one(tail, dtype):
    z = torch.tensor([[40.0, 0, 0, 0, 0], [2.0, 2, 2, 2, -30], [0.0, 0, 0, 0, 0]])
    codec = TopK(k=4, dtype=dtype, tail=tail)
    read = codec.decode(codec.encode(Logits(z), 5, NONE), 5, None)
    rest = 1 - read.log_probs.exp().sum(1)
    assert (rest > 0).all()
    assert rest[0] < 1e-5
    assert abs(rest[2] - 0.2) < 0.01
    assert ("tail" in codec.layout(5, 0)) == (tail == "kept")


def test_topk_at_a_temperature():
    codec = TopK(k=3, dtype="fp32", temperature=2.0)
    z = logits(4, 10)
    read = codec.decode(codec.encode(Logits(z), 10, NONE), 10, None)
    assert read.temperature == 2
    log_p = (z / 2).log_softmax(1)
    torch.testing.assert_close(read.log_probs, log_p.gather(1, read.ids), rtol=1e-4, atol=1e-4)


def test_topk_of_what_a_server_names():
    ids = torch.tensor([[9, 2, 5], [7, 1, 3]])
    log_probs = torch.tensor([[-1.0, -0.5, -4.0], [-0.1, -3.0, -5.0]])
    codec = TopK(k=2, dtype="fp32")
    read = codec.decode(codec.encode(Likeliest(ids, log_probs), 10, NONE), 10, None)
    assert read.ids.tolist() == [[2, 9], [1, 7]]
    torch.testing.assert_close(read.log_probs, torch.tensor([[-0.5, -1.0], [-3.0, -0.1]]), rtol=1e-3, atol=1e-3)
    with pytest.raises(LimbeckError, match=r"is to keep 4 tokens, the teacher names 3\. Set k to that"):
        TopK(k=4).encode(Likeliest(ids, log_probs), 10, NONE)
    with pytest.raises(LimbeckError, match=r"speaks at temperature 1, the codec topk is to write 2; only whole"):
        TopK(k=2, temperature=2.0).encode(Likeliest(ids, log_probs), 10, NONE)
    with pytest.raises(
        LimbeckError, match="the codec sampled needs the whole distribution, and the teacher gives the likeliest tokens only"
    ):
        Sampled().encode(Likeliest(ids, log_probs), 10, uniforms(2, 50))


def test_tokens_beyond_the_vocabulary_are_another_tokenizer():
    with pytest.raises(LimbeckError, match=r"the teacher names token 10, the data have 10 tokens: its tokenizer is another"):
        TopK(k=2).encode(Likeliest(torch.tensor([[2, 10]]), torch.tensor([[-1.0, -1.0]])), 10, NONE)


def test_topk_of_a_small_vocabulary_is_refused():
    with pytest.raises(LimbeckError, match="k is 64, the vocabulary has 50"):
        TopK().layout(50, 0)


@pytest.mark.parametrize("how", ["stratified", "independent"])
def test_samples_are_unbiased(how):
    z = logits(1, 30).expand(4000, 30)
    codec = Sampled(draws=12, how=how)
    read = codec.decode(codec.encode(Logits(z), 30, uniforms(4000, 12)), 30, None)
    torch.testing.assert_close(read.weights.sum(1), torch.ones(4000))
    mean = torch.zeros(30).index_add_(0, read.ids.flatten(), read.weights.flatten()) / 4000
    p = z[0].softmax(0)
    assert ((mean - p).abs() < 5 * (p / 12 / 4000).sqrt() + 1e-4).all()


def test_stratified_draws_vary_less():
    z = logits(1, 30).expand(2000, 30)
    spread = []
    for how in ("stratified", "independent"):
        codec = Sampled(draws=12, how=how)
        read = codec.decode(codec.encode(Logits(z), 30, uniforms(2000, 12)), 30, None)
        share = torch.zeros(2000, 30).scatter_add_(1, read.ids, read.weights)
        spread.append(float(share.var(0).sum()))
    assert spread[0] < 0.7 * spread[1]


@pytest.mark.parametrize("draws", [1, 2, 7, 50, 255])
def test_draws_come_back_as_they_were(draws):
    z = logits(60, 500)
    codec = Sampled(draws=draws, how="independent")
    u = uniforms(60, draws)
    arrays = codec.encode(Logits(z), 500, u)
    read = codec.decode(arrays, 500, None)
    cumulative = z.softmax(1).cumsum(1, dtype=torch.float64)
    expected = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
    share = torch.zeros(60, 500).scatter_add_(1, expected, torch.full(expected.shape, 1 / draws))
    torch.testing.assert_close(torch.zeros(60, 500).scatter_add_(1, read.ids, read.weights), share)
    assert int(codec.sizes(arrays, 500).sum()) == len(arrays["stream"])
    assert arrays["count"].tolist() == [len(set(row)) for row in expected.tolist()]


def test_fifty_draws_of_twelve_tokens_take_36_bytes():
    codec = Sampled()
    z = torch.full((1, 151_936), -50.0)
    z[0, ::13_000] = 0.0  # twelve
    arrays = codec.encode(Logits(z), 151_936, uniforms(1, 50))
    assert arrays["count"].item() == 12
    assert len(arrays["stream"]) == 24 + 9
    assert isinstance(codec.decode(arrays, 151_936, None), Drawn)


@pytest.mark.parametrize(("dtype", "size", "worst"), [("bf16", 2, 4e-3), ("fp16", 2, 5e-4), ("fp32", 4, 0), ("int8", 1, 4e-3)])
def test_hidden_states_come_back(dtype, size, worst):
    head = Projection(torch.randn(20, 16), cap=3.0)
    states = torch.randn(9, 16)
    codec = Hidden(dtype=dtype)
    arrays = codec.encode(States(states, head), 20, NONE)
    assert arrays["values"].numel() * arrays["values"].element_size() == 9 * 16 * size
    read = codec.decode(arrays, 20, head)
    assert read.head is head
    assert read.hidden.dtype == torch.float32
    assert (read.hidden - states).abs().max() <= worst * states.abs().max()


def test_hidden_states_are_asked_of_one_who_has_them():
    for attempt in (lambda: Hidden().layout(20, 0), lambda: Hidden().encode(Logits(torch.zeros(1, 20)), 20, NONE)):
        with pytest.raises(LimbeckError, match="the codec hidden writes hidden states, and the teacher gives none"):
            attempt()
    with pytest.raises(LimbeckError, match="without the head"):
        Hidden().decode({"values": torch.zeros(1, 2)}, 20, None)


def test_chunks_change_nothing(monkeypatch):
    z, u = logits(37, 50), uniforms(37, 12)
    whole = [codec.encode(Logits(z), 50, u[:, : codec.uniforms]) for codec in (TopK(k=5), Sampled(draws=12))]
    monkeypatch.setattr("limbeck.store.tokens.base.HELD", 500)
    parts = [codec.encode(Logits(z), 50, u[:, : codec.uniforms]) for codec in (TopK(k=5), Sampled(draws=12))]
    for one, two in zip(whole, parts, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_no_tokens_at_all():
    for codec in (TopK(k=5), Sampled(), Hidden()):
        said = States(torch.zeros(0, 4), Projection(torch.zeros(50, 4)))
        arrays = codec.encode(said, 50, torch.empty(0, codec.uniforms, dtype=torch.float64))
        read = codec.decode(arrays, 50, said.head)
        assert all(len(value) == 0 for value in itertools.chain(arrays.values(), vars(read).values()) if isinstance(value, torch.Tensor))
