"""How a teacher of language speaks and which losses understand it: told by the check, at the term's line, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from limbeck.config.load import load_recipe
from limbeck.errors import LimbeckError
from limbeck.labelling import Labelling, label
from limbeck.losses.akl import AKL
from limbeck.losses.kd import KD
from limbeck.losses.topk_kd import TopkKD
from limbeck.objective.forms import accepting, check_form
from limbeck.preflight import preflight
from limbeck.store.manage import parse_codec
from limbeck.tokens import Hidden, Logits, Projection, Sampled, TopK
from limbeck.types import Signals
from tests.language_data import save_tokenizer
from tests.language_runs import LLAMA, sums

IDS, HALF = torch.zeros(3, 2, dtype=torch.int64), torch.full((3, 2), 0.25)
FORMS = {
    "dense": Logits(torch.zeros(3, 5)),
    "hidden": Hidden(torch.zeros(3, 4), Projection(torch.zeros(5, 4))),
    "topk": TopK(IDS, HALF.log()),
    "sampled": Sampled(IDS, HALF),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sums")
    args = {**LLAMA, "num_hidden_layers": 1}
    return {
        "task": "causal_lm",
        "data": {"source": sums(folder), "tokenizer": save_tokenizer(folder / "tokenizer"), "max_length": 16},
        "teacher": {"model": "hf:llama", "args": args, "weights": "random"},
        "student": {"model": "hf:llama", "args": args},
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 1}},
        "train": {"steps": 1, "batch_size": 8},
    }


@pytest.fixture(scope="module")
def stores(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    for name, codec in (("topk", "topk:k=8"), ("sampled", "sampled"), ("hidden", "hidden")):
        label(base, Labelling(folder / name, dict([parse_codec(f"tokens={codec}")])))
    return folder


def told(recipe: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Problems of a recipe in a file: the text at the place, and the message."""
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    lines = file.read_text().splitlines()
    found = preflight(load_recipe(file), allow_code=False, device="cpu").problems
    return [(lines[int(problem.where.split(":")[-2]) - 1].strip(), problem.message) for problem in found]


def test_every_form_has_losses_that_take_it():
    assert accepting("sampled") == ["kd"]
    assert accepting("topk") == ["kd", "topk_kd"]
    assert {"kd", "topk_kd", "akl", "dkd", "sinkd"} <= set(accepting("dense")) == set(accepting("hidden"))


@pytest.mark.parametrize("form", list(FORMS))
def test_forms_and_losses(form: str):
    said = Signals(tokens=FORMS[form])
    check_form("x", KD(temperature=1), "teacher", said)
    if form in ("dense", "hidden"):
        check_form("x", AKL(), "teacher", said)
        check_form("x", KD(temperature=3, divergence="js"), "teacher", said)
        return
    with pytest.raises(LimbeckError, match=rf"objective.x: 'big' says .* \({form}\), and this loss takes dense or hidden ones\. .*: .*kd"):
        check_form("x", AKL(), "big", said)
    with pytest.raises(LimbeckError, match=r"temperature is 3, .* stored at 1; .* Set `temperature: 1`, or store hidden states"):
        check_form("x", KD(temperature=3), "teacher", said)


def test_what_samples_and_few_tokens_do_not_give():
    with pytest.raises(LimbeckError, match="samples of a teacher estimate divergence 'forward' only, found 'reverse'"):
        check_form("x", KD(temperature=1, divergence="reverse"), "teacher", Signals(tokens=FORMS["sampled"]))
    check_form("x", TopkKD(top=2), "teacher", Signals(tokens=FORMS["topk"]))
    with pytest.raises(LimbeckError, match=r"it reads the 64 likeliest tokens, and 'teacher' names 2 of each\. Set `top: 2` or less"):
        check_form("x", TopkKD(), "teacher", Signals(tokens=FORMS["topk"]))
    with pytest.raises(LimbeckError, match="temperature is 2, and the teacher's probabilities were stored at 1"):
        check_form("x", TopkKD(top=2, temperature=2), "teacher", Signals(tokens=FORMS["topk"]))
    check_form("x", AKL(), "teacher", Signals(torch.zeros(3, 5)))


@pytest.mark.parametrize(
    ("store", "term", "expected"),
    [
        ("topk", {"loss": "dkd"}, r"'teacher' says its likeliest tokens .* \(topk\), .* Losses that take topk: kd, topk_kd\."),
        ("sampled", {"loss": "akl"}, r"'teacher' says samples \(sampled\), .* Losses that take sampled: kd\."),
        ("sampled", {"loss": "topk_kd", "top": 4}, r"takes dense or hidden or topk ones\. Losses that take sampled: kd\."),
        ("sampled", {"loss": "kd", "temperature": 1, "divergence": "js"}, "samples of a teacher estimate divergence 'forward' only"),
        ("topk", {"loss": "kd", "temperature": 4}, "temperature is 4, and the teacher's probabilities were stored at 1"),
        ("topk", {"loss": "sinkd"}, r"\(topk\), and this loss takes dense or hidden ones"),
        ("topk", {"loss": "topk_kd"}, "it reads the 64 likeliest tokens, and 'teacher' names 8"),
        ("topk", {"loss": "topk_kd", "top": 8, "divergence": "js"}, None),
        ("topk", {"loss": "kd", "temperature": 1, "divergence": "reverse"}, None),
        ("hidden", {"loss": "akl", "temperature": 3}, None),
    ],
)
def test_a_stored_teacher(store: str, term: dict[str, Any], expected: str | None, base: dict[str, Any], stores: Path, tmp_path: Path):
    objective = {"labels": "cross_entropy", "other": term}
    problems = told({**base, "teacher": {"stored": str(stores / store)}, "objective": objective}, tmp_path)
    if expected is None:
        assert problems == []
        return
    ((line, message),) = problems
    assert line == f"loss: {term['loss']}"
    assert re.search(expected, message), message


def test_a_teacher_on_a_server(base: dict[str, Any], tmp_path: Path):
    served = {"remote": "http://localhost:9/v1", "served": "big", "k": 5}
    assert told({**base, "teacher": served}, tmp_path) == []
    bad = {"labels": "cross_entropy", "far": {"loss": "akl"}}
    ((line, message),) = told({**base, "teacher": served, "objective": bad}, tmp_path)
    assert line == "loss: akl"
    assert "'teacher' says its likeliest tokens" in message


def test_a_chat_server_only_writes(base: dict[str, Any], tmp_path: Path):
    chat = {"remote": "http://localhost:9/v1", "served": "big", "protocol": "chat"}
    ((line, message),) = told({**base, "teacher": chat}, tmp_path)
    assert line == "loss: kd"
    assert "'teacher' writes texts and says no probabilities (sequences only)" in message
    assert "Losses that take sequences: cross_entropy" in message


def test_live_teachers_speak_in_hidden_states(base: dict[str, Any], tmp_path: Path):
    every = {name: {"loss": name} for name in ("akl", "dkd", "topk_kd", "sinkd")}
    assert told({**base, "objective": {"logits": {"loss": "kd", "divergence": "js"}, **every}}, tmp_path) == []


def test_an_ensemble_of_language_models_is_refused(base: dict[str, Any], tmp_path: Path):
    members = {"a": base["teacher"], "b": base["teacher"], "both": {"kind": "ensemble", "members": ["a", "b"]}}
    wanted = {**base, "teachers": members, "objective": {"logits": {"loss": "kd", "from": "both"}}}
    del wanted["teacher"]
    assert told(wanted, tmp_path)[0][1].startswith("an ensemble combines logits")
