"""Domains that are mixed by the gap to the teacher: shares, order, resume, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.data.load import load_data
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import DataError, LimbeckError
from limbeck.evaluate.surprise import surprise
from limbeck.ops.mixture_shares import gap_shares
from limbeck.preflight import preflight
from limbeck.session import Session
from tests.language_data import request, save_tokenizer, write_jsonl
from tests.language_runs import LLAMA
from tests.runs import digest, distill


def recipe(folder: Path, **mixture: Any) -> dict[str, Any]:
    small = {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}}
    kinds = {"near": 3, "far": 11, "other": 2}
    rows = [{"text": " ".join(f"w{i * j % size}" for j in range(8)), "kind": kind} for i in range(1, 21) for kind, size in kinds.items()]
    return {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(folder / "texts.jsonl", rows),
            "tokenizer": save_tokenizer(folder / "tokenizer"),
            "max_length": 16,
            "domain": "kind",
            "split": {"valid": 0.3},
        },
        "teacher": {**small, "weights": "random"},
        "student": small,
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 1}},
        "train": {
            "steps": 7,
            "batch_size": 6,
            "optimizer": {"name": "adamw", "lr": 0.02},
            "mixture": {"every": 3, "alpha": 0.5, **mixture},
        },
        "evaluate": {"generations": 0},
    }


def opened(folder: Path, given: dict[str, Any]) -> Session:
    session = Session(load_recipe(given), folder, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session


def shares(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["values"] for line in lines if line["kind"] == "mixture"]


def test_shares_follow_the_losses_on_held_out_texts(tmp_path: Path):
    session = opened(tmp_path / "run", recipe(tmp_path, probe=100))
    stage = session.stage(session.phases[0], 0, 0)
    mixture = stage.mixture
    assert mixture is not None
    assert mixture.names == ("far", "near", "other")
    assert mixture.due(0)
    stage.train_mode()
    stage.mix(mixture, 6)
    assert stage.learner.learner.model.training
    assert [mixture.due(update) for update in (0, 1, 3)] == [False, False, True]
    valid = session.data(session.phases[0].data).valid
    assert valid is not None
    assert valid.domains is not None
    losses = []
    for name in ("student", "teacher"):
        module = session.models[name].module.eval()
        batch = valid.__getitems__(list(range(len(valid))))
        with torch.no_grad():
            values = surprise(session.call(name)(module, batch), batch)
        losses.append(torch.stack([values[valid.domains.numbers == number].mean() for number in range(3)]))
    expected = gap_shares(losses[0], losses[1], torch.full((3,), 1 / 3), alpha=0.5)
    torch.testing.assert_close(mixture.shares, expected, rtol=1e-6, atol=1e-8)
    order = mixture.order(6)
    assert len(order) == 18
    counts = np.bincount(mixture.domains.numpy()[order], minlength=3)
    assert np.abs(counts - 18 * expected.numpy()).max() < 1
    mixture.renew(3, 6, lambda batch: session.call("student")(module, batch), lambda batch: session.call("teacher")(module, batch))
    assert mixture.cursors.tolist() == counts.tolist()
    assert mixture.window == 3


def test_a_run_notes_shares_and_judges_every_domain(tmp_path: Path):
    run = distill(recipe(tmp_path, probe=2), out=tmp_path / "run", device="cpu", allow_code=False)
    found = shares(tmp_path / "run")
    assert len(found) == 3
    assert found[0].keys() == {f"{what}.{name}" for what in ("share", "loss", "teacher") for name in ("far", "near", "other")}
    assert sum(found[-1][f"share.{name}"] for name in ("far", "near", "other")) == pytest.approx(1)
    metrics = run.results["models"]["student"]["metrics"]
    assert {"far.perplexity", "near.perplexity", "other.perplexity"} <= metrics.keys()
    assert min(metrics[f"{n}.perplexity"] for n in ("far", "near", "other")) <= metrics["perplexity"]
    even = distill(recipe(tmp_path, alpha=0.0), out=tmp_path / "even", device="cpu", allow_code=False)
    assert all(line["share.far"] == pytest.approx(1 / 3) for line in shares(tmp_path / "even"))
    assert even.results["stages"][-1]["updates"] == 7


class Killer(Silent):
    """Dies after an update."""

    def __init__(self, last: int) -> None:
        self.last = last

    def update(self, update: int) -> None:
        if update == self.last:
            raise RuntimeError("killed")


@pytest.mark.parametrize("last", [3, 4, 6])
def test_resume_gives_the_same_bits(last: int, tmp_path: Path):
    given = recipe(tmp_path)
    given["train"]["checkpoint_every"] = 1
    distill(given, out=tmp_path / "whole", device="cpu", allow_code=False)
    with pytest.raises(RuntimeError, match="killed"):
        distill(given, out=tmp_path / "cut", device="cpu", allow_code=False, listener=Killer(last))
    distill(given, out=tmp_path / "cut", device="cpu", allow_code=False, resume=True)
    assert digest(tmp_path / "cut") == digest(tmp_path / "whole")
    assert shares(tmp_path / "cut") == shares(tmp_path / "whole")


def test_the_student_alone_reads_texts_as_they_come(tmp_path: Path):
    session = opened(tmp_path / "run", {**recipe(tmp_path), "baseline": True})
    alone, taught = session.phases
    assert session.stage(alone, 0, 0).mixture is None
    assert session.stage(taught, 1, 0).mixture is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"domain": None}}, "there are no domains to mix; name the column that tells them with `data.domain`."),
        ({"train": {"mixture": {"teacher": "other"}}}, "expected a teacher that this stage listens to ('teacher'), found 'other'."),
    ],
)
def test_mistakes_are_found_by_check(changes: dict[str, dict[str, Any]], message: str, tmp_path: Path):
    given = recipe(tmp_path)
    given = {**given, **{key: {**given[key], **own} for key, own in changes.items()}}
    problems = preflight(load_recipe(given), allow_code=False).problems
    assert [problem.message for problem in problems] == [message]
    session = opened(tmp_path / "run", given)
    with pytest.raises(LimbeckError, match=r"train.mixture"):
        session.stage(session.phases[0], 0, 0)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a"] * 12, "data.domain: 'kind' names only 'a'; two domains or more can be mixed."),
        (["a", "", *["b"] * 10], "row 2: 'kind' is empty, and data.domain needs a name for every text."),
    ],
)
def test_columns_that_name_no_domains(column: list[str], message: str, tmp_path: Path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": "w1 w2", "kind": kind} for kind in column])
    tokenizer = save_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(DataError, match=message):
        load_data(request(source, tokenizer, domain="kind"), kind="text", labels="token", language="causal_lm")
    with pytest.raises(DataError, match=r"data.domain: no column is called 'kinds'. Did you mean 'kind'\?"):
        load_data(request(source, tokenizer, domain="kinds"), kind="text", labels="token", language="causal_lm")


def test_packed_rows_have_no_domain(tmp_path: Path):
    source = write_jsonl(tmp_path / "texts.jsonl", [{"text": "w1 w2", "kind": "ab"[i % 2]} for i in range(12)])
    with pytest.raises(DataError, match="a packed row holds texts of several domains"):
        load_data(
            request(source, save_tokenizer(tmp_path / "tokenizer"), domain="kind", pack=True),
            kind="text",
            labels="token",
            language="causal_lm",
        )
