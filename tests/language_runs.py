"""A small real run of a language model, for tests of what comes after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.language_data import save_tokenizer, write_jsonl

LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32}


def sums(folder: Path, count: int = 60) -> str:
    """Prompts with answers, `w3 w4` and `w7 w39 w7`; the source."""
    rows = [{"prompt": f"w{i % 5} w{i % 7}", "completion": f" w{i % 5 + i % 7} w39 w{i % 5 + i % 7}"} for i in range(count)]
    return write_jsonl(folder / "sums.jsonl", rows)


def recipe(folder: Path, **more: Any) -> dict[str, Any]:
    """A teacher that learns, and its student: every second layer, with the embedding for a head."""
    tied = {**LLAMA, "num_hidden_layers": 2, "tie_word_embeddings": True}
    return {
        "task": "causal_lm",
        "data": {"source": sums(folder), "tokenizer": save_tokenizer(folder / "tokenizer"), "max_length": 16},
        "teacher": {"model": "hf:llama", "args": tied},
        "student": {"model": "hf:llama", "args": tied, "shrink": "even"},
        "objective": {"labels": "cross_entropy", "logits": "kd"},
        "train": {"steps": 12, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.02}},
        "stages": {"teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"steps": 30}}, "distil": {}},
        **more,
    }
