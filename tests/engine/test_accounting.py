"""The loss of a language model is the sum over trained tokens divided by their number in the whole update, however the update is cut.

One step of plain gradient descent with a learning rate of 1 moves the weights by the gradient, which is compared: between cuts, and with
the gradient of transformers' own logits, a document at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import limbeck
from limbeck.data.base import DataRequest
from limbeck.data.language.request import TokenRequest
from limbeck.data.load import load_data
from tests.language_data import save_tokenizer, write_jsonl
from tests.processes import pair
from tests.runs import weights

SIZES = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": 45}
STUDENT: dict[str, Any] = {**SIZES, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
TEACHER: dict[str, Any] = {**SIZES, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
PROMPTS = [("w1 w2 w3", "w4"), ("w5", "w6 w7 w8 w9 w10 w11"), ("w1 w1", "w2 w2"), ("", "w3 w4 w5"), ("w9 w8", "w7")] * 2
PROMPTS += [("w30 w31 w32 w33", "w34 w35"), ("w20", "w21 w22 w23"), ("w2 w4 w6 w8 w10 w12", "w14"), ("w30 w31", "w3")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random teacher and a random student."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, sizes) in enumerate({"student": STUDENT, "teacher": TEACHER}.items()):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder / name)
    return folder


def recipe(folder: Path, models: Path) -> dict[str, Any]:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PROMPTS]
    return {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(folder / "rows.jsonl", rows),
            "tokenizer": save_tokenizer(folder / "tokenizer"),
            "max_length": 24,
            "separator": " ",
            "split": {"valid": 0.0, "test": 0.2},
        },
        "teacher": {"model": f"hf:{models / 'teacher'}", "weights": "pretrained"},
        "student": {"model": f"hf:{models / 'student'}", "weights": "pretrained"},
        "objective": {"labels": {"loss": "cross_entropy", "weight": 0.3}, "logits": {"loss": "kd", "temperature": 2, "weight": 0.7}},
        "train": {
            "steps": 1,
            "batch_size": 1000,
            "optimizer": {"name": "sgd", "lr": 1.0},
            "schedule": "constant",
            "clip": None,
            "select": "last",
        },
    }


def run(folder: Path, models: Path, changes: dict[str, Any]) -> dict[str, Tensor]:
    """The gradient of the first update, as a run found it."""
    return gradient_of(models, limbeck.distill(recipe(folder, models), set=changes, out=folder / "run", device="cpu", report=False).folder)


def gradient_of(models: Path, folder: Path) -> dict[str, Tensor]:
    before, after = load_file(models / "student" / "model.safetensors"), weights(folder)
    return {name: before[name] - after[name] for name in before}


@pytest.fixture(scope="module")
def gradient(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The gradient from one forward pass over all documents."""
    return run(tmp_path_factory.mktemp("whole"), models, {})


def assert_gradient(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert sum(float(value.abs().sum()) for value in expected.values()) > 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


CUTS: dict[str, dict[str, Any]] = {
    "accumulated": {"train.accumulate": 3},
    "one at a time": {"train.accumulate": 11},
    "padded left": {"data.padding": "left"},
    "packed": {"data.pack": True},
    "packed and accumulated": {"data.pack": True, "train.accumulate": 2},
    "checkpointed": {"student.gradient_checkpointing": True},
}


@pytest.mark.parametrize("changes", CUTS.values(), ids=CUTS.keys())
def test_every_cut_gives_one_gradient(models: Path, gradient: dict[str, Tensor], tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_gradient(run(tmp_path, models, changes), gradient)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [False, True], ids=["padded", "packed"])
def test_two_processes_give_the_gradient_of_one(models: Path, gradient: dict[str, Tensor], tmp_path: Path, pack: bool) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(tmp_path, models)))
    done = pair(
        "run", str(file), "--out", str(tmp_path / "two"), "--device", "cpu", "--set", f"data.pack={str(pack).lower()}", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_gradient(gradient_of(models, tmp_path / "two"), gradient)


SEQUENCES = {"train.normalize": "sequence"}


@pytest.mark.parametrize("changes", [{}, {"train.accumulate": 4}, {"data.pack": True}], ids=["whole", "accumulated", "packed"])
def test_documents_may_count_alike(models: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_gradient(run(tmp_path, models, {**SEQUENCES, **changes}), by_hand(models, tmp_path, by_sequence=True))


def test_it_is_the_gradient_of_the_models_own_logits(models: Path, gradient: dict[str, Tensor], tmp_path: Path) -> None:
    assert_gradient(by_hand(models, tmp_path, by_sequence=False), gradient)


def by_hand(models: Path, tmp_path: Path, *, by_sequence: bool) -> dict[str, Tensor]:
    """The formulas on the logits of transformers: each document by itself, without padding."""
    student, teacher = (LlamaForCausalLM.from_pretrained(models / name) for name in ("student", "teacher"))
    data = recipe(tmp_path, models)["data"]
    request = DataRequest(
        data["source"], valid=0.0, test=0.2, tokenizer=data["tokenizer"], max_length=24, tokens=TokenRequest(separator=data["separator"])
    )
    train = load_data(request, kind="text", labels="token", language="causal_lm").train
    count = sum(train[number].units for number in range(len(train)))
    assert count > 20
    for number in range(len(train)):
        batch = train[number]
        assert batch.rows is not None
        assert batch.labels is not None
        mine = student(batch.inputs["input_ids"]).logits[0][batch.rows]
        with torch.no_grad():
            theirs = teacher(batch.inputs["input_ids"]).logits[0][batch.rows]
        assert torch.equal(batch.labels, batch.inputs["input_ids"][0][batch.rows + 1])
        hard = F.cross_entropy(mine, batch.labels, reduction="sum")
        soft = F.kl_div((mine / 2).log_softmax(1), (theirs / 2).log_softmax(1), log_target=True, reduction="sum") * 4
        ((0.3 * hard + 0.7 * soft) / (batch.units * len(train) if by_sequence else count)).backward()
    return {name: parameter.grad for name, parameter in student.named_parameters() if parameter.grad is not None}
