"""Language models after training: what was gained since before, the folder of the student, what is exported and judged again."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limbeck.beginnings import recovered
from limbeck.cli.main import main
from limbeck.errors import LimbeckError
from limbeck.export import export_run
from limbeck.export.student import load_student
from limbeck.generating import generate
from limbeck.harness import evaluate_tasks
from limbeck.judge import evaluate
from limbeck.run import Result, distill
from tests.language_runs import recipe
from tests.runs import SMALL


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("gained")
    return distill(
        recipe(folder, baseline=True, evaluate={"answer": "w39 (.*)", "tokens": 4, "prompts": 9, "generations": 2}),
        out=folder / "run",
        device="cpu",
    )


def test_the_share_of_the_gap() -> None:
    first = {"metrics": {"nll": 5.0}}
    assert recovered(first, {"nll": 3.0}, {"nll": 1.0}) == 0.5
    assert recovered(first, {"nll": 0.5}, {"nll": 1.0}) == 1.125
    assert recovered(first, {"nll": 6.0}, {"nll": 1.0}) == -0.25
    assert recovered(first, {"nll": 3.0}, {"nll": 5.0}) is None
    assert recovered(None, {"nll": 3.0}, {"nll": 1.0}) is None
    assert recovered(first, {"nll": 3.0}, None) is None


def test_a_student_and_what_it_was_before(result: Result) -> None:
    models = result.results["models"]
    student, first = models["student"], models["student"]["before"]
    loss = {name: models[name]["metrics"]["nll"] for name in ("teacher", "alone", "student")}
    start = first["metrics"]["nll"]
    assert first["metrics"]["perplexity"] == pytest.approx(math.exp(start))
    assert loss["student"] < start
    for name in ("alone", "student"):
        assert models[name]["recovered"] == pytest.approx((start - loss[name]) / (start - loss["teacher"]))
    assert first["agreement"]["kl"] > student["agreement"]["kl"]
    assert "before" not in models["teacher"]
    assert "recovered" not in models["teacher"]


def test_the_weights_before_are_not_left_in_the_student(result: Result) -> None:
    kept = load_file(result.folder / "checkpoints" / "initial.safetensors")
    now = load_file(result.folder / "student" / "model.safetensors")
    assert kept.keys() == now.keys()
    assert any(not torch.equal(kept[name], now[name]) for name in now)


def test_the_report_says_it(result: Result) -> None:
    page = result.report.read_text()
    student = result.results["models"]["student"]
    assert f"{100 * student['recovered']:.1f}%" in page
    for words in (
        "Before its last stage it had",
        "Gap recovered",
        'class="dot before"',
        "Perplexity",
        f"limbeck export {result.folder} --to hf",
    ):
        assert words in page, words
    assert "Confusion" not in page


def test_transformers_reads_the_folder_of_the_student(result: Result) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = result.folder / "student"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("w3 w4", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**ids).logits, result.student(**ids).logits)
    config = model.config
    assert (config.num_hidden_layers, config.use_cache, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, True, 1, 2, 0)
    assert config.tie_word_embeddings
    assert model.generation_config.eos_token_id == 2


def test_an_export_does_not_need_what_the_student_was_made_from(result: Result, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = export_run(result.folder, "hf", tmp_path / "out")
    assert done.difference < 1e-6
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "</s>"
    assert load_student(result.folder).info.language == "causal_lm"


def test_judged_again(result: Result, tmp_path: Path) -> None:
    metrics = result.results["models"]["student"]["metrics"]
    again = evaluate(result.folder, device="cpu")
    assert {name: again[name] for name in ("nll", "top5")} == pytest.approx({name: metrics[name] for name in ("nll", "top5")})
    file = tmp_path / "weights.safetensors"
    save_file(load_file(result.folder / "student" / "model.safetensors"), file)
    other = evaluate(file, recipe=result.folder / "recipe.yaml", device="cpu")
    assert other["nll"] == pytest.approx(metrics["nll"])


def test_what_the_models_write(result: Result) -> None:
    found = result.results["generations"]
    assert found["tokens"] == 4
    assert len(found["examples"]) == 2
    models = result.results["models"]
    for example in found["examples"]:
        assert list(example["answers"]) == ["teacher", "alone", "before", "student"]
        first, second = example["prompt"].split()
        total = f"w{int(first[1:]) + int(second[1:])}"
        assert example["reference"].split() == [total, "w39", total]
    for name in ("teacher", "alone", "student"):
        assert 0 <= models[name]["metrics"]["exact_match"] <= 1
    assert "exact_match" in models["student"]["before"]["metrics"]
    assert "Exact match" in result.report.read_text()


def test_prompts_of_ones_own(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    said = generate(result.folder, ["w3 w4", "w1"], tokens=3)
    ids = torch.tensor([[1, 8, 9]])
    with torch.no_grad():
        first = int(result.student(input_ids=ids).logits[0, -1].argmax())
    assert first == 2 or said[0].split()[:1] == [f"w{first - 5}"]
    assert main(["generate", str(result.folder), "--prompt", "w3 w4", "--prompt", "w1", "--tokens", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == said
    assert main(["generate", str(result.folder), "--prompt", "w1", "--tokens", "3"]) == 0
    assert capsys.readouterr().out == f"w1{said[1]}\n"


def test_lm_evaluation_harness_is_named_where_it_is_absent(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(LimbeckError, match=r"limbeck\[lm-eval\]"):
        evaluate_tasks(result.folder, ["arc_easy"])


def test_a_task_of_lm_evaluation_harness(result: Result, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    rows = [{"q": "w1 w2", "a": "w3", "b": "w30"}, {"q": "w2 w2", "a": "w4", "b": "w31"}]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["{{a}}", "{{b}}"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    assert 0 <= evaluate_tasks(result.folder, [task])["own"]["acc"] <= 1


def test_a_pattern_of_answers_is_checked(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=r"evaluate.answer: expected a regular expression, found '\(': missing \), unterminated"):
        distill(recipe(tmp_path, evaluate={"answer": "("}), out=tmp_path / "run", device="cpu")
    with pytest.raises(LimbeckError, match=r"task classification writes no answers; this is for causal_lm and seq2seq_lm. Remove it."):
        distill({**SMALL, "evaluate": {"answer": "x"}}, out=tmp_path / "run", device="cpu")


def test_nothing_is_written_where_none_is_asked_for(tmp_path: Path) -> None:
    run = distill(recipe(tmp_path, evaluate={"generations": 0}, train={"steps": 1}), out=tmp_path / "run", device="cpu")
    assert run.results["generations"] is None
    assert "exact_match" not in run.metrics
