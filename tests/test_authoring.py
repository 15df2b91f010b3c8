"""What teachers write, taken down: chat servers, models of this machine, prompts of every form, kills, faults; a student of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.authoring import Question, RemoteAuthor, read_questions, write_down
from limbeck.cli.main import main
from limbeck.errors import DataError, LimbeckError
from limbeck.evaluate.generation import Manner, drafts, greedy
from limbeck.teachers._server import Server, ServerError
from tests.language_data import save_tokenizer, write_jsonl
from tests.language_models import tiny
from tests.language_runs import LLAMA
from tests.runs import distill
from tests.teachers.test_remote import Served


def chatting(body: dict[str, Any]) -> dict[str, Any]:
    """A server that says its last turn backwards; long ones are cut off."""
    words = body["messages"][-1]["content"].split()
    cut = len(words) > body["max_tokens"]
    return {"choices": [{"message": {"content": " ".join(words[::-1])}, "finish_reason": "length" if cut else "stop"}]}


@pytest.fixture
def served():
    server = Served(chatting)
    yield server
    server.http.shutdown()
    server.http.server_close()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def backwards(questions: Sequence[Question]) -> list[str | None]:
    return [question.prompt[::-1] for question in questions]


def test_questions_of_a_file(tmp_path: Path):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    write_jsonl(tmp_path / "a.jsonl", [{"question": "one", "answer": "x"}, {"question": "two"}])
    assert read_questions(tmp_path / "a.jsonl") == [Question("one"), Question("two")]
    with pytest.raises(DataError, match=r"a.jsonl: row 2: 'answer' must be a text, or a list of messages .*, found NoneType"):
        read_questions(tmp_path / "a.jsonl", "answer")
    with pytest.raises(DataError, match=r"no column is called 'questio'. Did you mean 'question'"):
        read_questions(tmp_path / "a.jsonl", "questio")
    write_jsonl(tmp_path / "b.jsonl", [{"messages": turns}, {"messages": turns[:1]}])
    assert read_questions(tmp_path / "b.jsonl") == [Question(messages=(turns[0],))] * 2
    write_jsonl(tmp_path / "c.jsonl", [{"messages": turns[1:]}])
    with pytest.raises(DataError, match="row 1: 'messages' has no turn that could be answered"):
        read_questions(tmp_path / "c.jsonl")
    write_jsonl(tmp_path / "d.jsonl", [{"messages": [{"role": "user"}]}])
    with pytest.raises(DataError, match="with role and content, found list"):
        read_questions(tmp_path / "d.jsonl")
    write_jsonl(tmp_path / "e.jsonl", [{"body": "one"}])
    with pytest.raises(DataError, match=r"which column holds the prompts\? Name it with --column: body"):
        read_questions(tmp_path / "e.jsonl")
    with pytest.raises(DataError, match="no such file of prompts"):
        read_questions(tmp_path / "f.jsonl")


def test_a_line_for_every_answer_and_going_on(tmp_path: Path):
    out = tmp_path / "deep" / "out.jsonl"
    questions = [Question(text) for text in ("ab", "cd", "ab", "ef")]
    found = write_down(questions[:2], backwards, out, batch=1)
    assert (found.rows, found.asked, found.cut, found.empty) == (2, 2, 0, 0)
    out.write_bytes(out.read_bytes() + b'{"prompt": "ef", "comp')  # a kill in the middle of a line
    asked: list[str] = []

    def counting(some: Sequence[Question]) -> list[str | None]:
        asked.extend(question.prompt for question in some)
        return backwards(some)

    steps: list[tuple[int, int]] = []
    found = write_down(questions, counting, out, batch=1, told=lambda *step: steps.append(step))
    assert asked == ["ab", "ef"]
    assert steps == [(1, 2), (2, 2)]
    assert (found.rows, found.asked) == (4, 2)
    assert rows(out) == [{"prompt": text, "completion": text[::-1]} for text in ("ab", "cd", "ab", "ef")]
    assert write_down(questions, counting, out).asked == 0
    with pytest.raises(DataError, match=r'it answers other questions already, such as "cd"\. Name another --out'):
        write_down([questions[0]] * 2, backwards, out)
    out.write_text("nothing\n")
    with pytest.raises(DataError, match=r"out.jsonl:1: this is no line that limbeck generate wrote"):
        write_down(questions, backwards, out)


def test_line_breaks_within_a_text_end_no_line_of_the_file(tmp_path: Path):
    questions = [Question("a\u2028b"), Question("c\x85d\n")]
    write_down(questions, backwards, tmp_path / "out.jsonl")
    assert write_down(questions, backwards, tmp_path / "out.jsonl").asked == 0


def test_answers_that_are_cut_off_or_empty_are_left_out_and_asked_again(tmp_path: Path):
    questions = [Question(text) for text in ("a", "b", "c")]
    first = write_down(questions, lambda some: ["x", None, " \n"], tmp_path / "o.jsonl")
    assert (first.rows, first.asked, first.cut, first.empty) == (1, 3, 1, 1)
    second = write_down(questions, backwards, tmp_path / "o.jsonl")
    assert (second.rows, second.asked) == (3, 2)


def test_a_chat_server(served: Served, tmp_path: Path):
    author = RemoteAuthor(Server(served.url, retries=2, pause=0.001), "big", 3)
    served.first = [(429, {"Retry-After": "0"}, ""), '{"choices": [{"message": {"content": null}}]}']
    chat = Question(messages=({"role": "system", "content": "be brief"}, {"role": "user", "content": "x y"}))
    assert list(author([Question("a b"), chat, Question("a b c d")])) == ["b a", "y x", None]
    bodies = [body for body in served.asked if body["messages"][-1]["content"] == "x y"]
    assert bodies[-1] == {
        "model": "big",
        "messages": [*chat.messages],
        "max_tokens": 3,
        "temperature": 0.0,
        "path": "/v1/chat/completions",
    }
    write_down([chat], author, tmp_path / "o.jsonl")
    assert rows(tmp_path / "o.jsonl") == [{"messages": [*chat.messages, {"role": "assistant", "content": "y x"}]}]
    assert write_down([chat], author, tmp_path / "o.jsonl").asked == 0


def test_plain_completions(served: Served):
    served.answer = lambda body: {"choices": [{"text": f" {body['prompt']}!", "finish_reason": "stop"}]}
    author = RemoteAuthor(Server(served.url, retries=0), "big", 3, 1.0, chat=False)
    assert author([Question("hi")]) == [" hi!"]
    assert (served.asked[0]["path"], served.asked[0]["temperature"]) == ("/v1/completions", 1.0)
    with pytest.raises(DataError, match=r"these prompts are chats"):
        author([Question(messages=({"role": "user", "content": "x"},))])
    served.answer = lambda body: {"choices": []}
    with pytest.raises(ServerError, match="it answered something else"):
        author([Question("hi")])


def test_from_a_chat_server_to_a_student(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Sequence-level distillation: prompts, the server's answers, a student of them."""
    prompts = [{"prompt": f"w{i % 5} w{i % 7} w{i % 3}", "completion": "w1"} for i in range(60)]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)
    out = tmp_path / "answers.jsonl"
    words = [
        "generate",
        "--remote",
        served.url,
        "--served",
        "big",
        "--chat",
        "--prompts",
        str(tmp_path / "prompts.jsonl"),
        "--out",
        str(out),
    ]
    assert main(words) == 0
    assert "answered" in capsys.readouterr().out
    assert rows(out)[8] == {"prompt": "w3 w1 w2", "completion": "w2 w1 w3"}
    recipe = {
        "task": "causal_lm",
        "data": {"source": f"jsonl:{out}", "tokenizer": save_tokenizer(tmp_path / "tokenizer"), "max_length": 16, "separator": " "},
        "student": {"model": "hf:llama", "args": {**LLAMA, "num_hidden_layers": 1}},
        "objective": {"labels": "cross_entropy"},
        "train": {"steps": 30, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 0.02}},
    }
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    student = result.results["models"]["student"]
    assert student["metrics"]["nll"] < 2.5 < student["before"]["metrics"]["nll"]


# models of this machine


@pytest.fixture
def model(tmp_path: Path) -> Path:
    chat = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
    save_tokenizer(tmp_path / "model", chat=chat)
    torch.manual_seed(0)
    tiny("llama", vocab_size=45).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_by_reference(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.jsonl"
    assert main(["generate", "--model", f"hf:{model}", "--samples", "5", "--temperature", "1", "--tokens", "6", "--out", str(out)]) == 0
    first = rows(out)
    assert [list(row) for row in first] == [["text"]] * 5
    assert len({row["text"] for row in first}) > 1
    assert (
        main(["generate", "--model", f"hf:{model}", "--samples", "7", "--temperature", "1", "--tokens", "6", "--out", str(out), "--json"])
        == 0
    )
    assert rows(out)[:5] == first
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"rows": 7, "asked": 2, "cut": 0, "empty": 0}
    words = ["generate", "--model", f"hf:{model}", "--prompt", "w1 w2", "--tokens", "4", "--json"]
    assert main(words) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*words, "--chat"]) == 0
    assert json.loads(capsys.readouterr().out) != plain
    assert main([*words[:5], "--out", str(tmp_path / "cut.jsonl"), "--tokens", "1"]) == 0
    assert "1 answers were cut off at 1 tokens and left out" in capsys.readouterr().out


def test_the_command_draws_from_the_likeliest_tokens(model: Path, capsys: pytest.CaptureFixture[str], served: Served):
    words = ["generate", "--model", f"hf:{model}", "--prompt", "w1 w2", "--tokens", "6", "--json"]
    said: list[str] = []
    for more in ([], ["--temperature", "9", "--top-k", "1"], ["--temperature", "9"]):
        assert main([*words, *more]) == 0
        said += json.loads(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    words = ["generate", "--remote", served.url, "--served", "big", "--chat", "--prompt", "a", "--temperature", "1", "--top-k", "4"]
    assert main(words) == 0
    assert served.asked[0]["top_k"] == 4


def written(module: Any, prompts: list[torch.Tensor], **manner: Any) -> list[list[int]]:
    return [draft.ids for draft in drafts(module, prompts, Manner(8, **manner))]


def test_draws_are_those_of_the_seed_and_of_the_temperature():
    module = tiny("llama", vocab_size=45)
    prompts = [torch.tensor([1, 7]), torch.tensor([1, 8, 9])]
    before = torch.get_rng_state()
    first = written(module, prompts, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert written(module, prompts, seed=3) == first
    assert written(module, prompts, seed=4) != first
    assert written(module, prompts, temperature=0) == greedy(module, prompts, tokens=8)
    assert written(module, prompts, temperature=1e-4) == greedy(module, prompts, tokens=8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "x"], "who writes"),
        (["run", "--model", "hf:x", "--prompt", "x"], "who writes"),
        (["--remote", "http://x/v1", "--prompt", "x"], "--remote needs --served"),
        (["--model", "hf:x"], "what is it to go on from"),
        (["--model", "hf:x", "--prompts", "f.jsonl"], "what is it to go on from"),
        (["--model", "hf:x", "--samples", "3", "--prompt", "x", "--out", "o"], "what is it to go on from"),
        (["--remote", "http://x/v1", "--served", "a", "--samples", "3", "--out", "o"], "a server needs prompts"),
        (["--model", "hf:x", "--prompt", "x", "--temperature", "-1"], "--temperature must be 0 or more"),
        (["--model", "hf:x", "--prompt", "x", "--temperature", "1", "--top-k", "0"], "--top-k must be 1 or more"),
        (["--model", "hf:x", "--prompt", "x", "--top-k", "5"], "found the temperature 0, which always takes the likeliest"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_tokenizer_without_a_template(tmp_path: Path):
    from limbeck.generating import writer_of_model

    save_tokenizer(tmp_path / "model")
    tiny("llama", vocab_size=45).save_pretrained(tmp_path / "model")
    with pytest.raises(LimbeckError, match="the tokenizer has no chat template"):
        writer_of_model(f"hf:{tmp_path / 'model'}", None)([Question(messages=({"role": "user", "content": "w1"},))])


def test_the_story_teller_begins_as_it_is_known_to(shared: Path, capsys: pytest.CaptureFixture[str]):
    words = ["generate", "--model", f"llama2c:{shared}/stories260k/stories260K.bin", "--prompt", "Once upon", "--tokens", "40", "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)[0]
    assert said.startswith(" a time, there was a little girl named Lily. She loved to play outside in the park. One day,")


def test_a_student_of_stories_tells_as_its_teacher_does(shared: Path, tmp_path: Path):
    """A layer less, and texts that the teacher wrote: after a few updates it goes on as the teacher does, which it did not before."""
    from limbeck.generating import writer_of_model, writer_of_run

    reference = f"llama2c:{shared}/stories260k/stories260K.bin"
    teacher = writer_of_model(reference, None, tokens=48)
    teacher.temperature = 1.0
    write_down([Question()] * 64, teacher, tmp_path / "stories.jsonl")
    recipe = {
        "task": "causal_lm",
        "data": {"source": f"jsonl:{tmp_path / 'stories.jsonl'}", "tokenizer": f"{shared}/stories260k", "max_length": 48},
        "teacher": {"model": reference, "weights": "pretrained"},
        "student": {"from": "teacher", "shrink": [0, 1, 2, 4]},
        "objective": {"logits": {"loss": "kd", "temperature": 1}},
        "train": {"steps": 25, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 1e-3}},
        "evaluate": {"generations": 0},
    }
    result = distill(recipe, out=tmp_path / "run", device="cpu")
    student, theirs = (result.results["models"][name] for name in ("student", "teacher"))
    assert theirs["metrics"]["nll"] < student["metrics"]["nll"] < student["before"]["metrics"]["nll"] - 0.2
    assert writer_of_run(result.folder, tokens=6).answers(["Once upon"])[0].text.startswith(" a time")
