"""Heads with more rows than the tokenizer has tokens: what lies beyond is no word, live as stored, in training and in evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from limbeck.config.load import load_recipe
from limbeck.engine.evaluation import collect
from limbeck.errors import ShapeMismatch
from limbeck.judge import evaluate
from limbeck.labelling import Labelling, label
from limbeck.ops.projection import project
from limbeck.preflight import preflight
from limbeck.registry import TASKS
from limbeck.store.manage import parse_codec
from limbeck.tokens import Hidden
from limbeck.types import Batch, DataInfo
from tests.language_data import save_tokenizer, write_jsonl
from tests.language_models import inputs, tiny
from tests.runs import distill

WORDS, TEACHER, STUDENT = 45, 64, 53
"""Tokens of the tokenizer, and rows of the two heads."""
TEXTS = [{"prompt": "w1 w2" if i % 3 else "", "completion": " ".join(f"w{(3 * i + j) % 9}" for j in range(2 + i % 5))} for i in range(20)]
KD = {"loss": "kd", "temperature": 1, "weight": 0.7}
FUSED = {"labels": {"loss": "cross_entropy", "weight": 0.3}, "logits": KD}
BY_ROWS = {"labels": {"loss": "cross_entropy", "weight": 0.3}, "logits": {**KD, "loss": "dkd"}}
WHOLE = {"labels": {"loss": "cross_entropy", "weight": 0.3}, "logits": {"loss": "sinkd", "temperature": 1}}
FEW = {"logits": {"loss": "topk_kd", "top": 44, "temperature": 1}}
EVERYTHING = "topk:k=44,dtype=fp32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a student of one family; both heads have rows beyond the tokenizer, as likely as words."""
    found = tmp_path_factory.mktemp("padded")
    save_tokenizer(found / "tokenizer")
    write_jsonl(found / "texts.jsonl", TEXTS)
    tiny("llama", vocab_size=TEACHER).save_pretrained(found / "teacher")
    tiny("llama", vocab_size=STUDENT, hidden_size=16, head_dim=4).save_pretrained(found / "student")
    for name in ("teacher", "student"):
        disturb(found / name, 1.0)
    return found


def disturb(model: Path, by: float) -> None:
    """Makes the rows of a head that are no words large."""
    file = model / "model.safetensors"
    state = load_file(file)
    rows = state["lm_head.weight"][WORDS:]
    rows += by * torch.randn(rows.shape, generator=torch.Generator().manual_seed(7))
    save_file(state, file, metadata={"format": "pt"})


def recipe(folder: Path, objective: dict[str, Any] = FUSED, **more: Any) -> dict[str, Any]:
    return {
        "task": "causal_lm",
        "data": {
            "source": f"jsonl:{folder / 'texts.jsonl'}",
            "tokenizer": str(folder / "tokenizer"),
            "max_length": 12,
            "separator": " ",
            "split": {"valid": 0.0, "test": 0.2},
        },
        "teacher": {"model": f"hf:{folder / 'teacher'}", "weights": "pretrained"},
        "student": {"model": f"hf:{folder / 'student'}", "weights": "pretrained"},
        "objective": objective,
        "baseline": False,
        "train": {
            "steps": 1,
            "batch_size": 100,
            "optimizer": {"name": "sgd", "lr": 1.0},
            "schedule": "constant",
            "clip": None,
            "select": "last",
        },
        **more,
    }


def first(recipe: dict[str, Any], out: Path, start: Path) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The losses and the gradient of the first update."""
    run = distill(recipe, out=out, device="cpu").folder
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = next(line["values"] for line in lines if line["kind"] == "train" and line["stage"] != "alone")
    before, after = load_file(start / "model.safetensors"), load_file(run / "student" / "model.safetensors")
    return {name: value for name, value in values.items() if name in ("total", "labels", "logits")}, {
        name: before[name] - after[name] for name in before
    }


def assert_same(one: tuple[dict[str, float], dict[str, Tensor]], two: tuple[dict[str, float], dict[str, Tensor]]) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-6, abs=1e-6)
    assert sum(float(value.abs().sum()) for value in two[1].values()) > 1
    for name, value in two[1].items():
        torch.testing.assert_close(one[1][name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module", params=["hidden:dtype=fp32", EVERYTHING], ids=["hidden", "topk"])
def store(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Path]:
    """A codec, and what the teacher said in it."""
    out = folder / request.param.split(":")[0]
    label(recipe(folder), Labelling(out, dict([parse_codec(f"tokens={request.param}")])), device="cpu")
    return request.param, out


@pytest.mark.parametrize(
    ("objective", "data"),
    [(FUSED, {}), (FUSED, {"train_on": "all"}), (FUSED, {"pack": True}), (BY_ROWS, {}), (WHOLE, {}), (FEW, {})],
    ids=["fused", "prompts too", "packed", "by rows", "whole", "the likeliest"],
)
def test_a_store_teaches_what_its_teacher_does(folder: Path, store: tuple[str, Path], tmp_path: Path, objective: Any, data: Any):
    """Loss and gradient of the first update; the completions of some rows are short, so that others are masked."""
    codec, place = store
    wanted = recipe(folder, objective)
    wanted["data"] |= data
    stored = {**wanted, "teacher": {"stored": str(place)}}
    if codec == EVERYTHING and objective in (BY_ROWS, WHOLE):
        assert "likeliest" in str(preflight(load_recipe(stored), allow_code=False, device="cpu").problems)
        return
    if data.get("train_on") == "all":
        stored["teacher"] = {"stored": str(tmp_path / "store")}
        label(wanted, Labelling(tmp_path / "store", dict([parse_codec(f"tokens={codec}")])), device="cpu")
    live = first(wanted, tmp_path / "live", folder / "student")
    assert_same(first(stored, tmp_path / "stored", folder / "student"), live)


def test_nothing_is_what_lies_beyond(folder: Path, tmp_path: Path):
    """Neither head's further rows change anything, and the student's do not move."""
    found = first(recipe(folder), tmp_path / "one", folder / "student")
    assert torch.equal(found[1]["lm_head.weight"][WORDS:], torch.zeros(STUDENT - WORDS, 16))
    other = tmp_path / "other"
    for name in ("teacher", "student"):
        shutil.copytree(folder / name, other / name)
        disturb(other / name, 30.0)
    models = {name: {"model": f"hf:{other / name}", "weights": "pretrained"} for name in ("teacher", "student")}
    assert_same(first({**recipe(folder), **models}, tmp_path / "two", other / "student"), found)


def test_the_gradient_is_that_of_whole_logits_of_words(folder: Path, tmp_path: Path):
    """Of one document, with the logits of transformers."""
    import transformers

    teacher, student = (transformers.AutoModelForCausalLM.from_pretrained(folder / name).eval() for name in ("teacher", "student"))
    wanted = recipe(folder)
    texts = [{"text": "w1 w2 w3 w5 w8"}] * 4
    data = {"source": write_jsonl(tmp_path / "texts.jsonl", texts), "end": False, "split": {"valid": 0.0, "test": 0.25}}
    wanted["data"] = {"tokenizer": str(folder / "tokenizer"), "max_length": 12, **data}
    values, gradient = first(wanted, tmp_path / "run", folder / "student")
    ids = torch.tensor([[1, 6, 7, 8, 10, 13]])
    ours, theirs = student(ids).logits[0, :-1, :WORDS], teacher(ids).logits[0, :-1, :WORDS].detach()
    likely = torch.nn.functional.cross_entropy(ours, ids[0, 1:])
    near = torch.nn.functional.kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean")
    (0.3 * likely + 0.7 * near).backward()
    likely, near = likely.item(), near.item()
    assert values == pytest.approx({"labels": likely, "logits": near, "total": 0.3 * likely + 0.7 * near}, rel=1e-5)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_student_without_its_adapters_is_cut_too(folder: Path, tmp_path: Path):
    """The adapter-free student, live, teaches as a store of the model that it was made from."""
    lora = {"rank": 2, "alpha": 8, "targets": ["q_proj", "down_proj"]}
    base = {"model": f"hf:{folder / 'teacher'}", "weights": "pretrained"}
    wanted = recipe(folder, student={**base, "lora": lora})
    wanted["train"] |= {"steps": 4, "optimizer": {"name": "sgd", "lr": 0.3}}
    label(recipe(folder), Labelling(tmp_path / "store", dict([parse_codec("tokens=hidden:dtype=fp32")])), device="cpu")
    live = first({**wanted, "teacher": {"kind": "adapter_off"}}, tmp_path / "live", folder / "teacher")
    stored = first({**wanted, "teacher": {"stored": str(tmp_path / "store")}}, tmp_path / "stored", folder / "teacher")
    assert_same(stored, live)


@pytest.mark.parametrize("made", [False, True], ids=["read", "built"])
def test_transformers_writes_words_only(folder: Path, tmp_path: Path, made: bool):
    import transformers

    wanted = recipe(folder)
    if made:
        settings = json.loads((folder / "student" / "config.json").read_text())
        names = (
            "vocab_size",
            "hidden_size",
            "head_dim",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "intermediate_size",
        )
        wanted["student"] = {"model": "hf:llama", "args": {name: settings[name] for name in names}}
    run = distill(wanted, out=tmp_path / "run", device="cpu")
    student: Any = transformers.AutoModelForCausalLM.from_pretrained(run.folder / "student")
    assert student.generation_config.suppress_tokens == list(range(WORDS, STUDENT))
    with torch.no_grad():
        student.lm_head.weight[WORDS:] *= 1000  # of both signs, so that some are far above all words
    said = student.generate(torch.tensor([[3, 4]]), max_new_tokens=5, eos_token_id=None, do_sample=False)
    assert said.shape == (1, 7)
    assert said.max() < WORDS


def test_what_is_evaluated_knows_words_only(folder: Path, tmp_path: Path):
    import transformers

    run = distill(recipe(folder), out=tmp_path / "run", device="cpu")
    entry = run.results["models"]["student"]
    teacher: Any = transformers.AutoModelForCausalLM.from_pretrained(folder / "teacher").eval()
    student: Any = run.student.eval()  # pyright: ignore[reportAttributeAccessIssue]
    splits, losses, gaps, same = load(folder), [], [], []
    for number in range(len(splits.test)):
        batch = splits.test.__getitems__([number])
        with torch.no_grad():
            ours, theirs = (m(input_ids=batch.inputs["input_ids"]).logits[0, batch.rows, :WORDS].double() for m in (student, teacher))
        log_q, log_p = ours.log_softmax(1), theirs.log_softmax(1)
        losses.append(-log_q.gather(1, batch.labels[:, None])[:, 0])
        gaps.append((log_p.exp() * (log_p - log_q)).sum(1))
        same.append(ours.argmax(1) == theirs.argmax(1))
    assert entry["metrics"]["nll"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert entry["agreement"]["kl"] == pytest.approx(torch.cat(gaps).mean().item(), rel=1e-4)
    assert entry["agreement"]["top1"] == pytest.approx(torch.cat(same).double().mean().item())
    assert evaluate(run.folder, device="cpu")["nll"] == pytest.approx(entry["metrics"]["nll"], rel=1e-5)


def load(folder: Path) -> Any:
    from limbeck import assemble
    from limbeck.data.load import load_data

    wanted = assemble.located(load_recipe(recipe(folder)))
    return load_data(assemble.data_request(wanted.data, wanted), kind="text", labels="token", language="causal_lm")


def test_check_says_what_is_left_out(folder: Path):
    facts = preflight(load_recipe(recipe(folder)), allow_code=False, device="cpu").facts
    assert "heads with more rows than the tokenizer has tokens (student 53, teacher 64; 45): those beyond are left out" in facts


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_a_head_without_a_row_for_every_word_is_refused(folder: Path, tmp_path: Path, who: str):
    tiny("llama", vocab_size=40).save_pretrained(tmp_path / who)
    small = {**recipe(folder), who: {"model": f"hf:{tmp_path / who}", "weights": "pretrained"}}
    ((key, message),) = [(p.key, p.message) for p in preflight(load_recipe(small), allow_code=False, device="cpu").problems]
    assert key == f"{who}.model"
    assert "knows 40 tokens, and the tokenizer of the data has 45. Give the model the tokenizer that it was made with (data." in message


def test_a_stage_with_more_words_is_refused(folder: Path, tmp_path: Path):
    from limbeck.data.text import load_tokenizer

    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(tmp_path / "larger")
    wanted = recipe(folder)
    wanted["stages"] = {"first": {"data": {**wanted["data"], "tokenizer": str(tmp_path / "larger")}}, "second": {}}
    ((key, message),) = [(p.key, p.message) for p in preflight(load_recipe(wanted), allow_code=False, device="cpu").problems]
    assert key == "stages.first.data"
    assert "its tokenizer has 46 tokens, that of `data` has 45, and models know the latter only. Leave `tokenizer` out here" in message


# the one place


def info(words: int) -> DataInfo:
    return DataInfo("text", "token", words, (7,))


def asked(task: Any, model: Any) -> Hidden:
    batch = Batch(inputs(model), torch.tensor([5, 6, 7, 8]), torch.arange(2), rows=torch.tensor([0, 3, 4, 8]))
    found = task.call(model, None, batch).tokens
    assert isinstance(found, Hidden)
    return found


@pytest.mark.parametrize(("name", "kind"), [("causal_lm", "gpt2"), ("causal_lm", "gemma2"), ("masked_lm", "bert"), ("seq2seq_lm", "bart")])
def test_what_a_model_says_are_words(name: str, kind: str):
    model, whole = tiny(kind), TASKS.get(name)()
    said, cut = asked(whole, model), asked(whole.on(info(50)), model)
    logits = project(said.hidden, said.head)
    assert logits.shape == (4, 61)
    torch.testing.assert_close(project(cut.hidden, cut.head), logits[:, :50])


def test_the_rows_are_a_view_of_the_head():
    """No step copies a head, and one without further rows is taken as it is."""
    model, task = tiny("llama"), TASKS.get("causal_lm")()
    weight = model.lm_head.weight
    assert asked(task.on(info(61)), model).head.weight is weight
    cut = asked(task.on(info(50)), model).head.weight
    assert cut.shape[0] == 50
    assert cut.data_ptr() == weight.data_ptr()
    with pytest.raises(ShapeMismatch, match="LlamaForCausalLM knows 61 tokens, and the tokenizer of the data has 1,062"):
        asked(task.on(info(1062)), model)


def test_collected_answers_keep_the_words_only():
    from limbeck.engine.backend import Backend

    model, task = tiny("llama"), TASKS.get("causal_lm")().on(info(50))
    batch = Batch(inputs(model), torch.tensor([5, 6, 7, 8]), torch.arange(2), rows=torch.tensor([0, 3, 4, 8]))
    found = collect(model, lambda module, given: task.call(module, None, given), [batch], Backend(device="cpu"))
    assert found.logits.head.weight.shape == (50, 32)
