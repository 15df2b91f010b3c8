"""Weights that are tied to how alike two models are: the number by hand, where it is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck import assemble, distill
from limbeck.config.load import load_recipe
from limbeck.config.term_schema import Alike, TermSpec
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import ModelError, RecipeError, ShapeMismatch
from limbeck.evaluate.transfer import prompt_similarity
from limbeck.likeness import check_alike, first_states, weight_at
from limbeck.models.base import BuiltModel, ModelRequest
from limbeck.models.build import build_model
from limbeck.preflight import preflight
from limbeck.session import Session
from limbeck.settling import settled
from limbeck.types import Batch, DataInfo, Signals
from tests.test_prompt_run import recipe


def test_mean_cosine_by_hand():
    first = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    second = torch.tensor([[2.0, 0.0], [4.0, 3.0], [-2.0, -2.0]])
    assert prompt_similarity(first, second) == pytest.approx((1 + 24 / 25 - 1) / 3)
    assert prompt_similarity(first, first) == pytest.approx(1)
    assert prompt_similarity(first[:1], torch.tensor([[0.0, 5.0]])) == 0.0
    assert prompt_similarity(first.half(), second.half()) == pytest.approx(0.32, abs=1e-9)
    for one, other in ((first, second[:2]), (first[0], second[0]), (first[:0], second[:0])):
        with pytest.raises(
            ShapeMismatch, match=r"similarity compares the states of the same texts, two of shape \(texts, width\), found \["
        ):
            prompt_similarity(one, other)


def test_the_weight():
    assert weight_at(Alike(alike=["a", "b"], scale=0.5), 0.4) == pytest.approx(0.2)
    assert weight_at(Alike(alike=["a", "b"]), 0.4) == pytest.approx(0.4)
    assert weight_at(Alike(alike=["a", "b"], scale=3.0), -0.4) == 0.0
    term = TermSpec.model_validate({"loss": "kd", "weight": {"alike": ["a", "b"], "scale": 0.3}})
    assert assemble.weight_of(term) == 0.3


INFO = DataInfo("text", "class", 2, (8,))
SIZE = {"vocab_size": 30, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 16}


def bert(width: int) -> BuiltModel:
    torch.manual_seed(width)
    return build_model(ModelRequest("hf:bert", args={**SIZE, "hidden_size": width}), INFO)


def call(module: Any, batch: Batch) -> Signals:
    return Signals(logits=module(**batch.inputs).logits)


def test_the_states_of_the_first_position():
    built = bert(8)
    built.module.train()
    built.module.get_submodule("bert.pooler").eval()
    ids = torch.arange(2, 14).view(3, 4)
    batches = [Batch({"input_ids": ids[:2]}, None, torch.arange(2)), Batch({"input_ids": ids[2:]}, None, torch.arange(1))]
    found = first_states(built, "x", call, batches)
    assert built.module.training
    assert not built.module.get_submodule("bert.pooler").training
    module: Any = built.module.eval()
    with torch.no_grad():
        torch.testing.assert_close(found, module.bert(input_ids=ids).last_hidden_state[:, 0])
    assert not found.requires_grad
    assert not module.bert._forward_hooks


def test_models_that_cannot_be_compared():
    check_alike(("a", bert(8)), ("b", bert(8)))
    with pytest.raises(ModelError, match=r"'a' has states of 8 values, 'b' of 16; `alike` is for two prompts of one model\."):
        check_alike(("a", bert(8)), ("b", bert(16)))
    plain = build_model(ModelRequest("mlp"), DataInfo("tabular", "class", 2, (4,)))
    with pytest.raises(ModelError, match=r"'b' is a MLP; `alike` compares the states of two models of transformers \(hf:...\)\."):
        check_alike(("a", bert(8)), ("b", plain))


def tied(folder: Path, **weight: Any) -> dict[str, Any]:
    wanted = recipe(folder)
    wanted["models"] = {"other": {**wanted["student"], "prompt": {"length": 4, "spread": 3.0}}}
    wanted["objective"] = {"labels": "cross_entropy", "logits": {"loss": "panda", "weight": {"alike": ["other", "teacher"], **weight}}}
    return wanted


def test_a_term_is_weighed_when_its_stage_begins(tmp_path: Path):
    wanted = tied(tmp_path, scale=0.5)
    told: list[str] = []

    class Heard(Silent):
        def message(self, text: str) -> None:
            told.append(text)

    waits: list[bool] = []

    class Waiting(Backend):
        def wait(self) -> None:
            waits.append((tmp_path / "run" / "weights" / "distil-logits.json").exists())

    session = Session(load_recipe(wanted), tmp_path / "run", Waiting(device="cpu"), Heard(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    phase = session.phases[1]
    found = settled(session, phase).objective
    train = session.data(phase.data).train
    batch = train.__getitems__(list(range(len(train))))
    with torch.no_grad():
        states = []
        for name in ("other", "teacher"):
            module: Any = session.models[name].module.eval()
            states.append(module.bert(**batch.inputs).last_hidden_state[:, 0])
    expected = torch.nn.functional.cosine_similarity(*states).mean().item()
    assert 0.05 < expected < 0.999
    assert found["logits"].weight == pytest.approx(0.5 * expected, rel=1e-4)
    assert found["labels"].weight == 1.0
    assert found.keys() == phase.objective.keys()
    file = tmp_path / "run" / "weights" / "distil-logits.json"
    written = json.loads(file.read_text())
    assert written["alike"] == ["other", "teacher"]
    assert written["similarity"] == pytest.approx(expected, rel=1e-4)
    assert written["weight"] == pytest.approx(0.5 * expected, rel=1e-4)
    assert told[-1] == f"distil: other and teacher are alike by {expected:.3f}, so logits weighs {0.5 * expected:.4g}"
    file.write_text(json.dumps({"similarity": 0.25}))  # a restart reads it again, whatever the models are by then
    assert settled(session, phase).objective["logits"].weight == 0.125
    assert len(told) == 1
    # One wait each time, behind the file: a process that finds it written by another must not leave that one waiting.
    assert waits == [True, True]


def test_it_stands_in_the_results(tmp_path: Path):
    result = distill(tied(tmp_path), out=tmp_path / "run", device="cpu", report=False)
    first, second = result.results["stages"]
    assert "weights" not in first
    similarity = json.loads((tmp_path / "run" / "weights" / "distil-logits.json").read_text())["similarity"]
    assert second["weights"] == {"logits": pytest.approx(similarity)}


def problems(wanted: dict[str, Any]) -> str:
    """What the check says."""
    try:
        found = preflight(load_recipe(wanted), allow_code=False, device="cpu")
    except RecipeError as error:
        return str(error)
    return "\n".join(map(str, found.problems))


def test_the_check(tmp_path: Path):
    assert problems(tied(tmp_path)) == ""
    wanted = tied(tmp_path)
    wanted["objective"]["logits"]["weight"] = {"alike": ["othr", "teacher"]}
    assert "objective.logits.weight.alike[0]: no model of this recipe is called 'othr'. Did you mean 'other'" in problems(wanted)
    wanted["objective"]["logits"]["weight"] = {"alike": ["other"]}
    assert "objective.logits.weight.alike: expected" in problems(wanted)
    wanted["objective"]["logits"]["weight"] = {"alike": ["other", "teacher"], "scale": -1}
    assert "objective.logits.weight.scale: expected a number >= 0" in problems(wanted)
    wanted["objective"]["logits"]["weight"] = {"alike": ["other", "teacher"], "sclae": 1}
    assert "objective.logits.weight.sclae: unknown key" in problems(wanted)
    mean = {**tied(tmp_path), "teachers": {"mean": {"kind": "ema"}}}
    mean["objective"]["logits"]["weight"] = {"alike": ["other", "mean"]}
    assert "objective.logits: 'mean' has no model of its own here, so nothing can be alike to it." in problems(mean)
    wide = tied(tmp_path)
    wide["models"]["other"] = {"model": "hf:bert", "args": {**SIZE, "hidden_size": 32}}
    assert "objective.logits: 'other' has states of 32 values, 'teacher' of 16; `alike` is for two prompts of one model." in problems(wide)
