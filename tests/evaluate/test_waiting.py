"""How long one waits for tokens: the work that is timed, what has no room, and the results of a run."""

from typing import Any

import pytest
from tests.language_models import tiny
from tests.language_runs import recipe
from tests.runs import SMALL

import limbeck
from limbeck.config.load import load_recipe
from limbeck.errors import ModelError
from limbeck.evaluate import waiting as module
from limbeck.evaluate.waiting import waiting
from limbeck.preflight import preflight

pytest.importorskip("transformers")


def _t5():
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


@pytest.mark.parametrize("reads", [False, True])
def test_what_is_timed(reads, monkeypatch):
    """The clock moves with the tokens that go in: so many for each forward, as many forwards as tokens are written."""
    model: Any = _t5() if reads else tiny("llama", max_position_embeddings=64)
    now, calls = [0.0], []

    def forward(part, args, kwargs):
        ids = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]
        calls.append(ids.shape[1])
        now[0] += ids.shape[1] / 1000

    body = model.encoder if reads else model.model
    body.register_forward_pre_hook(forward, with_kwargs=True)
    if reads:
        model.decoder.register_forward_pre_hook(forward, with_kwargs=True)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    model.train()
    found = waiting(model, 30, outputs=16, start=0 if reads else None, rounds=2)
    # the prompt, and of encoder-decoders the token that the decoder begins with; then one token at a time, from the cache
    assert found["first_token_ms"] == pytest.approx(31 if reads else 30)
    assert found["next_token_ms"] == pytest.approx(1)
    assert model.training
    assert max(calls) == 30


def test_a_model_without_room():
    with pytest.raises(ModelError, match="a prompt of 48 tokens and 17 that are written need 65 positions, and the model has 64"):
        waiting(tiny("llama", max_position_embeddings=64), 48, outputs=16)
    assert waiting(tiny("llama", max_position_embeddings=64), 47, outputs=16, rounds=1)["first_token_ms"] > 0


def test_in_a_run(tmp_path):
    result = limbeck.distill(recipe(tmp_path, evaluate={"generations": 0, "first_token": 12}), out=tmp_path / "run", device="cpu")
    for name in ("teacher", "student"):
        cost = result.results["models"][name]["cost"]
        assert cost["first_token_ms"] > 0
        assert cost["next_token_ms"] > 0
    assert "Time to the first token" in (tmp_path / "run" / "report.html").read_text()


def test_what_check_finds(tmp_path):
    written = recipe(tmp_path, evaluate={"first_token": 30})
    told = [problem for problem in preflight(load_recipe(written), allow_code=False).problems if problem.key == "evaluate.first_token"]
    assert {problem.message.split(":")[0] for problem in told} == {"teacher", "student"}
    assert all("need 47 positions, and the model has 32" in problem.message for problem in told)
    images = load_recipe({**SMALL, "evaluate": {"first_token": 30}})
    told = [problem for problem in preflight(images, allow_code=False).problems if problem.key == "evaluate.first_token"]
    assert len(told) == 1
    assert "task classification writes no tokens" in told[0].message
