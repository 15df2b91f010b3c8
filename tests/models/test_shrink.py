"""Smaller models made from larger ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.language_models import inputs, tiny
from torch import nn

from limbeck.errors import ModelError
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.models.shrink import Shrink, chosen, influences, layer_stacks, shrink
from limbeck.types import DataInfo

transformers = pytest.importorskip("transformers")
INFO = DataInfo("text", "token", 61, (16,), language="causal_lm")


def picks(how: Shrink, total: int, values: tuple[float, ...] = ()) -> list[int]:
    """The layers that a rule keeps."""
    return chosen(how, total, "m", lambda: list(values))


def test_rules_by_hand():
    assert picks(Shrink("even"), 5) == [0, 2, 4]
    assert picks(Shrink("odd"), 5) == [1, 3]
    assert picks(Shrink("first"), 5) == [0, 1]
    assert picks(Shrink("last", 3), 5) == [2, 3, 4]
    assert picks(Shrink("uniform", 4), 12) == [0, 4, 7, 11]
    assert picks(Shrink("uniform", 1), 3) == [0]
    assert picks(Shrink("importance", 2), 4, (0.1, 0.5, 0.2, 0.4)) == [1, 3]
    assert picks(Shrink(keep=(3, 0)), 4) == [0, 3]
    assert picks(Shrink("first"), 1) == [0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Shrink("first", 5), "m: 5 layers cannot be kept of 4"),
        (Shrink("even", 2), "m: shrink.layers even says itself how many are kept; leave count out, or use uniform"),
        (Shrink(keep=(1, 4)), r"m: shrink.keep \[1, 4\] are not all among its layers 0 to 3"),
        (Shrink("even", keep=(1,)), "m: shrink.keep names the layers, so layers and count have nothing to say"),
    ],
)
def test_rules_that_cannot_be(how: Shrink, message: str):
    with pytest.raises(ModelError, match=message):
        picks(how, 4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", "bert", "distilbert", "gemma2", "phi3"])
def test_kept_layers_are_those_of_the_larger_model(kind: str):
    model = tiny(kind)
    smaller, changes = shrink(model, Shrink(keep=(1,)), kind)
    ((path, (field, layers)),) = layer_stacks(model).items()
    assert changes[field] == 1
    own = dict(smaller.named_parameters())
    assert own.keys() < dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        if name.startswith(f"{path}.1."):
            assert torch.equal(own[name.replace(f"{path}.1.", f"{path}.0.")], parameter)
        elif not name.startswith(f"{path}."):
            assert torch.equal(own[name], parameter)
    assert not {p.data_ptr() for p in smaller.parameters()} & {p.data_ptr() for p in model.parameters()}
    layers[0] = nn.Identity()  # what is left of the larger model is the smaller one
    with torch.no_grad():
        assert smaller(**inputs(model)).logits.shape == (2, 7, 61)


def test_a_layer_that_does_nothing_can_go():
    model = tiny("llama", num_hidden_layers=3)
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    batch = inputs(model)
    values = influences(model, "model.layers", lambda: [batch])
    assert abs(values[1]) < 1e-6
    assert min(values[0], values[2]) > 1e-3
    smaller, _ = shrink(model, Shrink("importance", 2), "m", lambda: [batch])
    with torch.no_grad():
        torch.testing.assert_close(smaller(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-5)


def test_influence_by_hand_and_without_padding():
    model = tiny("gpt2").train()
    batch = inputs(model)
    states = model.eval()(**batch, output_hidden_states=True).hidden_states
    expected = (1 - torch.nn.functional.cosine_similarity(states[0], states[1], dim=-1)).mean().item()
    found = influences(model.train(), "transformer.h", lambda: [batch, batch])
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert model.training
    padded = {key: torch.cat([value, torch.zeros_like(value)[:, :3]], 1) for key, value in batch.items()}
    assert influences(model, "transformer.h", lambda: [padded])[0] == pytest.approx(expected, rel=1e-5)


def test_encoder_decoders_lose_layers_of_both_and_keep_the_positions_of_the_first():
    model = tiny("t5")
    smaller, changes = shrink(model, Shrink(keep=(1,)), "t5")
    assert changes == {"num_layers": 1, "num_decoder_layers": 1}
    mine: Any = smaller
    first = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(mine.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight, first)
    assert torch.equal(mine.encoder.block[0].layer[0].SelfAttention.q.weight, model.encoder.block[1].layer[0].SelfAttention.q.weight)
    assert shrink(tiny("bart"), Shrink("first"), "bart")[1] == {"encoder_layers": 1, "decoder_layers": 1}


def test_entries_of_the_configuration_that_are_per_layer_follow():
    smaller: Any
    smaller, changes = shrink(tiny("gemma2"), Shrink(keep=(1,)), "m")
    assert changes == {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    assert smaller.config.layer_types == ["full_attention"]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "phi3", "gemma2"])
def test_units_without_weights_can_go(kind: str):
    model = tiny(kind)
    name = {"gpt2": "c_proj", "bert": "output.dense", "phi3": "down_proj"}.get(kind, "down_proj")
    with torch.no_grad():  # half the units are neither read nor written
        for path, part in model.named_modules():
            if path.endswith(name) and ("mlp" in path or (kind == "bert" and "attention" not in path)):
                weight = part.weight if kind == "gpt2" else part.weight.T
                weight[::2] = 0
            elif path.endswith(("gate_proj", "up_proj", "intermediate.dense")):
                part.weight[::2] = 0
                if part.bias is not None:
                    part.bias[::2] = 0
            elif path.endswith("gate_up_proj"):
                part.weight[::2] = 0
            elif path.endswith("c_fc"):
                part.weight[:, ::2] = 0
                part.bias[::2] = 0
    half = model.config.hidden_size * 2 if kind == "gpt2" else 24
    smaller, changes = shrink(model, Shrink(intermediate=half), kind)
    assert list(changes.values()) == [half]
    with torch.no_grad():
        torch.testing.assert_close(smaller(**inputs(model)).logits, model(**inputs(model)).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma"])
def test_heads_without_weights_can_go(kind: str):
    model = tiny(kind)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight[:16] = 0
            layer.self_attn.k_proj.weight[:8] = 0
            layer.self_attn.v_proj.weight[:8] = 0
            layer.self_attn.o_proj.weight[:, :16] = 0
    smaller, changes = shrink(model, Shrink(heads=2), kind)
    assert changes == {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    with torch.no_grad():
        torch.testing.assert_close(smaller(**inputs(model)).logits, model(**inputs(model)).logits, atol=1e-5, rtol=1e-4)


def test_channels_without_weights_go():
    model = tiny("llama")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter[1::2] = 0
            else:
                parameter[:, 1::2] = 0
    smaller, changes = shrink(model, Shrink(hidden=16), "m")
    assert changes == {"hidden_size": 16, "head_dim": 8}
    mine: Any = smaller
    assert torch.equal(mine.model.embed_tokens.weight, model.model.embed_tokens.weight[:, ::2])
    assert torch.equal(mine.model.layers[1].mlp.down_proj.weight, model.model.layers[1].mlp.down_proj.weight[::2])


def test_what_cannot_be_cut():
    for kind, how, message in [
        ("albert", Shrink("first"), "AlbertForMaskedLM has no list of equal layers to choose from"),
        ("bert", Shrink(hidden=16), "shrink.hidden is for models whose configuration has a head_dim of its own"),
        ("bert", Shrink(heads=2), "shrink.heads is for models whose configuration has a head_dim of its own"),
        ("bart", Shrink(intermediate=8), "the size of its feed-forward layers is not known"),
        ("llama", Shrink(intermediate=49), "49 units cannot be kept of 48"),
        ("llama", Shrink(hidden=33), "33 channels cannot be kept of 32"),
        ("llama", Shrink(heads=5), "5 heads cannot be kept of 4"),
        ("llama", Shrink(heads=3), "4 heads share 2 keys and values; keep a multiple of 2, not 3"),
    ]:
        with pytest.raises(ModelError, match=f"x: .*{message}"):
            shrink(tiny(kind), how, "x")
    with pytest.raises(ModelError, match="x: only models of transformers can be shrunk"):
        shrink(nn.Linear(2, 3), Shrink("first"), "x")


def test_a_shrunk_model_is_built_again_from_its_request(tmp_path: Path):
    tiny("gemma2").save_pretrained(tmp_path)
    request = ModelRequest(f"hf:{tmp_path}", "pretrained", shrink=Shrink("last", intermediate=24), gradient_checkpointing=True)
    built = build_model(request, INFO)
    module: Any = built.module
    assert built.request.shrink is None
    assert built.request.args == {"num_hidden_layers": 1, "layer_types": ["full_attention"], "intermediate_size": 24}
    assert module.training
    assert module.is_gradient_checkpointing
    assert len(module._forward_pre_hooks) == 1
    again = build_model(replace(built.request, weights=None, gradient_checkpointing=False), INFO).module
    again.load_state_dict(module.state_dict())
    ids = torch.arange(3, 9)[None]
    assert torch.equal(again.eval()(input_ids=ids).logits, module.eval()(input_ids=ids).logits)
    with torch.device("meta"):
        sketch = build_model(request, INFO, load=False)
    assert sketch.request.args == built.request.args
    assert {n: p.shape for n, p in sketch.module.named_parameters()} == {n: p.shape for n, p in module.named_parameters()}
