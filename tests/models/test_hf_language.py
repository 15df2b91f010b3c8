"""`hf:` models for what is predicted of texts: heads, types of weights, what the backward pass keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from tests.language_models import tiny

from limbeck.errors import ModelError
from limbeck.models.base import ModelRequest
from limbeck.models.build import build_model
from limbeck.types import DataInfo, LanguageKind

transformers = pytest.importorskip("transformers")


def built(request: ModelRequest, info: DataInfo) -> Any:
    """The module of a request."""
    return build_model(request, info).module


INFO = DataInfo("text", "token", 61, (16,), language="causal_lm")
SMALL = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("kind", "args", "language", "cls"),
    [
        ("gpt2", SMALL, "causal_lm", "GPT2LMHeadModel"),
        ("bert", BERT, "masked_lm", "BertForMaskedLM"),
        ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}, "seq2seq_lm", "T5ForConditionalGeneration"),
        ("bert", BERT, "token_classification", "BertForTokenClassification"),
        ("bert", BERT, "span_extraction", "BertForQuestionAnswering"),
        ("bert", BERT, None, "BertForSequenceClassification"),
    ],
)
def test_the_head_is_that_of_the_data(kind: str, args: dict[str, object], language: LanguageKind | None, cls: str):
    info = replace(INFO, language=language, num_outputs=5 if language in (None, "token_classification") else 61)
    module: Any = build_model(ModelRequest(f"hf:{kind}", args=args), info, load=False).module
    assert type(module).__name__ == cls
    assert next(module.parameters()).dtype == torch.float32
    if info.num_outputs == 5:
        assert module.config.num_labels == 5
    elif language == "span_extraction":
        assert module.config.num_labels == 2
    else:
        assert module.get_input_embeddings().num_embeddings == 61
        assert module.config.use_cache is False


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "phi3"])
def test_what_follows_from_the_arguments_is_what_transformers_make_of_them(kind: str):
    """Such as the size of an attention head, which is that of the width and not that of the kind's own defaults."""
    args = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    if kind == "phi3":
        args |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    own = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **args, vocab_size=61))
    module = built(ModelRequest(f"hf:{kind}", args=args), INFO)
    assert [(name, value.shape) for name, value in module.named_parameters()] == [
        (name, value.shape) for name, value in own.named_parameters()
    ]


def test_special_tokens_beyond_the_vocabulary_are_none():
    config = built(ModelRequest("hf:gpt2", args={"n_embd": 32, "n_layer": 1, "n_head": 4, "bos_token_id": 3}), INFO).config
    assert (config.bos_token_id, config.eos_token_id) == (3, None)


def test_arguments_that_the_configuration_refuses():
    args = {"hidden_size": 30, "num_attention_heads": 4}
    with pytest.raises(ModelError, match=r"^hf:llama: The hidden size \(30\) is not a multiple of the number of attention heads \(4\)\.$"):
        build_model(ModelRequest("hf:llama", args=args), INFO)


def test_the_vocabulary_of_a_random_model_may_be_said():
    args = {**SMALL, "vocab_size": 64}
    assert built(ModelRequest("hf:gpt2", args=args), INFO).get_input_embeddings().num_embeddings == 64


def test_kinds_without_such_a_head():
    with pytest.raises(ModelError, match=r"hf:t5 \(t5\) is no language model that predicts the next token; transformers has none of that"):
        build_model(ModelRequest("hf:t5"), INFO)
    with pytest.raises(ModelError, match=r"hf:gpt2 \(gpt2\) is no language model that predicts masked tokens"):
        build_model(ModelRequest("hf:gpt2"), replace(INFO, language="masked_lm"))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A saved GPT-2 in bf16."""
    tiny("gpt2").to(torch.bfloat16).save_pretrained(tmp_path)
    return f"hf:{tmp_path}"


@pytest.mark.parametrize(
    ("dtype", "found"), [("auto", torch.bfloat16), ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_type_of_the_weights(folder: str, dtype: Literal["auto", "fp32", "bf16", "fp16"], found: torch.dtype):
    module = built(ModelRequest(folder, "pretrained", dtype=dtype), INFO)
    assert {parameter.dtype for parameter in module.parameters()} == {found}
    torch.testing.assert_close(module.lm_head.weight.float(), tiny("gpt2").lm_head.weight, atol=1e-2, rtol=1e-2)


def test_a_random_model_of_a_bf16_folder_is_fp32(folder: str):
    assert built(ModelRequest(folder), INFO).lm_head.weight.dtype == torch.float32


def test_half_precision_is_for_texts():
    with pytest.raises(ModelError, match="mlp: dtype bf16 is for models of texts; use precision for those of tabular data"):
        build_model(ModelRequest("mlp", dtype="bf16"), DataInfo("tabular", "class", 3, (4,)))


def test_a_file_without_the_head_is_refused(tmp_path: Path):
    tiny("bert").bert.save_pretrained(tmp_path)
    request = ModelRequest(f"hf:{tmp_path}", "pretrained")
    with pytest.raises(ModelError, match=r"is no whole language model that predicts masked tokens: its file lacks cls\.predictions"):
        build_model(request, replace(INFO, language="masked_lm"))
    info = replace(INFO, language="token_classification", num_outputs=3)
    assert built(request, info).classifier.weight.shape == (3, 32)


def test_eager_attention_gives_maps(folder: str):
    module = built(ModelRequest(folder, "pretrained", args={"attn_implementation": "eager"}), INFO).eval()
    maps = module(torch.tensor([[1, 2, 3]]), output_attentions=True).attentions
    assert maps[0].shape == (1, 4, 3, 3)
    with pytest.raises(ModelError, match=r"has no argument 'attn_implementatoin'\. Did you mean 'attn_implementation'"):
        build_model(ModelRequest(folder, args={"attn_implementatoin": "eager"}), INFO)


def test_checkpointed_layers_give_the_same_gradient():
    request = ModelRequest("hf:gpt2", args={**SMALL, "resid_pdrop": 0.1})
    ids, gradients = torch.randint(3, 60, (2, 9)), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        module = built(replace(request, gradient_checkpointing=checkpointing), INFO)
        assert module.is_gradient_checkpointing is checkpointing
        torch.manual_seed(1)
        module(ids).logits.square().mean().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_checkpointing_is_for_models_of_transformers():
    with pytest.raises(ModelError, match="mlp: gradient_checkpointing is for models of transformers that support it; this one does not"):
        build_model(ModelRequest("mlp", gradient_checkpointing=True), DataInfo("tabular", "class", 3, (4,)))
