"""What a run says of secrets: those that its recipe plants in its texts, and those that it names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.language_data import write_jsonl
from tests.language_runs import LLAMA

import limbeck
from limbeck.appraisal.exposing import Canaries, canaries_of, text_losses
from limbeck.config.load import load_recipe
from limbeck.data.language.private import rivals, secrets
from limbeck.data.language.request import CanaryRequest
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.evaluate.exposure import fillings
from limbeck.preflight import preflight
from limbeck.session import Session

PLANTED = {"text": "pin ##", "count": 2, "repeats": 40, "fills": 60}


def _recipe(tmp_path, *, steps: int = 60, rate: float = 0.03, canaries: dict[str, Any] | None = None, **evaluate: Any) -> dict[str, Any]:
    texts = [{"text": f"a text of {'abc'[i % 3]} and {(i * 37) % 100}"} for i in range(30)]
    data = {"source": write_jsonl(tmp_path / "texts.jsonl", texts), "tokenizer": "characters", "max_length": 60}
    return {
        "task": "causal_lm",
        "data": data | ({"canaries": canaries} if canaries else {}),
        "student": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1, "max_position_embeddings": 64}},
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": steps, "batch_size": 10, "optimizer": {"name": "adamw", "lr": rate}, "select": "last"},
        "evaluate": {"generations": 0, **evaluate},
    }


def _student(given, out) -> dict[str, Any]:
    return limbeck.distill(given, out=out, device="cpu", allow_code=False, report=False).results["models"]["student"]


def test_a_run_tells_who_knows_the_canaries(tmp_path):
    taught = _student(_recipe(tmp_path, canaries=PLANTED), tmp_path / "run")
    fresh = _student(_recipe(tmp_path, steps=1, rate=0.0, canaries=PLANTED), tmp_path / "fresh")
    assert taught["metrics"]["exposure"] > 3
    assert fresh["metrics"]["exposure"] < taught["metrics"]["exposure"]
    rows = taught["canaries"]
    own = secrets(CanaryRequest(**PLANTED), 0)
    others = [text for text in rivals(CanaryRequest(**PLANTED), 0) if text not in own]
    assert len(others) < 60  # one has the digits of a secret
    assert [row["canary"] for row in rows] == own
    assert [row["fillings"] for row in rows] == [len(others) + 1] * 2
    assert [row["exposure"] for row in rows] == [pytest.approx(math.log2(len(others) + 1) - math.log2(row["rank"])) for row in rows]
    assert taught["metrics"]["exposure"] == pytest.approx(sum(row["exposure"] for row in rows) / 2)


def test_both_doors_at_once_and_none(tmp_path):
    given = _recipe(tmp_path, steps=1, canaries={**PLANTED, "count": 1})
    given["evaluate"] |= {"canaries": ["a {7}1"], "fills": 4}
    assert not preflight(load_recipe(given), allow_code=False).problems
    found = _student(given, tmp_path / "run")
    assert [(row["canary"], row["fillings"]) for row in found["canaries"]] == [
        (secrets(CanaryRequest(**PLANTED), 0)[0], found["canaries"][0]["fillings"]),
        ("a {7}1", 5),
    ]
    assert found["metrics"]["exposure"] == pytest.approx(sum(row["exposure"] for row in found["canaries"]) / 2)
    none = _student(_recipe(tmp_path, steps=1), tmp_path / "none")
    assert "exposure" not in none["metrics"]
    assert "canaries" not in none


def test_which_texts_are_compared(tmp_path):
    given = _recipe(tmp_path, canaries=PLANTED)
    given["evaluate"] |= {"canaries": ["a {7}1", "b{2}"], "fills": 4}
    session = _session(given, tmp_path)
    planted, first, second = canaries_of(session)
    assert planted.names == planted.texts == tuple(secrets(CanaryRequest(**PLANTED), 0))
    assert not set(planted.texts) & set(planted.others)
    text, others = fillings("a {7}1", 4, session.seed("canary-0"))
    assert first == Canaries(("a {7}1",), (text,), tuple(others))
    text, others = fillings("b{2}", 4, session.seed("canary-1"))
    assert second == Canaries(("b{2}",), (text,), tuple(others))


def test_losses_of_texts_are_sums_over_their_windows(tmp_path):
    given = _recipe(tmp_path)
    given["data"]["max_length"] = 8
    session = _session(given, tmp_path)
    texts = ["a text", "a", "a text of b and 37 in windows"]
    found = text_losses(session, "student", texts)
    tokenizer, model = session.data().tokenizer, session.models["student"].module.eval()
    for text, loss in zip(texts, found.tolist(), strict=True):
        ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
        expected = 0.0
        for start in range(0, len(ids) - 1, 7):  # the last token of a window is the context of the next
            part = ids[start : start + 8]
            with torch.no_grad():
                log_p = model(input_ids=part[None]).logits[0].double().log_softmax(1)
            expected -= log_p[:-1].gather(1, part[1:, None]).sum().item()
        assert loss == pytest.approx(expected, rel=1e-5)


def test_nothing_to_predict_is_no_loss(tmp_path):
    given = _recipe(tmp_path)
    given["data"]["end"] = False
    session = _session(given, tmp_path)
    assert text_losses(session, "student", ["a", "b"]).tolist() == [0.0, 0.0]
    some = text_losses(session, "student", ["a", "ab", "b"]).tolist()
    assert some[0] == some[2] == 0.0 < some[1]


def _session(given: dict[str, Any], tmp_path) -> Session:
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session
