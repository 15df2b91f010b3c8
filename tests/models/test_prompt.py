"""Soft prompts: what they change, what learns, where they begin, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.language_models import tiny
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.evaluate.generation import greedy, positions
from limbeck.models.base import BuiltModel, ModelRequest
from limbeck.models.build import build_model
from limbeck.models.documents import check_packing
from limbeck.models.lora import Lora, without_adapters
from limbeck.models.prompt import Prompt, begin_behind, has_prompt, load_prompt, prompt_names, write_prompt
from limbeck.ops.soft_prompt import SoftPrompt, prompt_length
from limbeck.types import DataInfo

INFO = DataInfo("text", "class", 3, (16,))
BERT = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
LLAMA = {**BERT, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0}
IDS = torch.arange(3, 21).view(2, 9)
MASK = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
NAME = "bert.soft_prompt.weight"


def built(prompt: Prompt | None, **changes: Any) -> BuiltModel:
    """A BERT with a prompt, the same at every call."""
    torch.manual_seed(0)
    wanted: dict[str, Any] = {"model": "hf:bert", "args": BERT, "prompt": prompt, **changes}
    return build_model(ModelRequest(**wanted), INFO)


def logits(module: Any, ids: Tensor = IDS, mask: Tensor | None = MASK) -> Tensor:
    with torch.no_grad():
        return module.eval()(input_ids=ids, attention_mask=mask).logits


def test_keys_and_values_by_hand():
    prompt = SoftPrompt(2, layers=2, heads=1, width=3)
    assert prompt.weight.shape == (2, 12)
    with torch.no_grad():
        prompt.weight.copy_(torch.arange(24.0).view(2, 12))
    pairs = prompt.pairs(2)
    assert [(tuple(k.shape), tuple(v.shape)) for k, v in pairs] == [((2, 1, 2, 3), (2, 1, 2, 3))] * 2
    assert pairs[0][0][1].tolist() == [[[0, 1, 2], [12, 13, 14]]]
    assert pairs[0][1][0].tolist() == [[[3, 4, 5], [15, 16, 17]]]
    assert pairs[1][0][0].tolist() == [[[6, 7, 8], [18, 19, 20]]]
    assert pairs[1][1][1].tolist() == [[[9, 10, 11], [21, 22, 23]]]


def test_two_heads_divide_a_key():
    prompt = SoftPrompt(1, layers=1, heads=2, width=2)
    with torch.no_grad():
        prompt.weight.copy_(torch.arange(8.0)[None])
    keys, values = prompt.pairs(1)[0]
    assert keys.tolist() == [[[[0, 1]], [[2, 3]]]]
    assert values.tolist() == [[[[4, 5]], [[6, 7]]]]


def test_spread_and_dropout():
    torch.manual_seed(0)
    assert SoftPrompt(50, 2, 2, 16, spread=0.5).weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert SoftPrompt(50, 2, 2, 16).weight.std().item() == pytest.approx(1, rel=0.05)
    assert not SoftPrompt(3, 1, 1, 2, spread=0.0).weight.any()
    half = SoftPrompt(50, 1, 1, 20, dropout=0.5)
    values = half.pairs(1)[0][0]
    assert (values == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    kept = values != 0
    own = half.eval().pairs(1)[0][0]
    torch.testing.assert_close(values[kept], 2 * own[kept])
    assert bool((own != 0).all())


def test_attention_sees_the_prompt_by_hand():
    """One layer, one head: the formula on what the layer computes of its own."""
    args = {**BERT, "num_hidden_layers": 1, "num_attention_heads": 1}
    own = built(Prompt(length=3), args=args).module.eval()
    body: Any = own.get_submodule("bert")
    attention: Any = body.encoder.layer[0].attention.self
    found: dict[str, Tensor] = {}
    attention.register_forward_hook(lambda m, given, said: found.update(states=given[0], said=said[0]))
    logits(own, IDS[:1], None)
    q, k, v = (layer(found["states"])[0] for layer in (attention.query, attention.key, attention.value))
    weight = dict(own.named_parameters())[NAME].view(3, 2, 16)
    keys, values = torch.cat([weight[:, 0], k]), torch.cat([weight[:, 1], v])
    expected = (q @ keys.T / math.sqrt(16)).softmax(1) @ values
    torch.testing.assert_close(found["said"][0], expected)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_it_answers_as_peft(kind: str, tmp_path: Path):
    from peft import PeftModel, PrefixTuningConfig, get_peft_model

    args: dict[str, Any] = {"bert": BERT, "llama": LLAMA}.get(
        kind, {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 61, "pad_token_id": 0}
    )
    own = built(Prompt(length=4), model=f"hf:{kind}", args=args).module.eval()
    torch.manual_seed(0)
    plain = build_model(ModelRequest(f"hf:{kind}", args=args), INFO).module.eval()
    plain.load_state_dict({name: value for name, value in own.state_dict().items() if "soft_prompt" not in name})
    theirs: Any = get_peft_model(plain, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)).eval()  # pyright: ignore
    weight = next(value for name, value in own.named_parameters() if "soft_prompt" in name)
    shape = theirs.prompt_encoder["default"].embedding.weight.shape
    assert weight.shape == shape
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(weight)
        expected = theirs(input_ids=IDS, attention_mask=MASK).logits
    assert (expected - logits(plain)).abs().max() > 1e-3
    torch.testing.assert_close(logits(own), expected)

    write_prompt(own, tmp_path / "prompt", "SEQ_CLS")
    base = copy.deepcopy(own)
    torch.manual_seed(0)
    again = build_model(ModelRequest(f"hf:{kind}", args=args), INFO).module.eval()
    again.load_state_dict({name: value for name, value in base.state_dict().items() if "soft_prompt" not in name})
    loaded: Any = PeftModel.from_pretrained(again, tmp_path / "prompt").eval()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=IDS, attention_mask=MASK).logits, expected)


def test_padding_changes_nothing():
    own = built(Prompt(length=4)).module
    torch.testing.assert_close(logits(own)[1:], logits(own, IDS[1:, :6], None))


def test_what_learns():
    own = built(Prompt(length=4))
    learn = {name for name, value in own.module.named_parameters() if value.requires_grad}
    assert learn == {NAME, "classifier.weight", "classifier.bias"}
    assert own.frozen == {name for name, _ in own.module.named_parameters()} - learn
    without = built(Prompt(length=4, head=False))
    assert {name for name, value in without.module.named_parameters() if value.requires_grad} == {NAME}
    assert prompt_names(own.module) == [NAME]
    assert prompt_length(own.module) == 4
    assert has_prompt(own.module)
    assert not has_prompt(built(None).module)
    own.module.train()(input_ids=IDS, attention_mask=MASK).logits.square().sum().backward()
    assert all((value.grad is not None) == (name in learn) for name, value in own.module.named_parameters())
    assert bool((dict(own.module.named_parameters())[NAME].grad.abs().sum(1) > 0).all())  # pyright: ignore


def test_layers_and_class_stay():
    plain, own = built(None).module, built(Prompt(length=4)).module
    assert type(plain) is type(own)
    assert own.state_dict().keys() - plain.state_dict().keys() == {NAME}
    shapes: list[tuple[int, ...]] = []
    own.get_submodule("bert.encoder.layer.1").register_forward_hook(lambda m, given, said: shapes.append(tuple(said.shape)))
    logits(own)
    assert shapes == [(2, 9, 16)]


def test_without_its_prompt_it_is_what_it_was():
    plain, own = built(None), built(Prompt(length=4, head=False))
    own.module.load_state_dict(plain.module.state_dict(), strict=False)
    learnt = logits(own.module)
    assert not torch.equal(learnt, logits(plain.module))
    with without_adapters(own.module, own.frozen):
        assert torch.equal(logits(own.module), logits(plain.module))
    assert torch.equal(logits(own.module), learnt)
    with pytest.raises(ZeroDivisionError), without_adapters(own.module, own.frozen):
        _ = 1 / 0
    assert torch.equal(logits(own.module), learnt)
    both = built(Prompt(length=4))
    with (
        pytest.raises(ModelError, match=r"the student's head learns, too \(classifier\.weight\), .*; prompt: \{head: false\} leaves the"),
        without_adapters(both.module, both.frozen),
    ):
        pass


def test_copies_have_prompts_of_their_own():
    own = built(Prompt(length=4)).module
    other, before = copy.deepcopy(own), logits(own)
    with torch.no_grad():
        dict(own.named_parameters())[NAME].zero_()
    assert torch.equal(logits(other), before)
    assert not torch.equal(logits(own), before)


def weights_of(tmp_path: Path, module: nn.Module) -> Path:
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_weights_with_and_without_a_prompt(tmp_path: Path):
    torch.manual_seed(7)
    first = built(Prompt(length=4)).module
    with torch.no_grad():
        for value in first.parameters():
            value.add_(torch.randn_like(value), alpha=0.1)
    file = weights_of(tmp_path, first)
    again = built(Prompt(length=4), weights=str(file)).module
    assert torch.equal(logits(again), logits(first))
    message = rf"{file}: these weights go with a prompt of 4 tokens; give hf:bert one: prompt: 4\."
    with pytest.raises(ModelError, match=message):
        built(None, weights=str(file))
    with pytest.raises(ModelError, match=r"the prompt in .* has 4 tokens of 64 values, that of this model 3 of 64; both need the same"):
        built(Prompt(length=3), weights=str(file))
    save_file({name: value for name, value in first.state_dict().items() if name != NAME}, tmp_path / "plain.safetensors")
    fresh = built(Prompt(length=4), weights=str(tmp_path / "plain.safetensors")).module.state_dict()
    assert torch.equal(fresh["bert.embeddings.word_embeddings.weight"], first.state_dict()["bert.embeddings.word_embeddings.weight"])
    assert not torch.equal(fresh[NAME], first.state_dict()[NAME])


def test_the_prompt_alone_of_a_run(tmp_path: Path):
    """The prompt of a task of other classes, without its classifier."""
    torch.manual_seed(7)
    info = DataInfo("text", "class", 5, (16,))
    source = build_model(ModelRequest("hf:bert", args=BERT, prompt=Prompt(length=4)), info).module
    file = weights_of(tmp_path, source)
    own, plain = built(Prompt(length=4, weights=str(file))).module.state_dict(), built(Prompt(length=4)).module.state_dict()
    assert torch.equal(own[NAME], source.state_dict()[NAME])
    assert all(torch.equal(own[name], plain[name]) for name in plain if name != NAME)
    save_file({"other": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match=rf"{file} holds no prompt; expected the weights of a model that was trained with `prompt`\."):
        built(Prompt(length=4, weights=str(file)))
    with torch.device("meta"):
        build_model(ModelRequest("hf:bert", args=BERT, prompt=Prompt(length=4, weights=str(file))), INFO, load=False)


def test_to_begin_as_another_but_for_its_head():
    source, own = built(Prompt(length=4)).module, built(Prompt(length=4)).module
    with torch.no_grad():
        for value in source.parameters():
            value.add_(1)
    head = {name: value.clone() for name, value in own.state_dict().items() if name.startswith("classifier")}
    begin_behind(own, source.state_dict(), "the model 'source'")
    for name, value in own.state_dict().items():
        assert torch.equal(value, head[name] if name in head else source.state_dict()[name])
    trunk = built(None).module
    with torch.no_grad():
        for value in trunk.parameters():
            value.sub_(1)
    begin_behind(own, trunk.state_dict(), "the model 'trunk'")
    assert torch.equal(own.state_dict()[NAME], source.state_dict()[NAME])
    assert torch.equal(own.state_dict()["bert.pooler.dense.weight"], trunk.state_dict()["bert.pooler.dense.weight"])
    assert torch.equal(own.state_dict()["classifier.weight"], head["classifier.weight"])
    other = built(None, args={**BERT, "intermediate_size": 20}).module
    message = r"the model 'x' has no bert\.encoder\.layer\.0\.intermediate\.dense\.weight of shape \(24, 16\), as the model with the prompt"
    with pytest.raises(ModelError, match=message):
        begin_behind(own, other.state_dict(), "the model 'x'")
    with pytest.raises(ModelError, match="this has none holds no prompt"):
        load_prompt(own, {}, "this has none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "hf:distilbert", "args": {"dim": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 61}},
            r"hf:distilbert: DistilBertModel takes no keys and values beside its own, so it can have no prompt\. BERT, RoBERTa, ELECTRA, "
            r"GPT-2, Llama and the like do; `lora` is for every model\.",
        ),
        ({"gradient_checkpointing": True}, "hf:bert: with gradient_checkpointing layers would not see the prompt; choose one of the two"),
        (
            {"args": {**BERT, "max_position_embeddings": 19}},
            r"hf:bert has 19 positions: too few for texts of 16 tokens behind a prompt of 4\. Shorten the texts \(data\.max_length: 15\)",
        ),
        ({"lora": Lora()}, "hf:bert: lora and prompt both leave the weights as they are; choose one of them"),
        (
            {"model": "hf:gemma2", "args": {**LLAMA, "layer_types": ["sliding_attention", "full_attention"]}},
            "hf:gemma2: not all of its layers attend to the whole text, so a prompt would be out of sight for some",
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ModelError, match=message):
        built(Prompt(length=4), **changes)


def test_as_many_positions_as_are_needed():
    assert logits(built(Prompt(length=4)).module, torch.arange(16)[None], None).shape == (1, 3)


def test_it_is_for_texts_and_transformers():
    with pytest.raises(ModelError, match=r"mlp: prompt is for models of texts; the data is tabular\."):
        build_model(ModelRequest("mlp", prompt=Prompt()), DataInfo("tabular", "class", 3, (4,)))


@pytest.mark.parametrize(("precision", "kind"), [("autocast", torch.float32), ("bf16", torch.bfloat16)])
def test_half_precision(precision: str, kind: torch.dtype):
    own = built(Prompt(length=4), dtype="bf16" if precision == "bf16" else "fp32").module
    assert dict(own.named_parameters())[NAME].dtype == torch.float32
    assert own.get_submodule("classifier").weight.dtype == kind
    expected = logits(built(Prompt(length=4)).module)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        found = logits(own)
    assert (found.float() - expected).abs().max() < 0.05


def test_on_the_meta_device():
    with torch.device("meta"):
        own = build_model(ModelRequest("hf:bert", args=BERT, prompt=Prompt(length=4)), INFO, load=False)
    assert {value.device.type for value in own.module.parameters()} == {"meta"}
    assert own.frozen == built(Prompt(length=4)).frozen
    assert own.module(input_ids=IDS.to("meta")).logits.shape == (2, 3)


def language_model(kind: str, tmp_path: Path, language: Any) -> nn.Module:
    tiny(kind).save_pretrained(tmp_path / kind)
    info = DataInfo("text", "token", 61, (16,), language=language)
    torch.manual_seed(3)
    return build_model(ModelRequest(f"hf:{tmp_path / kind}", "pretrained", prompt=Prompt(length=4)), info).module.eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_language_model_writes_behind_its_prompt(kind: str, tmp_path: Path):
    """With a cache it writes what it writes without one, whatever the padding."""
    own: Any = language_model(kind, tmp_path, "causal_lm")
    prompts = [torch.tensor([5, 6, 7, 8]), torch.tensor([9, 10])]
    found = greedy(own, prompts, tokens=6)
    for prompt, said in zip(prompts, found, strict=True):
        ids = prompt[None]
        with torch.no_grad():
            for token in said:
                assert own(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax().item() == token
                ids = torch.cat([ids, torch.tensor([[token]])], 1)
    with torch.no_grad():
        dict(own.named_parameters())[prompt_names(own)[0]].mul_(3)
    assert greedy(own, prompts, tokens=6) != found
    assert positions(own) == 60


def test_packed_rows(tmp_path: Path):
    """Masked models read several documents in a row behind one prompt, causal ones do not."""
    check_packing(language_model("bert", tmp_path, "masked_lm"))
    with pytest.raises(ModelError, match=r"LlamaModel with a prompt cannot read several documents in one row, .*: leave data.pack out\."):
        check_packing(language_model("llama", tmp_path, "causal_lm"))


def test_the_file_of_peft(tmp_path: Path):
    own = built(Prompt(length=4)).module
    write_prompt(own, tmp_path, "TOKEN_CLS")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["task_type"] == "TOKEN_CLS"
    assert (settings["num_virtual_tokens"], settings["num_layers"], settings["num_attention_heads"], settings["token_dim"]) == (4, 2, 2, 16)
    written = load_file(tmp_path / "adapter_model.safetensors")
    assert written.keys() == {"prompt_embeddings", "base_model.classifier.weight", "base_model.classifier.bias"}
    assert torch.equal(written["prompt_embeddings"], own.state_dict()[NAME])
