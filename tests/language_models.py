"""Tiny random models of many architectures of transformers, with every parameter moved off zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DECODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
OPT = {**DECODER, "ffn_dim": 48, "word_embed_proj_dim": 16}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61}
ENCODER = {**DECODER, "type_vocab_size": 2, "embedding_size": 16}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 61, "max_position_embeddings": 64}
SEQ2SEQ = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 61,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "scale_embedding": False,
}
CAUSAL = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "cohere",
    "cohere2",
    "phi",
    "phi3",
    "falcon",
    "gpt_neox",
    "olmo2",
    "stablelm",
    "starcoder2",
    "smollm3",
    "glm4",
    "gpt_oss",
]
MASKED = ["bert", "roberta", "albert", "electra", "deberta", "deberta-v2", "mpnet"]
ENCODER_DECODERS = ["t5", "mt5", "bart", "mbart", "marian", "pegasus", "m2m_100"]
EXTRA = {"granite": {"logits_scaling": 8.0}, "cohere": {"logit_scale": 0.25}}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(CAUSAL, ("AutoModelForCausalLM", DECODER)),
    "gpt2": ("AutoModelForCausalLM", GPT2),
    "opt": ("AutoModelForCausalLM", OPT),
    "bloom": ("AutoModelForCausalLM", BLOOM),
    **dict.fromkeys(MASKED, ("AutoModelForMaskedLM", ENCODER)),
    "distilbert": ("AutoModelForMaskedLM", DISTILBERT),
    **dict.fromkeys(ENCODER_DECODERS, ("AutoModelForSeq2SeqLM", SEQ2SEQ)),
}


def tiny(kind: str, **settings: Any) -> Any:
    """A random model of some type, in evaluation mode, with every parameter moved off zero."""
    auto, args = KINDS[kind]
    import transformers

    config: Any = transformers.AutoConfig.for_model(kind)
    known = {*config.to_dict(), *config.attribute_map}
    for key, value in {**args, **EXTRA.get(kind, {}), **settings}.items():
        if key in known:
            setattr(config, key, value)
    if "layer_types" in known and config.layer_types:
        config.layer_types = config.layer_types[:2]
    torch.manual_seed(0)
    model = getattr(transformers, auto).from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.normal_()
    return model


def inputs(model: Any, rows: int = 2, tokens: int = 7) -> dict[str, Tensor]:
    """Token ids without padding."""
    ids = torch.randint(3, 60, (rows, tokens), generator=torch.Generator().manual_seed(1))
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {**found, "decoder_input_ids": ids[:, :5]} if model.config.is_encoder_decoder else found
