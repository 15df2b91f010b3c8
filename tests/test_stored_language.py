"""From texts to a store of a language model's answers, and from the store to a student that learns as from the teacher itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.errors import Interrupted, LimbeckError, RecipeError
from limbeck.labelling import Labelling, label
from limbeck.preflight import preflight
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import StoreError
from tests.language_data import WORDS, save_tokenizer, write_jsonl
from tests.runs import distill
from tests.teachers.test_remote import Served

ARGS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
}


SIZES: dict[str, Any] = {"hidden_size": 16, "max_position_embeddings": 32}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe whose teacher is a random model of a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("texts")
    tokenizer = save_tokenizer(folder / "model")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**ARGS, vocab_size=48, pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained(folder / "model")
    texts = [{"text": " ".join(WORDS[(7 * i + j * j) % 40] for j in range(3 + i % 9))} for i in range(60)]
    return {
        "task": "causal_lm",
        "data": {"source": write_jsonl(folder / "texts.jsonl", texts), "tokenizer": tokenizer, "max_length": 12},
        "teacher": {"model": f"hf:{folder / 'model'}", "weights": "pretrained"},
        "student": {"model": "hf:llama", "args": {**ARGS, "hidden_size": 8}},
        "objective": {"tokens": {"loss": "kd", "temperature": 1}},
        "baseline": False,
        "train": {"epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.5}, "schedule": "constant"},
    }


def written(base: dict[str, Any], out: Path, codec: str, **wish: Any) -> Any:
    return label(base, Labelling(out, dict([parse_codec(f"tokens={codec}")]), **wish))


def weights(run: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.student.state_dict().values()])


@pytest.mark.parametrize(("codec", "near"), [("hidden:dtype=fp32", 1e-4), ("topk:k=40", 0.1)])
def test_a_student_learns_the_same_from_the_store(base, tmp_path, codec, near):
    manifest = written(base, tmp_path / "store", codec, shard=16, batch=5)
    assert manifest.measured["sample"] == manifest.measured["tokens"]
    live = distill(base, out=tmp_path / "live")
    recipe = {**base, "teacher": {"stored": str(tmp_path / "store")}}
    assert any("documents stored in" in fact for fact in preflight(load_recipe(recipe), allow_code=False).facts)
    stored = distill(recipe, out=tmp_path / "stored")
    assert (weights(live) - weights(stored)).abs().max() < near


def test_another_order_packing_and_size_read_the_same_store(base, tmp_path):
    written(base, tmp_path / "store", "hidden:dtype=fp32")
    data = {**base["data"], "padding": "left", "limit": 20}
    other = {**base, "data": data, "train": {**base["train"], "batch_size": 3}, "seed": 7}
    live = distill(other, out=tmp_path / "live")
    stored = distill({**other, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "stored")
    assert (weights(live) - weights(stored)).abs().max() < 1e-4
    packed = {**other, "data": {**data, "pack": True}}
    live = distill(packed, out=tmp_path / "live packed")
    stored = distill({**packed, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "packed")
    assert (weights(live) - weights(stored)).abs().max() < 1e-4


ENCODERS: dict[str, dict[str, Any]] = {
    "masked_lm": {"model": "hf:bert", "args": {**SIZES, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}},
    "seq2seq_lm": {"model": "hf:t5", "args": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}},
}


@pytest.mark.parametrize(("task", "views"), [("masked_lm", 1), ("masked_lm", 2), ("seq2seq_lm", 1)])
def test_stores_of_other_language_models(task, views, tmp_path):
    """Masks are those that the teacher was asked about; an encoder-decoder's documents are known by what is read, too."""
    read = [" ".join(WORDS[(7 * i + j * j) % 40] for j in range(3 + i % 9)) for i in range(60)]
    rows = [{"text": text} if task == "masked_lm" else {"prompt": text, "completion": f"w{i % 3} w{i % 4}"} for i, text in enumerate(read)]
    model = ENCODERS[task]
    recipe = {
        "task": task,
        "data": {
            "source": write_jsonl(tmp_path / "texts.jsonl", rows),
            "tokenizer": save_tokenizer(tmp_path / "tokenizer", bert=task == "masked_lm"),
            "max_length": 14,
        },
        "teacher": model,
        "student": model,
        "objective": {"labels": "cross_entropy", "tokens": {"loss": "kd", "temperature": 1}},
        "train": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.2}, "schedule": "constant"},
        "stages": {"teach": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"epochs": 12}}, "distil": {}},
    }
    manifest = written(recipe, tmp_path / "store", "hidden:dtype=fp32", views=views if views > 1 else None)
    assert manifest.views == views
    assert (task == "masked_lm") == manifest.augmented
    stored = distill({**recipe, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "stored", device="cpu")
    assert all(torch.isfinite(value).all() for value in stored.student.parameters())
    if views != 1 or task != "masked_lm":  # a store of one augmentation shows the same masks again
        live = distill(recipe, out=tmp_path / "live", device="cpu")
        assert (weights(live) - weights(stored)).abs().max() < 1e-4


def test_other_texts_lengths_and_teachers_are_refused(base, tmp_path):
    written(base, tmp_path / "store", "sampled")
    stored = {**base, "teacher": {"stored": str(tmp_path / "store")}}
    with pytest.raises(StoreError, match=r"of \d+ documents are not in the store .*max_length"):
        distill({**stored, "data": {**base["data"], "max_length": 6}}, out=tmp_path / "a")
    with pytest.raises(LimbeckError, match=r"the objective reads|stored at 1|Set `temperature: 1`"):
        distill({**stored, "objective": {"tokens": {"loss": "kd", "temperature": 2}}}, out=tmp_path / "b")
    with pytest.raises(RecipeError, match="keeps no list of likeliest tokens"):
        distill({**base, "teacher": {"stored": str(tmp_path / "store"), "keep": 5}}, out=tmp_path / "c")
    classes = {"task": "classification", "data": "sklearn:digits", "student": "mlp", "objective": {"logits": "kd"}}
    with pytest.raises(LimbeckError):
        distill({**classes, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "d")


def test_a_finished_store_is_not_made_again_and_an_interrupted_one_goes_on(base, tmp_path):
    whole = written(base, tmp_path / "whole", "topk:k=8", shard=10, batch=4)
    assert written(base, tmp_path / "whole", "topk:k=8") == whole
    with pytest.raises(StoreError, match=r"a finished store of something else lies here \(signal tokens differ\)"):
        written(base, tmp_path / "whole", "topk:k=9")
    with pytest.raises(StoreError, match=r"\(data differ\)"):
        written({**base, "data": {**base["data"], "limit": 5}}, tmp_path / "whole", "topk:k=8")
    calls = iter([False] * 4 + [True] * 99)
    wish = Labelling(tmp_path / "part", dict([parse_codec("tokens=topk:k=8")]), shard=10, batch=4)
    with pytest.raises(Interrupted):
        label(base, wish, interrupted=lambda: next(calls))
    assert label(base, wish) == whole
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "part" / file.name).read_bytes()


def test_what_cannot_be_written_is_said_before(base, tmp_path):
    with pytest.raises(LimbeckError, match="k is 64, the vocabulary has 45"):
        label(base, Labelling(tmp_path / "a", {}))
    with pytest.raises(LimbeckError, match="--views 2 was asked for, but nothing is random in these texts"):
        written(base, tmp_path / "b", "sampled", views=2)
    with pytest.raises(StoreError, match=r"--signal names logits; of a language model tokens are written"):
        label(base, Labelling(tmp_path / "c", dict([parse_codec("logits=dense")])))


def test_a_teacher_on_a_server_is_written_down_and_heard(base, tmp_path):
    served = Served()
    try:
        teacher = {"remote": served.url, "served": "big", "k": 10}
        recipe = {**base, "teacher": teacher}
        assert any("big on" in fact for fact in preflight(load_recipe(recipe), allow_code=False).facts)
        served.first = [(429, {"Retry-After": "0"}, "")] * 2
        manifest = written(recipe, tmp_path / "store", "topk:k=10", shard=20)
        assert manifest.about["teacher"] == "big on a server"
        assert "kl" not in manifest.measured
        count = len(served.asked)
        stored = distill({**recipe, "teacher": {"stored": str(tmp_path / "store")}}, out=tmp_path / "stored")
        assert len(served.asked) == count
        live = distill(recipe, out=tmp_path / "live")
        assert (weights(live) - weights(stored)).abs().max() < 0.02
        with pytest.raises(RecipeError, match="temperature 2 was asked of a server"):
            distill({**recipe, "teacher": {**teacher, "temperature": 2}}, out=tmp_path / "no")
    finally:
        served.http.shutdown()
        served.http.server_close()
    assert "OPENAI" not in json.dumps(manifest.record())
