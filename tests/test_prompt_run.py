"""Whole runs with soft prompts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.config.load import load_recipe
from limbeck.errors import Interrupted, LimbeckError, RecipeError, RunError
from limbeck.export import export_run
from limbeck.judge import evaluate
from limbeck.preflight import preflight
from limbeck.session import Session
from tests.runs import distill
from tests.text_models import save_text_model, sentences

NAME = "bert.soft_prompt.weight"


def recipe(folder: Path, **student: Any) -> dict[str, Any]:
    """A classifier on disk learns a prompt, and is taught by itself with another one that an earlier stage has made."""
    model = folder / "model"
    if not model.exists():
        rows = [f"{line},{('bad', 'good')[label]}" for line, label in sentences(60)]
        (folder / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
        save_text_model(model, hidden=16, layers=2, seed=1)
    prompted = {"model": f"hf:{model}", "weights": "pretrained", "prompt": {"length": 4, **student}}
    return {
        "task": "text_classification",
        "data": {"source": f"csv:{folder / 'reviews.csv'}", "max_length": 16},
        "teacher": prompted,
        "student": prompted,
        "objective": {"labels": "cross_entropy", "logits": {"loss": "panda", "weight": 0.5}},
        "train": {"epochs": 3, "batch_size": 12, "optimizer": {"name": "adamw", "lr": 0.02}, "checkpoint_every": 1, "ema": 0.5},
        "stages": {
            "teacher": {"learner": "teacher", "objective": {"labels": "cross_entropy"}, "train": {"steps": 3}},
            "distil": {},
        },
    }


def test_a_prompt_learns_and_the_model_stays(tmp_path: Path):
    result = distill(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(result.folder / "student" / "model.safetensors")
    assert after.keys() - before.keys() == {NAME}
    assert after[NAME].shape == (4, 64)
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    exact = pytest.approx(dict(result.metrics), rel=1e-4)
    assert evaluate(result.folder, device="cpu") == exact
    assert evaluate(result.folder / "student" / "model.safetensors", device="cpu") == exact
    assert evaluate(next((result.folder / "checkpoints").glob("best-distil*.safetensors")), device="cpu") == exact
    again = {**recipe(tmp_path), "stages": {}, "teacher": None, "objective": {"labels": "cross_entropy"}}
    again["student"] = {**again["student"], "weights": str(result.folder)}
    again["train"] = {"steps": 1, "batch_size": 12, "optimizer": {"name": "sgd", "lr": 0.0}, "select": "last"}
    same = load_file(distill(again, out=tmp_path / "again", device="cpu").folder / "student" / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in same.items())
    bare = {**again, "student": {"model": again["student"]["model"], "weights": str(result.folder)}}
    with pytest.raises(LimbeckError, match=r"these weights go with a prompt of 4 tokens; give .* one: prompt: 4"):
        distill(bare, out=tmp_path / "bare", device="cpu")


def test_exports(tmp_path: Path):
    result = distill(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    made = export_run(result.folder, "hf", tmp_path / "exported")
    assert made.difference < 1e-5
    assert NAME not in load_file(tmp_path / "exported" / "model.safetensors")
    assert load_file(tmp_path / "exported" / "prompt" / "adapter_model.safetensors")["prompt_embeddings"].shape == (4, 64)
    folder = tmp_path / "exported"
    assert made.note == (
        f"load with peft.PeftModel.from_pretrained(transformers.AutoModelForSequenceClassification.from_pretrained('{folder}'), "
        f"'{folder}/prompt')"
    )
    assert export_run(result.folder, "safetensors", tmp_path / "plain").difference < 1e-6
    card = result.folder / "student" / "model.json"
    card.write_text(card.read_text().replace('"length": 4', '"lenght": 4'))
    with pytest.raises(RunError, match=r"model.json is no card of a student: .*'lenght'.* is missing or of the wrong kind"):
        evaluate(result.folder, device="cpu")


@pytest.mark.slow
def test_export_to_torch(tmp_path: Path):
    result = distill(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    assert export_run(result.folder, "pt2", tmp_path / "student.pt2").difference < 1e-4


def stopped(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], out: Path, after: int) -> None:
    """Ends a run after so many updates."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == after

    original = Session.__post_init__

    def watched(self: Session) -> None:
        original(self)
        self.interrupted = stop

    with monkeypatch.context() as patched:
        patched.setattr(Session, "__post_init__", watched)
        with pytest.raises(Interrupted):
            distill(wanted, out=out, device="cpu")


@pytest.mark.parametrize("after", [2, 8])
def test_stopped_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int):
    wanted = recipe(tmp_path, dropout=0.1)
    whole = distill(wanted, out=tmp_path / "whole", device="cpu")
    stopped(monkeypatch, wanted, tmp_path / "stopped", after)
    kept = next((tmp_path / "stopped" / "checkpoints").glob("stage*"))
    for group in ("learner", "ema"):  # the weights beside the prompt never change
        names = {name.removeprefix("model.") for name in load_file(kept / f"{group}.safetensors")}
        assert names == {NAME, "classifier.weight", "classifier.bias"}
    shutil.rmtree(tmp_path / "whole" / "checkpoints")
    again = distill(wanted, out=tmp_path / "stopped", device="cpu", resume=True)
    mine, theirs = (load_file(folder / "student" / "model.safetensors") for folder in (whole.folder, again.folder))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert dict(again.metrics) == dict(whole.metrics)


def test_a_checkpoint_goes_with_the_weights_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = recipe(tmp_path)
    stopped(monkeypatch, wanted, tmp_path / "run", 8)
    file = tmp_path / "model" / "model.safetensors"
    state = load_file(file)
    state["bert.pooler.dense.weight"] = state["bert.pooler.dense.weight"] + 0.01
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(LimbeckError, match="the weights beside the adapters are not those that the run began with"):
        distill(wanted, out=tmp_path / "run", device="cpu", resume=True)


def test_from_a_source_task_to_a_target(tmp_path: Path):
    """Prompt transfer in one run: a task of other classes, then the target from its prompt without its classifier, then the student."""
    wanted = recipe(tmp_path)
    rows = [f"{line},{label + 2 * (len(line) % 2)}" for line, label in sentences(60)]
    (tmp_path / "four.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    wanted["models"] = {"source": {**wanted["student"], "args": {"num_labels": 4}}}
    still = {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}, "select": "last"}
    wanted["stages"] = {
        "source": {
            "learner": "source",
            "data": {"source": f"csv:{tmp_path / 'four.csv'}"},
            "objective": {"labels": "cross_entropy"},
            "train": {"steps": 8},
        },
        "transfer": {"learner": "teacher", "start": "source", "objective": {"labels": "cross_entropy"}, "train": still},
        "distil": {"train": still},
    }
    folder = distill(wanted, out=tmp_path / "run", device="cpu").folder
    state = load_file(folder / "checkpoints" / "models.safetensors")
    assert torch.equal(state[f"teacher/{NAME}"], state[f"source/{NAME}"])
    assert state["source/classifier.weight"].shape == (4, 16)
    assert torch.equal(state["teacher/classifier.weight"], load_file(tmp_path / "model" / "model.safetensors")["classifier.weight"])
    assert not torch.equal(state[f"student/{NAME}"], state[f"source/{NAME}"])


def problems(wanted: dict[str, Any]) -> str:
    """What the check says."""
    try:
        found = preflight(load_recipe(wanted), allow_code=False, device="cpu")
    except RecipeError as error:
        return str(error)
    return "\n".join(map(str, found.problems)) or "\n".join(found.facts)


def test_the_check(tmp_path: Path):
    assert ", of which 290 learn" in problems(recipe(tmp_path))
    assert "student.prompt.lenght: unknown key of prompt (got 4). Did you mean 'length'" in problems(recipe(tmp_path, lenght=4))
    assert "student.prompt.length: expected" in problems(recipe(tmp_path, length=0))
    assert "student.prompt.dropout: expected" in problems(recipe(tmp_path, dropout=1.0))
    assert "has 64 positions: too few for texts of 16 tokens behind a prompt of 49" in problems(recipe(tmp_path, length=49))
    lost = problems(recipe(tmp_path, weights=str(tmp_path / "gone")))
    assert "student.prompt.weights: expected a weights file or a run directory, found" in lost
    assert "student.prompt.weights: expected a weights file or a run directory, found 'random'" in problems(
        recipe(tmp_path, weights="random")
    )
    short = recipe(tmp_path)
    short["student"] = {**short["student"], "prompt": 4}
    assert load_recipe(short).recipe.student == load_recipe(recipe(tmp_path)).recipe.student
    off = {**recipe(tmp_path), "teacher": {"kind": "adapter_off"}, "stages": {}}
    assert "teacher: the student's head learns, too (classifier.weight)" in problems(off)
    off["student"] = {**off["student"], "prompt": {"length": 4, "head": False}}
    assert ", of which 256 learn" in problems(off)


def test_held_near_what_it_was(tmp_path: Path):
    """The student without its prompt is its own teacher: at first it is told apart from it by the prompt alone."""
    wanted = {**recipe(tmp_path, head=False, spread=0.0), "teacher": {"kind": "adapter_off"}, "stages": {}}
    wanted["objective"] = {"near": "kd"}
    wanted["train"] = {"steps": 4, "batch_size": 12, "optimizer": {"name": "adamw", "lr": 0.01}}
    folder = distill(wanted, out=tmp_path / "run", device="cpu").folder
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(folder / "student" / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after[NAME].abs().max() > 0


def test_a_prompt_of_another_run(tmp_path: Path):
    first = distill({**recipe(tmp_path)}, out=tmp_path / "first", device="cpu").folder
    wanted = {**recipe(tmp_path, weights=str(first)), "stages": {}, "teacher": None, "objective": {"labels": "cross_entropy"}}
    wanted["train"] = {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.0}, "select": "last"}
    state = load_file(distill(wanted, out=tmp_path / "second", device="cpu").folder / "student" / "model.safetensors")
    before = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(state[NAME], load_file(first / "student" / "model.safetensors")[NAME])
    assert torch.equal(state["classifier.weight"], before["classifier.weight"])
