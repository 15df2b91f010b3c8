"""Whole runs with low-rank adapters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from limbeck.config.load import load_recipe
from limbeck.errors import Interrupted, LimbeckError, RecipeError
from limbeck.export import export_run
from limbeck.judge import evaluate
from limbeck.preflight import preflight
from limbeck.session import Session
from tests.language_data import save_tokenizer
from tests.language_models import tiny
from tests.language_runs import sums
from tests.processes import pair
from tests.runs import distill
from tests.text_models import save_text_model, sentences

LORA = {"rank": 2, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}


def recipe(folder: Path, **student: Any) -> dict[str, Any]:
    """A language model on disk learns to add, and is held near what it was."""
    model = folder / "model"
    if not model.exists():
        tiny("llama", vocab_size=45).save_pretrained(model)
    return {
        "task": "causal_lm",
        "data": {"source": sums(folder), "tokenizer": save_tokenizer(folder / "tokenizer"), "max_length": 16},
        "teacher": {"kind": "adapter_off"},
        "student": {"model": f"hf:{model}", "weights": "pretrained", "lora": LORA, **student},
        "objective": {
            "labels": "cross_entropy",
            "near": {"loss": "kd", "temperature": 2, "weight": 0.1},
            "layer": {"loss": "hint", "student": "model.layers.0", "weight": 0.1, "adapter": "none"},
        },
        "train": {"epochs": 3, "batch_size": 12, "optimizer": {"name": "adamw", "lr": 0.02}, "checkpoint_every": 1, "ema": 0.5},
    }


def test_a_student_held_near_what_it_was(tmp_path: Path):
    import transformers

    result = distill(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(result.folder / "student" / "model.safetensors")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert before.keys() == after.keys()
    assert moved == {name for name in before if any(f".{target}." in name for target in LORA["targets"])}
    student = result.results["models"]["student"]
    assert student["metrics"]["nll"] < student["before"]["metrics"]["nll"] - 0.1

    assert type(result.student) is transformers.LlamaForCausalLM
    again: Any = transformers.AutoModelForCausalLM.from_pretrained(result.folder / "student").eval()
    ids = torch.arange(3, 13)[None]
    assert torch.equal(again(ids).logits, result.student(ids).logits)
    assert export_run(result.folder, "hf", tmp_path / "exported").difference < 1e-5
    exact = pytest.approx(dict(result.metrics), rel=1e-4)
    assert evaluate(result.folder, device="cpu") == exact
    assert evaluate(result.folder / "student" / "model.safetensors", device="cpu") == exact
    best = next((result.folder / "checkpoints").glob("best-*.safetensors"))
    assert evaluate(best, device="cpu") == exact


def test_the_first_pull_towards_itself_is_nothing(tmp_path: Path):
    wanted = {**recipe(tmp_path), "objective": {"near": "kd"}}
    wanted["train"] = {"steps": 3, "batch_size": 12, "optimizer": {"name": "sgd", "lr": 1.0}}
    result = distill(wanted, out=tmp_path / "run", device="cpu")
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(result.folder / "student" / "model.safetensors")
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_stopped_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: bool):
    wanted = recipe(tmp_path, gradient_checkpointing=checkpointing, lora={**LORA, "dropout": 0.1})
    whole = distill(wanted, out=tmp_path / "whole", device="cpu")
    checks = 0

    def stop(self: Session) -> bool:
        nonlocal checks
        checks += 1
        return checks == 5

    with monkeypatch.context() as patched:
        original = Session.__post_init__

        def watched(self: Session) -> None:
            original(self)
            self.interrupted = lambda: stop(self)

        patched.setattr(Session, "__post_init__", watched)
        with pytest.raises(Interrupted):
            distill(wanted, out=tmp_path / "stopped", device="cpu")
    assert not (tmp_path / "stopped" / "student").exists()
    kept = next((tmp_path / "stopped" / "checkpoints").glob("stage*"))
    for group in ("learner", "ema"):  # the weights beside the adapters never change
        names = load_file(kept / f"{group}.safetensors").keys()
        assert names
        assert all("lora_" in name for name in names)
    shutil.rmtree(tmp_path / "whole" / "checkpoints")
    again = distill(wanted, out=tmp_path / "stopped", device="cpu", resume=True)
    mine, theirs = (load_file(folder / "student" / "model.safetensors") for folder in (whole.folder, again.folder))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert dict(again.metrics) == dict(whole.metrics)


def test_a_checkpoint_goes_with_the_weights_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It holds the adapters alone, so other weights beside them would go unnoticed."""
    wanted = recipe(tmp_path)
    calls = iter([False] * 4 + [True] * 99)
    original = Session.__post_init__

    def watched(self: Session) -> None:
        original(self)
        self.interrupted = lambda: next(calls)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "__post_init__", watched)
        with pytest.raises(Interrupted):
            distill(wanted, out=tmp_path / "run", device="cpu")
    file = tmp_path / "model" / "model.safetensors"
    state = load_file(file)
    state["model.layers.0.mlp.up_proj.weight"] = state["model.layers.0.mlp.up_proj.weight"] + 0.01
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(LimbeckError, match="the weights beside the adapters are not those that the run began with"):
        distill(wanted, out=tmp_path / "run", device="cpu", resume=True)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path):
    wanted = recipe(tmp_path)
    wanted["train"] = {"steps": 3, "batch_size": 12, "optimizer": {"name": "sgd", "lr": 0.5}, "schedule": "constant", "select": "last"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(wanted))
    done = pair("run", str(file), "--out", str(tmp_path / "two"), "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    distill(wanted, out=tmp_path / "one", device="cpu")
    one, two = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def test_a_classifier_with_its_head(tmp_path: Path):
    rows = [f"{line},{('bad', 'good')[label]}" for line, label in sentences(60)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    model = save_text_model(tmp_path / "model", hidden=16, layers=2, seed=1)
    wanted = {
        "task": "text_classification",
        "data": {"source": f"csv:{tmp_path / 'reviews.csv'}", "max_length": 16},
        "teacher": {"model": f"hf:{model}", "weights": "pretrained"},
        "student": {"from": "teacher", "lora": 2},
        "objective": {"labels": "cross_entropy", "logits": "kd"},
        "train": {"steps": 4, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.02}},
    }
    result = distill(wanted, out=tmp_path / "run", device="cpu")
    before, after = load_file(model / "model.safetensors"), load_file(result.folder / "student" / "model.safetensors")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"classifier.weight", "classifier.bias", "bert.encoder.layer.1.output.dense.weight"} <= moved
    assert not [name for name in moved if "embeddings" in name or "LayerNorm" in name]


def problems(wanted: dict[str, Any]) -> str:
    """What the check says."""
    try:
        found = preflight(load_recipe(wanted), allow_code=False, device="cpu")
    except RecipeError as error:
        return str(error)
    return "\n".join(map(str, found.problems)) or "\n".join(found.facts)


def test_the_check(tmp_path: Path):
    assert ", of which 768 learn" in problems(recipe(tmp_path))
    assert "teacher: the student has no adapters to switch off" in problems(recipe(tmp_path, lora=None))
    assert "teacher: the student's head learns, too (lm_head.weight)" in problems(recipe(tmp_path, lora={"head": True}))
    assert "no linear layer is called 'q_prj'. Did you mean 'q_proj'" in problems(recipe(tmp_path, lora={"targets": "q_prj"}))
    assert "student.lora.dropout" in problems(recipe(tmp_path, lora={"dropout": 1.0}))
    assert "student.lora.rnak: unknown key of lora (got 1). Did you mean 'rank'" in problems(recipe(tmp_path, lora={"rnak": 1}))


def test_in_a_cohort(tmp_path: Path):
    """The learner without its adapters teaches itself and its peer."""
    peer = {"model": f"hf:{tmp_path / 'model'}", "weights": "pretrained", "lora": 2}
    wanted = {**recipe(tmp_path), "models": {"other": peer}, "peers": ["other"], "objective": {"labels": "cross_entropy", "near": "kd"}}
    wanted["train"] = {"steps": 2, "batch_size": 12, "optimizer": {"name": "sgd", "lr": 0.5}}
    result = distill(wanted, out=tmp_path / "run", device="cpu")
    assert result.results["models"]["other"]["metrics"]["nll"] > 0
