"""A finished student of language judged again: on its own texts, on others, and by its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli.main import main
from limbeck.judge import evaluate
from tests.language_data import write_jsonl
from tests.language_runs import LLAMA, recipe
from tests.runs import distill

ANSWER = r"w39 (w\d+)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sums")
    wanted = recipe(folder, evaluate={"answer": ANSWER, "prompts": 8, "tokens": 6})
    return distill(wanted, out=folder / "run", device="cpu")


def test_the_same_numbers_as_the_run(run: Any):
    again = evaluate(run.folder, device="cpu")
    assert again.pop("exact_match") == run.results["models"]["student"]["metrics"]["exact_match"]
    metrics = run.results["models"]["student"]["metrics"]
    assert again == pytest.approx({name: metrics[name] for name in again}, rel=1e-4)


def test_other_texts_by_the_command(run: Any, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"w{i % 5} w{i % 7}", "completion": " w38 w39 w38"} for i in range(10)]
    other = write_jsonl(run.folder.parent / "other.jsonl", rows).removeprefix("jsonl:")
    words = ["eval", str(run.folder), "--device", "cpu", "--json", "--set", f"data.args.test={other}"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["perplexity"] > 1.5 * evaluate(run.folder, device="cpu")["perplexity"]
    assert 0 <= found["exact_match"] <= 0.25
    assert main([*words, "--set", "evaluate.answer=null"]) == 0
    assert "exact_match" not in json.loads(capsys.readouterr().out)
    assert main([*words, "--set", "data.limits=3"]) == 2
    assert "data.limits" in capsys.readouterr().err


def test_characters_stay_those_of_the_run(tmp_path: Path):
    rows = [{"text": ("abcd" * 6)[i % 4 : i % 4 + 20]} for i in range(40)]
    wanted = {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(tmp_path / "a.jsonl", rows),
            "tokenizer": "characters",
            "max_length": 16,
            "end": False,
        },
        "student": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}},
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 30, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.05}},
    }
    run = distill(wanted, out=tmp_path / "run", device="cpu")
    other = write_jsonl(tmp_path / "b.jsonl", [{"text": "cda"}] * 20)  # whose own characters would have other numbers
    assert evaluate(run.folder, set={"data.source": other}, device="cpu")["perplexity"] < 1.7
