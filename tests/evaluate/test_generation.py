"""Greedy answers: equal to the likeliest token of a full forward at every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.language_models import tiny
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.evaluate.generation import AT_ONCE, Draft, Manner, drafts, greedy, positions
from limbeck.models.documents import read_documents


def prompts(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 60, (length,), generator=generator) for length in lengths]


def by_hand(model: Any, prompt: Tensor, tokens: int, *, outputs: int = 61, start: int | None = None) -> list[int]:
    """Without cache, padding or generation settings."""
    written = prompt[None] if start is None else torch.tensor([[start]])
    begun = written.shape[1]
    for _ in range(tokens):
        with torch.no_grad():
            own = {"input_ids": written} if start is None else {"input_ids": prompt[None], "decoder_input_ids": written}
            token = model(**own).logits[:, -1, :outputs].argmax(1, keepdim=True)
        written = torch.cat([written, token], 1)
    return written[0, begun:].tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "bloom", "opt"])
def test_prompts_of_several_lengths_side_by_side(kind: str) -> None:
    model = tiny(kind)
    read_documents(model, causal=True)
    asked = prompts(5, 2, 7, 2)
    assert greedy(model, asked, tokens=6, ends=[]) == [by_hand(model, prompt, 6) for prompt in asked]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoders(kind: str) -> None:
    model = tiny(kind, num_decoder_layers=2)
    asked = prompts(5, 2, 7)
    assert greedy(model, asked, tokens=5, start=1) == [by_hand(model, prompt, 5, start=1) for prompt in asked]


def test_a_model_whose_own_generation_fails_is_asked_token_by_token() -> None:
    model = tiny("t5")  # its cache is made for two layers, its decoder has six
    asked = prompts(5, 2)
    assert greedy(model, asked, tokens=3, start=1) == [by_hand(model, prompt, 3, start=1) for prompt in asked]


def test_a_model_that_takes_other_inputs() -> None:
    with pytest.raises(ModelError, match="Linear cannot write answers: TypeError"):
        greedy(nn.Linear(2, 2), prompts(3), tokens=2)


def test_more_prompts_than_are_asked_at_once_keep_their_order() -> None:
    model = tiny("llama")
    asked = prompts(*(1 + (3 * i) % 5 for i in range(AT_ONCE + 3)))
    assert greedy(model, asked, tokens=3) == [by_hand(model, prompt, 3) for prompt in asked]


def test_an_end_token_ends_an_answer_and_is_left_out() -> None:
    model = tiny("llama")
    asked = prompts(4, 6)
    free = [by_hand(model, prompt, 6) for prompt in asked]
    end = free[0][2]
    wanted = [ids[: ids.index(end)] if end in ids else ids for ids in free]
    assert greedy(model, asked, tokens=6, ends=[end]) == wanted
    assert len(wanted[0]) < 6


def test_settings_of_the_model_do_not_count_and_are_left() -> None:
    model = tiny("llama").train()
    wanted = by_hand(tiny("llama"), prompts(4)[0], 8)
    own = model.generation_config
    own.repetition_penalty, own.do_sample, own.max_length, own.eos_token_id = 9.0, True, 5, wanted[1]
    assert greedy(model, prompts(4), tokens=8) == [wanted]
    assert model.generation_config is own
    assert all(part.training for part in model.modules())


def test_rows_that_only_pad_the_vocabulary_are_never_chosen() -> None:
    model = tiny("llama")
    asked = prompts(4, 3)
    assert greedy(model, asked, tokens=5, outputs=30) == [by_hand(model, prompt, 5, outputs=30) for prompt in asked]
    assert any(token >= 30 for ids in greedy(model, asked, tokens=5) for token in ids)


def test_answers_end_where_the_positions_do() -> None:
    model = tiny("gpt2")
    assert positions(model) == 64
    assert [len(ids) for ids in greedy(model, prompts(60), tokens=9)] == [4]
    assert positions(tiny("t5")) is None


class Next(nn.Module):
    """Says the token after the last one, and what it was given."""

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.plain, self.offset = plain, nn.Parameter(torch.ones(1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor | None = None) -> Any:
        assert bool(attention_mask.all())
        ids = input_ids if decoder_input_ids is None else decoder_input_ids + input_ids[:, :1]
        logits = nn.functional.one_hot((ids + int(self.offset)) % 10, 12).float()
        logits[..., 11] = 0.5 if self.plain else 3.0
        return logits if self.plain else {"logits": logits}


def test_models_of_ones_own() -> None:
    asked = [torch.tensor([1, 2]), torch.tensor([7])]
    assert positions(Next(plain=True)) is None
    assert greedy(Next(plain=True), asked, tokens=4, ends=[9]) == [[3, 4, 5, 6], [8]]
    assert greedy(Next(plain=False), asked, tokens=2, outputs=11) == [[3, 4], [8, 9]]
    assert greedy(Next(plain=False), asked[:1], tokens=2, outputs=11, start=4) == [[6, 8]]


class Plain(nn.Module):
    """A model of transformers as one that is called anew for every token."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask).logits


def sampled(model: nn.Module, asked: list[Tensor], **manner: Any) -> list[list[int]]:
    return [draft.ids for draft in drafts(model, asked, Manner(**manner))]


@pytest.mark.parametrize("plain", [False, True], ids=["transformers", "plain"])
def test_only_the_likeliest_tokens_are_drawn_from(plain: bool) -> None:
    model = tiny("llama")
    likely = model(prompts(4)[0][None]).logits[0, -1, :30].topk(3).indices.tolist()
    asked, writer = prompts(4) * 60, Plain(model) if plain else model
    drawn = [ids[0] for ids in sampled(writer, asked, tokens=1, temperature=5.0, top_k=3, outputs=30)]
    assert set(drawn) == set(likely)
    assert len({ids[0] for ids in sampled(writer, asked, tokens=1, temperature=5.0, outputs=30)}) > 10
    first = sampled(writer, asked[:4], tokens=3, temperature=5.0, top_k=3, seed=7)
    assert first == sampled(writer, asked[:4], tokens=3, temperature=5.0, top_k=3, seed=7)
    assert first != sampled(writer, asked[:4], tokens=3, temperature=5.0, top_k=3, seed=8)
    assert sampled(writer, asked[:2], tokens=3, temperature=5.0, top_k=1) == greedy(model, asked[:2], tokens=3)
    assert len({ids[0] for ids in sampled(writer, asked, tokens=1, temperature=5.0, top_k=1000, outputs=30)}) > 10


def test_tokens_as_likely_as_the_last_of_the_likeliest_are_drawn_too() -> None:
    asked = [torch.tensor([2])] * 200  # token 3 has the logit 1, token 11 has 0.5, all others 0
    assert {ids[0] for ids in sampled(Next(plain=True), asked, tokens=1, top_k=2)} == {3, 11}
    assert {ids[0] for ids in sampled(Next(plain=True), asked, tokens=1, top_k=3)} == set(range(12))


def test_whether_an_answer_came_to_its_end() -> None:
    asked = [torch.tensor([1, 2]), torch.tensor([7])]
    found = drafts(Next(plain=True), asked, Manner(4, temperature=0.0, ends=[9]))
    assert found == [Draft([3, 4, 5, 6], ended=False), Draft([8], ended=True)]
