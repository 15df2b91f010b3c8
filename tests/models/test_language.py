"""The head of a language model: hidden states and projection give the model's own logits, for every architecture."""

from __future__ import annotations

import pytest
import torch
from tests.language_models import GPT2, KINDS, inputs, tiny
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.models.language import LanguageHead, language_head
from limbeck.ops.projection import narrowed

transformers = pytest.importorskip("transformers")


def logits_by(head: LanguageHead, hidden: Tensor) -> Tensor:
    """What the projection makes of hidden states, by its definition."""
    p = head.projection()
    raw = hidden @ p.weight.T + (0 if p.bias is None else p.bias)
    return raw * p.scale if p.cap is None else p.cap * torch.tanh(raw * p.scale / p.cap)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_hidden_states_and_projection_give_the_logits_of_the_model(kind: str):
    model = tiny(kind)
    head = language_head(model)
    with torch.no_grad():
        expected = model(**inputs(model)).logits
        with head.catching() as caught:
            output = model(**inputs(model))
    assert output.logits.shape == (2, 0, expected.shape[2])
    torch.testing.assert_close(logits_by(head, caught.hidden), expected, atol=1e-5, rtol=1e-5)


def test_what_is_done_to_the_logits_is_found():
    assert [(h.scale, h.cap) for h in map(language_head, [tiny("gemma2"), tiny("cohere"), tiny("granite"), tiny("llama")])] == [
        (1.0, 30.0),
        (0.25, None),
        (0.125, None),
        (1.0, None),
    ]


def test_a_cap_is_found_in_weights_whose_own_logits_are_far_below_it():
    model = tiny("gemma2")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e-3)
    assert language_head(model).cap == 30.0


def test_half_precision_is_told_apart_too():
    for kind, expected in (("gemma2", (1.0, 30.0)), ("granite", (0.125, None)), ("gpt2", (1.0, None))):
        head = language_head(tiny(kind).to(torch.bfloat16))
        assert (head.scale, head.cap) == expected


def test_rows_that_only_pad_the_vocabulary_are_left_out_without_a_copy():
    model = tiny("bert")
    cut = narrowed(language_head(model).projection(), 50)
    assert cut.weight.shape == (50, 32)
    assert cut.weight.untyped_storage().data_ptr() == model.get_output_embeddings().weight.untyped_storage().data_ptr()


def test_the_gradient_is_that_of_the_logits():
    model = tiny("gpt2")
    head = language_head(model)
    model(**inputs(model)).logits.square().sum().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with head.catching() as caught:
        model(**inputs(model))
    logits_by(head, caught.hidden).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-4, rtol=1e-4)


def test_proving_leaves_the_model_as_it_was():
    model = tiny("gpt2").train()
    model.transformer.h[0].eval()
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    language_head(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert not model.transformer.h[0].training
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_the_hook_is_gone_after_an_error():
    model = tiny("gpt2")
    head = language_head(model)
    with pytest.raises(RuntimeError, match="mine"), head.catching():
        raise RuntimeError("mine")
    assert not head.layer._forward_pre_hooks
    assert model(**inputs(model)).logits.shape == (2, 7, 61)


def test_nothing_caught_is_an_error():
    with language_head(tiny("gpt2")).catching() as caught:
        pass
    with pytest.raises(ModelError, match="ran 0 times in one forward; once was expected"):
        _ = caught.hidden


def test_on_the_meta_device_nothing_is_proved():
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2))
    assert language_head(model).projection().weight.shape == (61, 32)


class Own(nn.Module):
    """A language model that is not of transformers."""

    def __init__(self, twist: bool) -> None:
        super().__init__()
        self.embedding, self.head, self.twist = nn.Embedding(11, 6), nn.Linear(6, 11), twist

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits of every token."""
        logits = self.head(self.embedding(input_ids))
        return logits.abs() if self.twist else logits


def test_a_module_of_ones_own():
    model = Own(twist=False)
    head = language_head(model)
    assert head.layer is model.head
    with head.catching() as caught:
        assert model(torch.tensor([[1, 2, 3]])).shape == (1, 0, 11)
    assert torch.equal(logits_by(head, caught.hidden), model(torch.tensor([[1, 2, 3]])))


def test_logits_that_are_made_in_another_way_are_refused():
    with pytest.raises(ModelError, match="Own makes its logits from the last hidden states in a way that is not known"):
        language_head(Own(twist=True))


def test_models_without_a_head():
    with pytest.raises(ModelError, match="GPT2Model has no layer where a linear layer was expected"):
        language_head(transformers.GPT2Model(transformers.GPT2Config(**GPT2)))
    with pytest.raises(ModelError, match="Sequential has no layer where a linear layer was expected"):
        language_head(nn.Sequential(nn.Embedding(3, 4)))
    with pytest.raises(ModelError, match="Linear cannot be run on two tokens: TypeError"):
        language_head(nn.Linear(3, 4))
