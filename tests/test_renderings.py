"""Teachers that read another prompt than the student, or read in another way: live and stored, in the results and in the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import Interrupted
from limbeck.labelling import Labelling, label
from limbeck.preflight import preflight
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import StoreError
from limbeck.tokens import Hidden
from tests.language_data import save_tokenizer, write_jsonl
from tests.runs import distill
from tests.teachers.test_remote import Served

GPT: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
T5: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Questions of two words whose answer is the third; a random teacher in a folder that is told the answer."""
    import transformers

    if not (folder / "base").exists():
        save_tokenizer(folder / "base")
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT, vocab_size=45, tie_word_embeddings=False)).save_pretrained(
            folder / "base"
        )
    rows = [{"q": f"w{i % 5} w{i % 7}", "a": f"w{i % 11} w{i % 3}"} for i in range(60)]
    return {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(folder / "rows.jsonl", rows),
            "columns": {"prompt": "q", "completion": "a"},
            "tokenizer": str(folder / "base"),
            "max_length": 12,
            "separator": " ",
            "views": {"hinted": {"prompt": "{a} w39 {q}"}},
        },
        "teacher": {"model": f"hf:{folder / 'base'}", "weights": "pretrained", "view": "hinted"},
        "student": {"model": f"hf:{folder / 'base'}", "weights": "pretrained"},
        "objective": {"logits": {"loss": "kd", "temperature": 2}},
        "train": {"steps": 6, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.3}, "schedule": "constant", "log_every": 1},
        "evaluate": {"generations": 2, "tokens": 4, "answer": "(w[0-9]+)", "prompts": 8},
        **changes,
    }


def opened(tmp_path: Path, given: dict[str, Any]) -> Session:
    session = Session(load_recipe(given), tmp_path, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session


def weights(run: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.student.state_dict().values()])


def losses(run: Any) -> list[float]:
    import json

    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line["values"]["total"] for line in lines if line["kind"] == "train"]


def test_the_loss_is_that_of_the_reply_after_either_prompt(tmp_path: Path) -> None:
    """By hand: T^2 times the mean over all tokens of the replies of KL(teacher after its prompt, student after its own)."""
    session = opened(tmp_path, recipe(tmp_path))
    batch = session.data().train.__getitems__([0, 1, 2])
    (teacher,) = session.teachers_of(session.phases[0]).values()
    said, own = teacher.signals(batch).tokens, session.call("student")(session.models["student"].module.eval(), batch).tokens
    assert isinstance(said, Hidden)
    assert isinstance(own, Hidden)
    values, place = [], 0
    module = session.models["teacher"].module.eval()
    cells = {row: (f"w{row % 5} w{row % 7}", f"w{row % 11} w{row % 3}") for row in range(60)}
    ids = session.data().tokenizer
    with torch.no_grad():
        for row in session.data().train.store.documents.rows[:3].tolist():  # pyright: ignore[reportAttributeAccessIssue]
            question, answer = cells[row]
            reply = [*ids(answer, add_special_tokens=False)["input_ids"], 2]
            logits = []
            for prompt in (f"{answer} w39 {question}", question):
                text = [1, *ids(prompt, add_special_tokens=False)["input_ids"], *reply]
                logits.append(module(torch.tensor([text])).logits[0, -len(reply) - 1 : -1])
            theirs, mine = (value.log_softmax(-1) for value in logits)
            rows = slice(place, place + len(reply))
            torch.testing.assert_close((said.hidden @ said.head.weight.T).log_softmax(-1)[rows], theirs)
            torch.testing.assert_close((own.hidden @ own.head.weight.T).log_softmax(-1)[rows], mine)
            softened = [(value / 2).log_softmax(-1) for value in logits]
            values.append(4 * (softened[0].exp() * (softened[0] - softened[1])).sum(-1))
            place += len(reply)
    assert place == len(said.hidden) == batch.units
    stage = session.stage(session.phases[0], 0, 0)
    learner = stage.context.learner
    from limbeck.objective import Counts

    total, _, _ = learner(batch, {"teacher": teacher.signals(batch)}, Counts(batch.units, batch.units))
    torch.testing.assert_close(total.detach(), torch.cat(values).mean(), rtol=1e-4, atol=1e-6)


def test_a_store_of_what_the_teacher_read_teaches_as_the_teacher(tmp_path: Path) -> None:
    """To 1e-5 in loss and weights, packed or not; without its view the store is of other documents."""
    given = recipe(tmp_path)
    wish = Labelling(tmp_path / "store", dict([parse_codec("tokens=hidden:dtype=fp32")]), shard=16, batch=5)
    manifest = label(given, wish)
    assert label(given, Labelling(tmp_path / "store", dict(wish.codecs))) == manifest
    stored = {"stored": str(tmp_path / "store"), "view": "hinted"}
    for data in ({}, {"pack": True}):
        own = {**given, "data": {**given["data"], **data}}
        live = distill(own, out=tmp_path / f"live{len(data)}")
        cached = distill({**own, "teacher": stored}, out=tmp_path / f"cached{len(data)}")
        assert (weights(live) - weights(cached)).abs().max() < 1e-5
        assert max(abs(a - b) for a, b in zip(losses(live), losses(cached), strict=True)) < 1e-5
        assert losses(live)[0] > 1e-3
    assert not torch.equal(
        weights(live), weights(distill({**given, "teacher": {**given["teacher"], "view": None}}, out=tmp_path / "unhinted"))
    )
    for teacher in ({**stored, "view": None}, stored):
        views = {} if teacher is stored else given["data"]["views"]
        views = {"hinted": {"prompt": "w1 {q}"}} if teacher is stored else views
        with pytest.raises(StoreError, match=r"of \d+ documents are not in the store"):
            distill(
                {**given, "data": {**given["data"], "views": views}, "teacher": teacher}, out=tmp_path / f"no{len(views)}{teacher['view']}"
            )


def test_labelling_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    codecs = dict([parse_codec("tokens=topk:k=8")])
    whole = label(given, Labelling(tmp_path / "whole", codecs, shard=10, batch=4))
    calls = iter([False] * 5 + [True] * 99)
    with pytest.raises(Interrupted):
        label(given, Labelling(tmp_path / "part", codecs, shard=10, batch=4), interrupted=lambda: next(calls))
    assert label(given, Labelling(tmp_path / "part", codecs, shard=10, batch=4)) == whole
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "part" / file.name).read_bytes()


def test_every_model_writes_after_the_prompt_that_it_sees(tmp_path: Path) -> None:
    run = distill(recipe(tmp_path), out=tmp_path / "run")
    models = run.results["models"]
    assert {"exact_match", "perplexity"} <= models["teacher"]["metrics"].keys() & models["student"]["metrics"].keys()
    session = opened(tmp_path / "other", recipe(tmp_path))
    from limbeck.answering import questions

    asked = questions(session.data(), session.data().test, [], 6, seed=0, tokens=4)
    assert asked is not None
    hinted = asked.shown("hinted")
    assert len(hinted.prompts) == len(asked.prompts) == 6
    for own, told in zip(asked.prompts, hinted.prompts, strict=True):
        assert own.reference.tolist() == told.reference.tolist()
        assert told.ids.tolist() == [1, *own.reference.tolist()[:-1], 44, *own.ids.tolist()[1:]]
    assert asked.shown(None) is asked


@pytest.mark.parametrize(("task", "other"), [("seq2seq_lm", "causal_lm"), ("causal_lm", "seq2seq_lm")])
def test_a_teacher_may_read_in_another_way_than_the_student(task: str, other: str, tmp_path: Path) -> None:
    """An encoder-decoder learns from a decoder that is trained on its own reading, and a decoder from an encoder-decoder."""
    given = recipe(tmp_path)
    models = {"seq2seq_lm": {"model": "hf:t5", "args": T5}, "causal_lm": {"model": "hf:gpt2", "args": GPT}}
    data = {**given["data"], "decoder_start": "<s>", "views": {"read": {"task": other, "max_length": 20}}}
    teach = {
        "learner": "teacher",
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 60, "optimizer": {"name": "adamw", "lr": 1e-2}},
    }
    given |= {"task": task, "data": data, "teacher": {**models[other], "view": "read"}, "student": models[task]}
    given |= {"objective": {"labels": {"loss": "cross_entropy", "weight": 0.1}, "logits": "kd"}}
    given |= {"stages": {"teacher": teach, "distil": {}}}
    checked = preflight(load_recipe(given), allow_code=False)
    assert (checked.problems, checked.notes) == ([], [])
    live = distill(given, out=tmp_path / "run")
    judged = live.results["models"]
    assert {"teacher", "student"} <= judged.keys()
    assert all(model["cost"]["flops"] for model in judged.values())
    assert judged["student"]["agreement"]["kl"] >= 0
    assert all(len(example["answers"]) >= 2 for example in live.results["generations"]["examples"])
    label(given, Labelling(tmp_path / "store", dict([parse_codec("tokens=hidden:dtype=fp32")])))
    cached = distill({**given, "teacher": {"stored": str(tmp_path / "store"), "view": "read"}}, out=tmp_path / "cached")
    assert (weights(live) - weights(cached)).abs().max() < 1e-5


def test_the_student_without_its_adapters_reads_the_hint(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    given = recipe(tmp_path, teacher={"kind": "adapter_off", "view": "hinted"})
    given["student"] = {**given["student"], "lora": 4}
    run = distill(given, out=tmp_path / "run")
    assert losses(run)[0] > 1e-3  # before anything is learnt the two differ by what they read alone
    same = distill({**given, "teacher": {"kind": "adapter_off"}}, out=tmp_path / "same")
    assert losses(same)[0] < 1e-6
    copy = distill({**given, "teacher": {"kind": "snapshot", "of": "start", "view": "hinted"}}, out=tmp_path / "copy")
    assert abs(losses(copy)[0] - losses(run)[0]) < 1e-5


def test_a_server_is_asked_about_what_the_view_shows(tmp_path: Path) -> None:
    served = Served()
    try:
        teacher = {"remote": served.url, "served": "big", "k": 10, "view": "hinted"}
        given = recipe(tmp_path, teacher=teacher, objective={"logits": {"loss": "kd", "temperature": 1}})
        distill({**given, "train": {**given["train"], "steps": 1, "batch_size": 4}}, out=tmp_path / "run")
        asked = [own["prompt"] for own in served.asked]
    finally:
        served.http.shutdown()
        served.http.server_close()
    flat = [ids[0] if isinstance(ids[0], list) else ids for ids in asked]
    assert flat
    assert all(44 in ids for ids in flat)  # `w39`, which only the view has


def problems(given: dict[str, Any]) -> dict[str, str]:
    return {problem.key: problem.message for problem in preflight(load_recipe(given), allow_code=False).problems}


def test_what_is_wrong_with_views_is_found_by_the_check(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    found = problems({**given, "student": {**given["student"], "view": "hinted"}})
    assert found["student.view"] == "the student of a language model reads the examples themselves. Give `view` to a teacher."
    data = {**given["data"], "decoder_start": "<s>", "views": {"two": {"task": "seq2seq_lm"}}}
    found = problems({**given, "data": data, "teacher": {"kind": "ema", "view": "two"}})
    assert found["teacher.view"] == "this teacher is the student, which reads causal_lm, and the view 'two' is for seq2seq_lm."
    wrong = {**given["data"], "views": {"hinted": {"prompt": "{answer} {q}"}}}
    assert "no column in data.views.hinted.prompt is called 'answer'" in problems({**given, "data": wrong})["data.views.hinted.prompt"]
    with pytest.raises(Exception, match="expected 'causal_lm' or 'seq2seq_lm'"):
        load_recipe({**given, "data": {**given["data"], "views": {"hinted": {"task": "masked_lm"}}}})
