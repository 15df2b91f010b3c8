"""What a run says of the canaries that were planted in its texts."""

from __future__ import annotations

from limbeck.data.language.private import secrets
from limbeck.data.language.request import CanaryRequest
from limbeck.run import distill
from tests.language_data import write_jsonl
from tests.language_runs import LLAMA


def test_a_run_tells_who_knows_the_canaries(tmp_path):
    texts = [{"text": f"a text of {'abc'[i % 3]} and {(i * 37) % 100}"} for i in range(30)]
    model = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1, "max_position_embeddings": 64}}
    canaries = {"text": "pin ##", "count": 1, "repeats": 40, "fills": 60}
    given = {
        "task": "causal_lm",
        "data": {"source": write_jsonl(tmp_path / "texts.jsonl", texts), "tokenizer": "characters", "max_length": 60, "canaries": canaries},
        "student": model,
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 60, "batch_size": 10, "optimizer": {"name": "adamw", "lr": 0.03}, "select": "last"},
        "evaluate": {"generations": 0},
    }
    assert len(secrets(CanaryRequest(**canaries), 0)) == 1
    taught = distill(given, out=tmp_path / "run", device="cpu", allow_code=False).results["models"]["student"]["metrics"]
    clean = {**given, "train": {**given["train"], "steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}}}
    fresh = distill(clean, out=tmp_path / "clean", device="cpu", allow_code=False).results["models"]["student"]["metrics"]
    assert taught["exposure"] > 5
    assert fresh["exposure"] < taught["exposure"]
    del given["data"]["canaries"]
    assert "exposure" not in distill(given, out=tmp_path / "none", device="cpu", allow_code=False).results["models"]["student"]["metrics"]
