"""Padding on either side and several documents in one row: what is said of a document does not depend on what lies around it."""

from __future__ import annotations

import pytest
import torch
from tests.language_models import tiny
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.models.documents import check_packing, read_documents

transformers = pytest.importorskip("transformers")

PACKING = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "cohere2", "phi3", "gpt_neox", "gpt2"]


def packed(documents: list[Tensor], tokens: int) -> dict[str, Tensor]:
    """A row of documents, padded on the right."""
    ids, positions = torch.zeros(tokens, dtype=torch.int64), torch.zeros(tokens, dtype=torch.int64)
    segments, start = torch.full((tokens,), -1), 0
    for number, document in enumerate(documents):
        stop = start + len(document)
        ids[start:stop], positions[start:stop], segments[start:stop] = document, torch.arange(len(document)), number
        start = stop
    return {"input_ids": ids, "position_ids": positions, "segments": segments, "attention_mask": (segments >= 0).long()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", [*PACKING, "bert"])
def test_documents_of_a_row_are_kept_apart(kind: str, attention: str):
    model = tiny(kind, **({"sliding_window": 4} if kind in ("mistral", "gemma3_text", "cohere2") else {}))
    model.set_attn_implementation(attention)
    read_documents(model, causal=kind != "bert")
    check_packing(model)
    generator = torch.Generator().manual_seed(0)
    rows = [[torch.randint(3, 60, (n,), generator=generator) for n in lengths] for lengths in ([7, 1, 3], [5, 6])]
    made = [packed(row, 12) for row in rows]
    inputs = {key: torch.stack([row[key] for row in made]) for key in made[0]}
    before = {key: value.clone() for key, value in inputs.items()}
    with torch.no_grad():
        together = model(**inputs).logits
        for number, row in enumerate(rows):
            alone = torch.cat(
                [model(input_ids=document[None], attention_mask=torch.ones_like(document)[None]).logits[0] for document in row]
            )
            torch.testing.assert_close(together[number, : len(alone)], alone, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in inputs.items())


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama", "gemma2", "mistral", "bloom"])
def test_padding_on_the_left_is_padding_on_the_right(kind: str):
    model = tiny(kind)
    read_documents(model, causal=True)
    ids = torch.randint(3, 60, (2, 6), generator=torch.Generator().manual_seed(0))
    pad, one = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 6, dtype=torch.int64)
    with torch.no_grad():
        left = model(input_ids=torch.cat([pad, ids], 1), attention_mask=torch.cat([pad, one], 1)).logits[:, 3:]
        right = model(input_ids=torch.cat([ids, pad], 1), attention_mask=torch.cat([one, pad], 1)).logits[:, :6]
    torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_without_padding_nothing_changes():
    model = tiny("gpt2")
    ids = torch.arange(3, 12).reshape(1, 9)
    expected = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    read_documents(model, causal=True)
    assert torch.equal(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, expected)
    assert torch.equal(model(ids).logits, expected)


def test_positions_that_are_given_are_kept():
    model = tiny("gpt2")
    ids, positions = torch.arange(3, 9).reshape(1, 6), torch.arange(6)[None] + 20
    expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions).logits
    read_documents(model, causal=True)
    assert torch.equal(model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions).logits, expected)


@pytest.mark.parametrize("kind", ["opt", "roberta"])
def test_models_that_mix_documents_are_refused(kind: str):
    model = tiny(kind)
    read_documents(model, causal=kind == "opt")
    with pytest.raises(
        ModelError, match=r"does not keep the documents of a row apart: what it says of one depends on the one before\. Do not"
    ):
        check_packing(model)


def test_models_without_positions_are_refused():
    model = tiny("bloom")
    read_documents(model, causal=True)
    with pytest.raises(ModelError, match="BloomForCausalLM takes no position_ids, so several documents cannot share a row; do not pack"):
        check_packing(model)


def test_the_check_leaves_the_model_as_it_was():
    model = tiny("gpt2").train()
    model.transformer.h[0].eval()
    read_documents(model, causal=True)
    random = torch.get_rng_state()
    check_packing(model)
    assert model.training
    assert not model.transformer.h[0].training
    assert torch.equal(torch.get_rng_state(), random)
    check_packing(tiny("gpt2").to("meta"))
