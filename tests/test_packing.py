"""Packed documents need models that keep them apart: found before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import LimbeckError
from tests.runs import distill


def recipe(folder: Path, student: dict[str, Any], *, pack: bool) -> dict[str, Any]:
    """A language model of a few texts."""
    lines = [json.dumps({"text": "a tale of a cat" + " and a hat" * (i % 3)}) for i in range(30)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return {
        "task": "causal_lm",
        "data": {"source": f"jsonl:{folder / 'texts.jsonl'}", "tokenizer": "characters", "max_length": 48, "pack": pack},
        "student": student,
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 2, "batch_size": 4},
    }


OPT = {
    "model": "hf:opt",
    "args": {"hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "word_embed_proj_dim": 16},
}
GPT2 = {"model": "hf:gpt2", "args": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}}


def test_models_that_mix_documents_are_refused(tmp_path: Path):
    pytest.importorskip("transformers")
    with pytest.raises(LimbeckError, match="student: OPTForCausalLM does not keep the documents of a row apart"):
        distill(recipe(tmp_path, OPT, pack=True), out=tmp_path / "run", device="cpu")


def test_others_are_trained(tmp_path: Path):
    pytest.importorskip("transformers")
    result = distill(recipe(tmp_path, GPT2, pack=True), out=tmp_path / "run", device="cpu")
    assert result.student is not None
