"""Teachers of other vocabularies, shifted ones and such as were cut short: refused by the check, or before the first update."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.config.load import load_recipe
from limbeck.data.language.agreement import agreement
from limbeck.data.text import load_tokenizer
from limbeck.errors import LimbeckError
from limbeck.labelling import Labelling, label
from limbeck.preflight import Preflight, preflight
from limbeck.store.manage import parse_codec
from tests.language_data import save_tokenizer
from tests.language_models import tiny
from tests.language_runs import LLAMA, sums
from tests.runs import distill


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Any]:
    """A teacher in a folder of its own, with its tokenizer."""
    save_tokenizer(tmp_path / "teacher")
    tiny("llama", vocab_size=45).save_pretrained(tmp_path / "teacher")
    return {
        "task": "causal_lm",
        "data": {"source": sums(tmp_path), "tokenizer": save_tokenizer(tmp_path / "tokenizer"), "max_length": 16},
        "teacher": {"model": f"hf:{tmp_path / 'teacher'}", "weights": "pretrained"},
        "student": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}},
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 1}},
        "train": {"steps": 2, "batch_size": 8},
    }


def checked(recipe: dict[str, Any]) -> Preflight:
    return preflight(load_recipe(recipe), allow_code=False, device="cpu")


def told(recipe: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.key, problem.message) for problem in checked(recipe).problems]


def changed(folder: Path, change: Any) -> None:
    """Rewrites the vocabulary of a tokenizer."""
    file = folder / "tokenizer.json"
    record = json.loads(file.read_text())
    change(record["model"]["vocab"])
    file.write_text(json.dumps(record))


def swap(vocabulary: dict[str, int]) -> None:
    vocabulary["w3"], vocabulary["w4"] = vocabulary["w4"], vocabulary["w3"]


def test_one_vocabulary_is_no_problem(base: dict[str, Any]):
    found = checked(base)
    assert (found.problems, found.notes) == ([], [])
    assert not any("heads" in fact for fact in found.facts)


def test_the_same_tokens_in_another_order(base: dict[str, Any], tmp_path: Path):
    changed(tmp_path / "teacher", swap)
    ((key, message),) = told(base)
    assert key == "teacher.model"
    assert "the same tokens in another order: 2 of 45 ids mean another token (the first: id 8 is 'w4' there and 'w3' in data" in message
    assert "ULD (arXiv:2402.12030), DSKD (2406.17328) and ALM (2503.20083)" in message


def test_another_vocabulary_of_the_same_size(base: dict[str, Any], tmp_path: Path):
    def other(vocabulary: dict[str, int]) -> None:
        for i in range(40):
            vocabulary[f"v{i}"] = vocabulary.pop(f"w{i}")

    changed(tmp_path / "teacher", other)
    ((key, message),) = told(base)
    assert key == "teacher.model"
    assert "was trained with another vocabulary: 40 of 45 ids mean another token (the first: id 5 is 'v0' there" in message
    with pytest.raises(LimbeckError, match="another vocabulary"):
        label(base, Labelling(tmp_path / "store", dict([parse_codec("tokens=topk:k=4")])))
    assert not (tmp_path / "store").exists()


def test_a_student_and_further_models_are_compared_too(base: dict[str, Any], tmp_path: Path):
    changed(tmp_path / "teacher", swap)
    pretrained = {
        **base,
        "student": base["teacher"],
        "teacher": {"model": "hf:llama", "args": base["student"]["args"], "weights": "random"},
    }
    assert [key for key, _ in told(pretrained)] == ["student.model"]
    two = {
        **base,
        "teachers": {"big": base["teacher"], "other": pretrained["teacher"]},
        "objective": {"logits": {"loss": "kd", "from": "big"}},
    }
    del two["teacher"]
    assert [key for key, _ in told(two)] == ["teachers.big.model"]
    random = {**base, "teacher": {**base["teacher"], "weights": "random"}}
    assert told(random) == []  # weights that are none know no tokens


def test_the_students_own_tokenizer_is_that_of_the_data(base: dict[str, Any], tmp_path: Path):
    changed(tmp_path / "teacher", swap)
    own = {**base, "data": {**base["data"], "tokenizer": None}, "student": {"from": "teacher"}}
    assert told(own) == []


def test_rows_that_pad_a_head_are_reconciled(base: dict[str, Any], tmp_path: Path):
    tiny("llama", vocab_size=64).save_pretrained(tmp_path / "teacher")
    found = checked(base)
    assert found.problems == []
    assert "heads with more rows than the tokenizer has tokens (teacher 64; 45): those beyond are left out" in found.facts
    student: Any = distill(base, out=tmp_path / "run", device="cpu").student
    assert student.get_output_embeddings().out_features == 45


def test_tokens_that_one_has_more_are_told(base: dict[str, Any], tmp_path: Path):
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    tiny("llama", vocab_size=48).save_pretrained(tmp_path / "teacher")
    found = checked(base)
    assert found.problems == []
    assert found.notes == ["teacher: its tokenizer lacks 1 tokens of data.tokenizer ('<tool>'), which it may never have learnt."]


def test_special_tokens_with_another_name(tmp_path: Path):
    one, two = (load_tokenizer(save_tokenizer(tmp_path / name)) for name in ("one", "two"))
    one.add_special_tokens({"additional_special_tokens": ["<user>"]})
    two.add_special_tokens({"additional_special_tokens": ["<reserved>"]})
    found = agreement(one, two)
    assert found.fits
    assert found.notes() == ["1 special tokens have other names in data.tokenizer ('<reserved>' is '<user>')."]
    assert agreement(one, one).notes() == []


def test_characters_of_another_text(base: dict[str, Any], tmp_path: Path):
    """A teacher of an earlier run knows the characters of its own text."""
    del base["teacher"]
    letters = {**base, "data": {**base["data"], "tokenizer": "characters"}, "objective": {"labels": "cross_entropy"}}
    distill(letters, out=tmp_path / "first", device="cpu")
    base["teacher"] = {"model": "hf:llama", "args": base["student"]["args"], "weights": str(tmp_path / "first")}
    again = {**letters, "teacher": base["teacher"], "objective": {"logits": "kd"}}
    assert told(again) == []
    file = tmp_path / "sums.jsonl"
    file.write_text(file.read_text().replace("w", "v").replace("vv", "w"))
    ((key, message),) = told(again)
    assert key == "teacher.model"
    assert "'w' there and 'v' in data.tokenizer" in message


# weights


def trained(base: dict[str, Any], tmp_path: Path) -> Path:
    """A teacher that has learnt the sums; its file of weights."""
    own = {**base, "objective": {"labels": "cross_entropy"}, "student": {"model": base["teacher"]["model"], "weights": "pretrained"}}
    del own["teacher"]
    own["train"] = {"steps": 60, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.02}}
    run = distill(own, out=tmp_path / "taught", device="cpu")
    file = tmp_path / "teacher" / "model.safetensors"
    file.write_bytes((run.folder / "student" / "model.safetensors").read_bytes())
    return file


def test_rows_of_the_head_in_another_order(base: dict[str, Any], tmp_path: Path):
    """Nobody says which tokenizer it had, but what it says of the texts does."""
    file = trained(base, tmp_path)
    distill(base, out=tmp_path / "good", device="cpu")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "teacher" / name).unlink()
    order = torch.randperm(45, generator=torch.Generator().manual_seed(0))
    state = {name: value[order].contiguous() if value.shape[0] == 45 else value for name, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(LimbeckError, match=r"teacher: the tokens that the student is to predict cost it .* another vocabulary"):
        distill(base, out=tmp_path / "bad", device="cpu")


def test_a_file_that_was_cut_short(base: dict[str, Any], tmp_path: Path):
    file = tmp_path / "teacher" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(LimbeckError, match=r"teacher: hf:.*teacher: its file of weights is damaged or was cut short .* Copy or download"):
        distill(base, out=tmp_path / "run", device="cpu")


def test_a_store_that_was_cut_short(base: dict[str, Any], tmp_path: Path):
    label(base, Labelling(tmp_path / "store", dict([parse_codec("tokens=topk:k=4")])))
    shard = next((tmp_path / "store").glob("view*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    ((key, message),) = told({**base, "teacher": {"stored": str(tmp_path / "store")}})
    assert key == "teacher"
    assert re.search(rf"{shard.name}: expected [\d,]+ bytes, found [\d,]+; the shard was cut short or overwritten", message)
