"""Replies that a model of the run writes for its questions: from the recipe to the student, killed and gone on, live and stored, and what
the check says of recipes that ask for something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limbeck import rollouts
from limbeck.answering import misread
from limbeck.config.load import load_recipe
from limbeck.curating import is_right
from limbeck.data.language.written import Written, read_replies
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.errors import Interrupted, LimbeckError, RecipeError, RunError
from limbeck.labelling import Labelling, label
from limbeck.planning import plan
from limbeck.preflight import preflight
from limbeck.run import Result, distill
from limbeck.session import Session
from limbeck.settling import settled
from limbeck.store.manifest import Signal
from tests.language_data import save_tokenizer, write_jsonl

GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 24, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
ROLLOUTS: dict[str, Any] = {"samples": 4, "temperature": 1.0, "again": {"view": "hinted"}}
TOLD = "{right} w38 {wrong} w39 {q}"


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Questions of two words whose answer is a third; a base that learns a little, and the same model, which learns from what it writes."""
    rows = [{"q": f"w{i % 5} w{i % 3}", "a": f"w{i % 5 + i % 3 + 10}"} for i in range(150)]
    hints = [{"q": f"{row['a']} w38 w{10 + i % 7} w39 {row['q']}" if i % 2 else row["q"], "a": row["a"]} for i, row in enumerate(rows)]
    return {
        "task": "causal_lm",
        "data": {
            "source": write_jsonl(folder / "rows.jsonl", rows),
            "columns": {"prompt": "q", "completion": "a"},
            "tokenizer": save_tokenizer(folder / "words"),
            "max_length": 16,
            "separator": " ",
            "views": {"hinted": {"prompt": TOLD}},
            "rollouts": ROLLOUTS,
        },
        "teacher": {"model": "hf:gpt2", "args": GPT, "view": "hinted"},
        "student": {"model": "hf:gpt2", "args": GPT},
        "objective": {"logits": {"loss": "kd", "temperature": 2}},
        "train": {"steps": 5, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.3}, "schedule": "constant", "log_every": 1},
        "stages": {
            "base": {
                "learner": "teacher",
                "objective": {"labels": "cross_entropy"},
                "data": {
                    "source": write_jsonl(folder / "hints.jsonl", hints),
                    "rollouts": None,
                    "views": {"hinted": {"prompt": "{prompt}"}},
                },
                "train": {"steps": 80, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.02}},
            },
            "distil": {"start": "teacher"},
        },
        "evaluate": {"generations": 1, "tokens": 4, "answer": "(w[0-9]+)", "prompts": 8},
        **changes,
    }


class Heard(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def run(folder: Path, name: str, **changes: Any) -> Result:
    return distill(recipe(folder), set=changes, out=folder / name, device="cpu", report=False)


def opened(folder: Path, given: dict[str, Any], **more: Any) -> Session:
    loaded = load_recipe(given, set=more)
    session = Session(loaded, folder, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    session.build_models()
    return session


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "rollouts").iterdir())}


def kept(run: Path) -> list[Written]:
    (file,) = (path for path in (run / "rollouts").glob("*.jsonl") if path.name.count(".") == 1)
    return read_replies(file)


def lines(run: Path, kind: str) -> dict[int, list[str]]:
    (file,) = (run / "rollouts").glob(f"*.{kind}.jsonl")
    return {row["row"]: row["replies"] for row in map(json.loads, file.read_text().splitlines())}


def losses(run: Path, stage: str = "distil") -> list[float]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["values"]["total"] for line in found if line["kind"] == "train" and line["stage"] == stage]


def weights(run: Any) -> torch.Tensor:
    return torch.cat([value.flatten() for value in run.student.state_dict().values()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, "run")


def test_from_questions_to_a_student(whole: tuple[Path, Result]):
    folder, result = whole
    first, again, own = lines(folder / "run", "written"), lines(folder / "run", "again"), kept(folder / "run")
    assert len(first) == 98  # those that are trained, of 150
    assert all(len(replies) == 4 for replies in first.values())
    answers = {row: f"w{row % 5 + row % 3 + 10}" for row in first}
    for reply in own:
        assert reply.prompt == f"w{reply.row % 5} w{reply.row % 3}"
        assert reply.right in first[reply.row]
        assert reply.wrong in first[reply.row]
        assert reply.right.split()[-1] == answers[reply.row] != reply.wrong.split()[-1]
        assert [reply.completion] == again[reply.row]
        assert reply.completion.split()[-1] == answers[reply.row]
    assert [reply.row for reply in own] == sorted(reply.row for reply in own)
    (counts,) = (stage["rollouts"] for stage in result.results["stages"] if "rollouts" in stage)
    assert counts["questions"] == 98
    assert counts["kept"] == len(own) > 8
    assert counts["kept"] + sum(counts["left_out"].values()) == 98
    assert (counts["by"], counts["samples"]) == ("teacher", 4)
    right = [is_right(rollouts.Reply(text, True), answers[row], "(w[0-9]+)") for row, texts in first.items() for text in texts]
    assert counts["right"] == pytest.approx(sum(right) / len(right), abs=0.02)  # those that were cut off are not right
    assert [stage["train"] for stage in result.results["stages"]] == [98, len(own)]
    assert result.results["data"]["train"] == 98
    assert {"exact_match"} <= result.results["models"]["student"]["before"]["metrics"].keys()


def test_the_same_seed_writes_the_same_texts(whole: tuple[Path, Result], tmp_path: Path):
    folder, result = whole
    again = run(tmp_path, "run")
    assert [*files(tmp_path / "run").values()] == [*files(folder / "run").values()]
    assert torch.equal(weights(result), weights(again))
    other = run(tmp_path, "other", seed=1)
    assert lines(tmp_path / "other", "written") != lines(tmp_path / "run", "written")
    assert not torch.equal(weights(other), weights(again))


@pytest.mark.parametrize("kind", ["written", "again"])
def test_a_run_that_stops_while_it_writes_goes_on_with_the_same_texts(
    whole: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Stopped behind a batch, with a part of the next one behind it, the last line torn: as a kill leaves it."""
    folder, result = whole
    batch = 16
    monkeypatch.setattr(rollouts, "BATCH", batch)
    calm = run(tmp_path, "calm")
    wanted = files(tmp_path / "calm")
    add, count = rollouts._Shelf.add, 0

    def killed(shelf: Any, replies: Any) -> None:
        nonlocal count
        count += kind in shelf.path.name
        if count == 3:
            raise KeyboardInterrupt
        add(shelf, replies)

    monkeypatch.setattr(rollouts._Shelf, "add", killed)
    with pytest.raises(Interrupted, match="stopped at once"):
        run(tmp_path, "run")
    (file,) = (tmp_path / "run" / "rollouts").glob(f"*.{kind}.jsonl")
    assert file.read_text().count("\n") == 2 * batch
    if kind == "written":
        assert len(files(tmp_path / "run")) == 1
    with file.open("a") as end:
        end.write(file.read_text().splitlines(keepends=True)[0] + '{"row": 3, "rep')
    monkeypatch.setattr(rollouts._Shelf, "add", add)
    gone_on = distill(tmp_path / "run", resume=True, device="cpu", report=False)
    assert files(tmp_path / "run") == wanted
    assert torch.equal(weights(gone_on), weights(calm))
    assert losses(tmp_path / "run") == losses(tmp_path / "calm")
    assert not torch.equal(weights(result), weights(calm)) or files(folder / "run") == wanted  # another batch, other draws


def test_ctrl_c_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    session = opened(tmp_path, recipe(tmp_path))
    monkeypatch.setattr(rollouts, "BATCH", 16)
    session.interrupted = lambda: True
    with pytest.raises(Interrupted, match="stopped while replies are written; those are kept"):
        settled(session, session.phases[1])
    assert len(lines(tmp_path, "written")) == 16
    session.interrupted = lambda: False
    with pytest.raises(LimbeckError):  # a base that has learnt nothing
        settled(session, session.phases[1])
    assert len(lines(tmp_path, "written")) == 98


def test_files_that_hold_something_else(tmp_path: Path):
    session = opened(
        tmp_path, recipe(tmp_path), **{"data.rollouts.keep": "all", "data.rollouts.again": None, "data.views.hinted.prompt": None}
    )
    phase = settled(session, session.phases[1])
    assert settled(session, phase) is phase
    (file,) = (tmp_path / "rollouts").glob("*.written.jsonl")
    (tmp_path / "rollouts" / file.name.replace(".written.jsonl", ".json")).unlink()
    good = file.read_text()
    told = {
        good.replace('"replies"', '"texts"', 1): "line 1 is none that a run wrote",
        good.replace('"row": ', '"row": 1', 1): "it holds replies to other questions",
        good.replace('"replies": [', '"replies": ["x", ', 1): "it holds replies to other questions",
    }
    for text, message in told.items():
        file.write_text(text)
        with pytest.raises(RunError, match=message):
            settled(session, session.phases[1])
    file.write_text(good)
    assert settled(session, session.phases[1]).data == phase.data


def test_no_question_left(tmp_path: Path):
    session = opened(tmp_path, recipe(tmp_path), **{"stages.base.train.steps": 1})
    for _ in range(2):
        with pytest.raises(LimbeckError, match=r"no question is left to train on\. 0 of 98 questions are kept; teacher wrote 4 replies"):
            settled(session, session.phases[1])


def test_self_training_on_right_replies(tmp_path: Path):
    """Rejection sampling: what a student is right about, it learns by cross-entropy."""
    base = recipe(tmp_path)
    stages = {
        "warm": {"data": {"rollouts": None}, "train": {"steps": 60, "optimizer": {"name": "adamw", "lr": 0.02}}},
        "own": {"data": {"rollouts": {"by": "student", "keep": "right"}}},
    }
    data = {**base["data"], "views": {}, "rollouts": None}
    given = {**base, "data": data, "teacher": None, "objective": {"labels": "cross_entropy"}, "stages": stages}
    result = distill(given, out=tmp_path / "run", device="cpu", report=False)
    own = kept(tmp_path / "run")
    counts = result.results["stages"][1]["rollouts"]
    assert counts["by"] == "student"
    assert counts["kept"] == len(own) > 8
    assert set(counts["left_out"]) <= {"without a right reply"}
    assert all(reply.completion == reply.right for reply in own)
    assert any(not reply.wrong for reply in own)
    assert losses(tmp_path / "run", "own")


def test_all_replies_unverified_by_another_view(tmp_path: Path):
    """What a model writes that is told the answer: sequences of a teacher, written when the stage begins."""
    wish = {"keep": "all", "view": "told", "samples": 2, "temperature": 1, "tokens": 8, "again": None}
    changes = {f"data.rollouts.{key}": value for key, value in wish.items()} | {"data.views.told": {"prompt": "{a} w38 {a} w39 {q}"}}
    changes |= {"data.views.hinted.prompt": None, "evaluate.answer": None, "objective": {"labels": "cross_entropy"}}
    result = run(tmp_path, "run", **changes)
    counts = result.results["stages"][1]["rollouts"]
    assert counts["right"] is None
    assert counts["kept"] == len(kept(tmp_path / "run")) > 40
    assert all(reply.wrong == "" and reply.completion == reply.right for reply in kept(tmp_path / "run"))
    first = lines(tmp_path / "run", "written")
    assert all(reply.completion in first[reply.row] for reply in kept(tmp_path / "run"))


def test_questions_for_which_a_model_has_no_room(tmp_path: Path):
    given = recipe(tmp_path)
    long = [{"q": " ".join(["w1"] * (23 if i % 2 else 21)), "a": "w2"} for i in range(60)]
    write_jsonl(tmp_path / "rows.jsonl", long)  # with <s> 24 tokens, which are all positions of the model, and 22
    data = {"max_length": 32, "views": {"hinted": {}}, "rollouts": {"keep": "all", "temperature": 1, "tokens": 2}}
    session = opened(
        tmp_path, {**given, "data": {**given["data"], **data}, "student": {**given["student"], "args": {**GPT, "n_positions": 32}}}
    )
    settled(session, session.phases[1])
    (counts,) = (json.loads(file.read_text()) for file in (tmp_path / "rollouts").glob("*.json"))
    assert counts["left_out"]["longer than the model reads"] == sum(replies is None for replies in lines(tmp_path, "written").values()) > 10


@pytest.mark.parametrize(("answer", "told"), [("w2", 0), ("w2 zebra", 1)])
def test_a_tokenizer_that_does_not_read_what_it_writes(tmp_path: Path, answer: str, told: int):
    given = recipe(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", [{"q": f"w{i % 5}", "a": answer} for i in range(60)])
    data = {"views": {"hinted": {}}, "rollouts": {"keep": "all", "samples": 1, "temperature": 1, "tokens": 2}}
    session = opened(tmp_path, {**given, "data": {**given["data"], **data}})
    heard = Heard()
    session.listener = heard
    settled(session, session.phases[1])
    start = f"distil: 39 of the first 39 replies of the data are read otherwise once the tokenizer has written them, such as {answer!r}"
    assert sum(text.startswith(f"{start}, which becomes 'w2'. So will be what teacher writes.") for text in heard.texts) == told
    assert sum("read otherwise" in text for text in heard.texts) == told


def test_pieces_of_words_that_stay_apart(tmp_path: Path):
    pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##music": 2, "now": 3}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]")
    assert misread(tokenizer, ["playmusic now", "now play"]) == [("playmusic now", "play ##music now")]
    pieces.decoder = decoders.WordPiece()
    assert misread(PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]"), ["playmusic now", "now play"]) == []


def test_the_file_of_another_run(whole: tuple[Path, Result], tmp_path: Path):
    """Live and with the file of a run: the same texts, so the same losses."""
    folder, result = whole
    (file,) = (path for path in (folder / "run" / "rollouts").glob("*.jsonl") if path.name.count(".") == 1)
    again = distill(recipe(folder), set={"data.rollouts": str(file)}, out=tmp_path / "run", device="cpu", report=False)
    assert not (tmp_path / "run" / "rollouts").exists()
    assert losses(tmp_path / "run") == losses(folder / "run")
    assert torch.equal(weights(again), weights(result))
    assert again.results["stages"][1]["rollouts"]["kept"] == len(kept(folder / "run"))


def test_stored_signals_are_those_of_the_live_teacher(tmp_path: Path):
    """The claim of the paper's code: the loss from what the teacher has said of its replies is the loss on the fly, to 1e-5."""
    given = recipe(tmp_path)
    given["stages"]["distil"] = {}  # a student of its own, so that both runs begin alike
    live = distill(given, out=tmp_path / "live", device="cpu", report=False)
    manifest = label(given, Labelling(tmp_path / "store", {"tokens": Signal((), "hidden", {"dtype": "fp32"})}, batch=8), device="cpu")
    assert manifest.examples == len(kept(tmp_path / "live"))
    (file,) = (path for path in (tmp_path / "store.teacher" / "rollouts").glob("*.jsonl") if path.name.count(".") == 1)
    assert read_replies(file) == kept(tmp_path / "live")
    stored = {**given, "teacher": {"kind": "stored", "path": str(tmp_path / "store"), "view": "hinted"}, "stages": {}}
    stored["data"] = {**given["data"], "rollouts": str(file)}
    found = distill(stored, out=tmp_path / "stored", device="cpu", report=False)
    assert losses(tmp_path / "stored") == pytest.approx(losses(tmp_path / "live"), abs=1e-5)
    assert torch.allclose(weights(found), weights(live), atol=1e-5)
    assert label(given, Labelling(tmp_path / "store", {}), device="cpu") == manifest


def test_an_encoder_decoder_writes_too(tmp_path: Path):
    t5: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    given = {**recipe(tmp_path), "task": "seq2seq_lm"}
    models = {"teacher": {"model": "hf:t5", "args": t5, "view": "hinted"}, "student": {"model": "hf:t5", "args": t5}}
    result = distill({**given, **models}, set={"stages.base.train.steps": 120}, out=tmp_path / "run", device="cpu", report=False)
    own = kept(tmp_path / "run")
    assert result.results["stages"][1]["train"] == len(own) > 3
    assert all(reply.completion.split()[-1] == reply.right.split()[-1] == f"w{reply.row % 5 + reply.row % 3 + 10}" for reply in own)


def test_what_it_will_cost(tmp_path: Path):
    found = plan(recipe(tmp_path), device="cpu", budget=0.05)
    assert [stage.name for stage in found.stages] == ["base", "distil"]
    assert any(note.startswith("distil: writing replies to all questions takes up to ") for note in found.notes)
    assert found.stores[0].examples > 0


# the check


def problems(folder: Path, **changes: Any) -> list[str]:
    try:
        found = preflight(load_recipe(recipe(folder), set=changes), allow_code=False, device="cpu").problems
    except RecipeError as error:
        found = error.problems
    return [f"{problem.key}: {problem.message}" for problem in found]


def test_a_good_recipe(tmp_path: Path):
    assert problems(tmp_path) == []
    assert problems(tmp_path, **{"data.rollouts.again": "hinted"}) == []
    assert problems(tmp_path, **{"data.rollouts.by": "student"}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.rollouts.by": "techer"}, "data.rollouts.by: no model of this recipe is called 'techer'. Did you mean 'teacher'?"),
        (
            {"data.rollouts.answer": "([0-9]"},
            "data.rollouts.answer: expected a regular expression, found '([0-9]': missing ), unterminated subpattern at position 0.",
        ),
        (
            {"evaluate.answer": None},
            'data.rollouts.answer: expected a pattern by which answers are found, such as answer: "#### (.+)" here or in `evaluate`, '
            "found nothing. With `keep: all` nothing is verified.",
        ),
        (
            {"data.rollouts.samples": 1},
            "data.rollouts.samples: expected 2 or more, of which one can be right and another wrong (`keep: mixed`), found 1; "
            "or say keep: right.",
        ),
        (
            {"data.rollouts.temperature": 0},
            "data.rollouts.temperature: expected a temperature above 0, at which 4 replies differ, found 0; or say samples: 1.",
        ),
        ({"data.rollouts.again.view": "hintd"}, "data.rollouts.again.view: no view of the data is called 'hintd'. Did you mean 'hinted'?"),
        (
            {"data.rollouts.view": "hinted"},
            "data.rollouts.view: the view 'hinted' names {right}, which is not there before the replies are written. Use it with `again`.",
        ),
        (
            {"data.rollouts.keep": "right"},
            "data.views.hinted.prompt: names {wrong}, and with data.rollouts.keep: right a question need not have one. Say keep: mixed.",
        ),
        (
            {"data.rollouts.keep": "all"},
            "data.rollouts.again: what is written again must be right, and with `keep: all` nothing is verified. Remove one of them.",
        ),
        (
            {"data.select": {"method": "random", "top": 5}},
            "data.rollouts: expected either `select` or `rollouts` in a stage, found both. Limit the questions with data.limit.",
        ),
        (
            {"data.rollouts.file": "kept.jsonl"},
            "data.rollouts.temperature: with `file` nothing is written, found `temperature`. Remove one of them.",
        ),
        (
            {"task": "masked_lm"},
            "data.rollouts: replies are written by models of causal_lm and seq2seq_lm, and this is masked_lm. Remove it.",
        ),
        (
            {"data.rollouts": None},
            "data.views.hinted.prompt: no column in data.views.hinted.prompt is called 'right'. Known: prompt, completion, q, a. "
            "{right} is there where replies are written: data.rollouts.",
        ),
        (
            {"data.views.hinted.prompt": "{rihgt} {q}"},
            "data.views.hinted.prompt: no column in data.views.hinted.prompt is called 'rihgt'. Did you mean 'right'?",
        ),
        (
            {"teacher": {"kind": "snapshot", "model": None, "args": None}, "stages": {"distil": {"start": None}, "base": None}},
            "data.rollouts.by: a teacher of kind 'snapshot' has no model of its own when the stage begins, so 'teacher' cannot write. "
            "Name 'student' with `by`.",
        ),
        (
            {"stages.distil.teacher": {"model": "hf:gpt2", "args": {**GPT, "n_layer": 2}}},
            "stages.distil.data.rollouts.by: a teacher that only this stage has is not there when the stage begins; name who writes "
            "under `models`, and here with `by`.",
        ),
        ({"data.rollouts.samples": 0}, "data.rollouts.samples: expected a number > 0, found 0."),
        ({"data.rollouts.keep": "some"}, "data.rollouts.keep: expected 'mixed', 'right' or 'all', found 'some'."),
        ({"data.rollouts.sample": 3}, "data.rollouts.sample: unknown key of rollouts (got 3). Did you mean 'samples'?"),
    ],
)
def test_what_the_check_says(tmp_path: Path, changes: dict[str, Any], expected: str):
    assert expected in problems(tmp_path, **changes)


def test_a_recipe_without_a_teacher_says_who_writes(tmp_path: Path):
    given = {**recipe(tmp_path), "teacher": None, "stages": {}, "objective": {"labels": "cross_entropy"}}
    with pytest.raises(RecipeError, match=r"no model of this recipe is called 'teacher'\. Known: student\. Name who writes with `by`"):
        load_recipe(given)
