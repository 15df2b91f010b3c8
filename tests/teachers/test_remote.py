"""A teacher on a server: what it is asked, what it may answer, and what happens when it does not."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.teachers._server import Server, ServerError, _wait
from limbeck.teachers.base import Setting, TeacherRequest
from limbeck.teachers.remote import RemoteTeacher
from limbeck.tokens import TopK
from limbeck.types import Batch

VOCABULARY = 45
IDS = torch.tensor([[5, 9, 2, 7], [3, 3, 8, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def batch(**extra: torch.Tensor) -> Batch:
    return Batch(
        {"input_ids": IDS, "attention_mask": MASK, **extra},
        torch.tensor([9, 7, 3, 8]),
        torch.arange(2),
        rows=torch.tensor([0, 2, 4, 5]),
    )


def log_probs(ids: list[int], place: int) -> torch.Tensor:
    """What the served model says of the token at `place`, from all before it."""
    seed = sum((i + 1) * own for i, own in enumerate(ids[:place]))
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(0)


def vllm(body: dict[str, Any]) -> dict[str, Any]:
    ids, k = body["prompt"], body["prompt_logprobs"]
    entries: list[Any] = [None]
    for place in range(1, len(ids)):
        said = log_probs(ids, place)
        named = {*said.topk(k).indices.tolist(), ids[place]}
        entries.append({str(i): {"logprob": float(said[i]), "rank": 1, "decoded_token": f"w{i}"} for i in named})
    return {"choices": [{"text": "x", "prompt_logprobs": entries}]}


def echo(body: dict[str, Any]) -> dict[str, Any]:
    ids, k = body["prompt"], body["logprobs"]
    said = [log_probs(ids, place) for place in range(1, len(ids))]
    top = [None, *[{f"token_id:{i}": float(row[i]) for i in row.topk(k).indices.tolist()} for row in said], {"token_id:1": -0.1}]
    return {
        "choices": [
            {
                "logprobs": {
                    "tokens": [*[f"token_id:{i}" for i in ids], "token_id:1"],
                    "token_logprobs": [None, *[float(row[i]) for row, i in zip(said, ids[1:], strict=True)], -0.1],
                    "top_logprobs": top,
                }
            }
        ]
    }


Answer = Callable[[dict[str, Any]], Any]


class Served:
    """A server whose first answers are given one by one; then it answers as it should."""

    def __init__(self, answer: Answer = vllm) -> None:
        self.answer, self.first, self.asked, self.headers = answer, list[Any](), list[dict[str, Any]](), list[dict[str, str]]()
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.asked.append({**body, "path": self.path})
                    outer.headers.append(dict(self.headers))
                    said = outer.first.pop(0) if outer.first else None
                with suppress(OSError):  # who asked may have gone
                    outer.reply(self, body, said)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reply(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], said: Any) -> None:
        if said == "drop":
            handler.connection.close()
            return
        if callable(said):
            said = said(body)
        code, headers, text = (
            said if isinstance(said, tuple) else (200, {}, said if isinstance(said, str) else json.dumps(said or self.answer(body)))
        )
        raw = text.encode()
        handler.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(raw))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.http.shutdown()
    found.http.server_close()


def teacher(served: Served, **fields: Any) -> RemoteTeacher:
    vocabulary = fields.pop("vocabulary", None)
    made = RemoteTeacher(**{"url": served.url, "served": "big", "k": 4, "timeout": 5.0, **fields})
    made._server.pause = 0.0
    made.open(Setting(TeacherRequest((), True, torch.device("cpu")), call=lambda model, batch: None, vocabulary=vocabulary))  # type: ignore[arg-type, return-value]
    return made


def expected(k: int = 4) -> torch.Tensor:
    return torch.stack([log_probs(ids, place) for ids, place in (([5], 1), ([5, 9, 2], 3), ([3], 1), ([3, 3], 2))]).topk(k).values


@pytest.mark.parametrize(("protocol", "answer"), [("vllm", vllm), ("openai", echo)])
def test_every_row_gets_the_distribution_of_its_own_target(served, protocol, answer):
    served.answer = answer
    said = teacher(served, protocol=protocol).signals(batch()).tokens
    assert isinstance(said, TopK)
    assert said.temperature == 1
    torch.testing.assert_close(said.log_probs, expected())
    rows = [log_probs([5], 1), log_probs([5, 9, 2], 3), log_probs([3], 1), log_probs([3, 3], 2)]
    assert torch.equal(said.ids, torch.stack(rows).topk(4).indices)
    asked = sorted(served.asked, key=lambda own: own["prompt"])
    assert [own["prompt"] for own in asked] == [[3, 3, 8], [5, 9, 2, 7]]
    assert {own["model"] for own in asked} == {"big"}
    assert {own["path"] for own in asked} == {"/v1/completions"}
    assert {own["temperature"] for own in asked} == {1.0}
    assert all(own.get("prompt_logprobs") == 4 or (own["logprobs"] == 4 and own["echo"]) for own in asked)


def test_packed_and_left_padded_documents_are_asked_one_by_one(served):
    ids = torch.tensor([[0, 5, 9, 2, 3, 3, 8]])
    segments, mask = torch.tensor([[-1, 0, 0, 0, 1, 1, 1]]), torch.tensor([[0, 1, 1, 1, 1, 1, 1]])
    packed = Batch(
        {"input_ids": ids, "attention_mask": mask, "segments": segments},
        torch.tensor([2, 3, 8]),
        torch.arange(1),
        rows=torch.tensor([2, 4, 5]),
    )
    said = teacher(served).signals(packed).tokens
    assert sorted(own["prompt"] for own in served.asked) == [[3, 3, 8], [5, 9, 2]]
    rows = [log_probs([5, 9], 2), log_probs([3], 1), log_probs([3, 3], 2)]
    assert isinstance(said, TopK)
    assert torch.equal(said.ids, torch.stack(rows).topk(4).indices)


def test_rows_of_its_head_that_are_no_words_are_left_out(served):
    """The words share what these had; in their place stand tokens that were not named, with an even part of the rest."""

    def beyond(body: dict[str, Any]) -> dict[str, Any]:
        entries = vllm(body)["choices"][0]["prompt_logprobs"]
        named = {7: 0.4, 50: 0.2, 3: 0.2, 45: 0.1}
        last = {**{str(token): {"logprob": math.log(share)} for token, share in named.items()}, "2": {"logprob": math.log(0.01)}}
        return {
            "choices": [{"prompt_logprobs": [last if token == 2 else entry for token, entry in zip(body["prompt"], entries, strict=True)]}]
        }

    served.answer = beyond
    given = replace(batch(), labels=torch.tensor([9, 2, 3, 8]), rows=torch.tensor([0, 1, 4, 5]))
    said = teacher(served, vocabulary=VOCABULARY).signals(given).tokens
    assert isinstance(said, TopK)
    assert said.ids[1].tolist() == [7, 3, 0, 1]
    torch.testing.assert_close(said.log_probs[1].exp(), torch.tensor([0.4, 0.2, 0.1 / 43, 0.1 / 43]) / 0.7)
    torch.testing.assert_close(said.log_probs[0], expected()[0])


def test_more_tokens_than_there_are(served):
    with pytest.raises(LimbeckError, match=r"teacher.k: 45 tokens are asked for, and the tokenizer of the data has 45; ask for fewer."):
        teacher(served, k=45, vocabulary=VOCABULARY)


FAILURES = {
    "429": (429, {"Retry-After": "0"}, "slow down"),
    "500": (500, {}, "oops"),
    "503": (503, {}, ""),
    "no JSON": "{not json",
    "cut short": (200, {"Content-Length": "99999"}, '{"choices": ['),
    "dropped": "drop",
    "another form": {"nothing": 1},
    "a form within": {"choices": [{"prompt_logprobs": [None, {"x": 1}]}]},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_passes_is_asked_again(served, failure):
    served.first = [FAILURES[failure], FAILURES[failure]]
    said = teacher(served).signals(batch()).tokens
    assert isinstance(said, TopK)
    torch.testing.assert_close(said.log_probs, expected())
    assert len(served.asked) == 4


@pytest.mark.parametrize("failure", FAILURES)
def test_what_does_not_pass_is_told(served, failure):
    served.first = [FAILURES[failure]] * 99
    with pytest.raises(ServerError, match=r"/v1/completions: in vain after 3 attempts: "):
        teacher(served, retries=2, concurrency=1).signals(batch())
    assert len(served.asked) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_is_not_asked_again(served, code):
    served.first = [(code, {}, '{"message": "no such model"}')]
    with pytest.raises(ServerError, match=rf"the server refuses: {code} .*no such model"):
        teacher(served, concurrency=1).signals(batch())
    assert len(served.asked) == 1


def test_a_server_that_is_not_there():
    server = Server("http://127.0.0.1:9", retries=1, pause=0.0, timeout=1.0)
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9/completions: in vain after 2 attempts: URLError"):
        server.ask("completions", {})


def test_a_slow_server_is_given_up(served):
    halt = threading.Event()
    served.first = [lambda body: halt.wait(3) and None]
    server = Server(served.url, retries=0, timeout=0.1)
    with pytest.raises(ServerError, match=r"in vain after 1 attempts: .*timed out"):
        server.ask("completions", {"prompt": [1, 2], "prompt_logprobs": 1})
    halt.set()


def test_pauses_grow_with_jitter_and_heed_the_server(served):
    waited: list[float] = []
    served.first = [FAILURES["500"]] * 4 + [(429, {"Retry-After": "30"}, "")] + [(503, {"Retry-After": "nonsense"}, "")]
    server = Server(served.url, retries=6, pause=2.0, sleep=waited.append)
    server._random.seed(1)
    server.ask("completions", {"prompt": [1, 2], "prompt_logprobs": 1})
    assert len(waited) == 6
    assert all(0 <= own <= 2.0 * 2**attempt for attempt, own in enumerate(waited[:4]))
    assert len(set(waited)) == 6
    assert waited[4] >= 30
    assert waited[5] <= 60


def test_retry_after_may_be_a_date():
    assert _wait("3") == 3
    assert _wait("-3") == 0
    assert _wait(None) == 0
    assert _wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _wait("Wed, 21 Oct 2995 07:28:00 GMT") > 1e9


def wrong_token(body: dict[str, Any]) -> Any:
    answer = vllm(body)
    answer["choices"][0]["prompt_logprobs"][1] = {
        "49": {"logprob": -0.1},
        "48": {"logprob": -1},
        "47": {"logprob": -2},
        "46": {"logprob": -3},
    }
    return answer


def shorter(body: dict[str, Any]) -> Any:
    answer = vllm(body)
    answer["choices"][0]["prompt_logprobs"].pop()
    return answer


def hole(body: dict[str, Any]) -> Any:
    answer = vllm(body)
    answer["choices"][0]["prompt_logprobs"][2] = None
    return answer


def few(body: dict[str, Any]) -> Any:
    return vllm({**body, "prompt_logprobs": 1})


def words(body: dict[str, Any]) -> Any:
    return json.loads(json.dumps(echo({**body, "logprobs": 4})).replace("token_id:", ""))


WRONG = {
    "another token": (wrong_token, "reads another token than 9 at place 1 of a text: its tokens are not those of the data"),
    "another count": (shorter, "counts 3 tokens in a text of 4: its tokens are not those of the data"),
    "no log-probabilities": (hole, "gives no log-probabilities at token 2"),
    "no prompt_logprobs": (lambda body: {"choices": [{"text": "x"}]}, "gives no prompt_logprobs; is it vLLM"),
    "too few": (few, r"names \d tokens at a place, 4 were asked for. Lower `k`, or start it with --max-logprobs 4"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_can_never_be_right_is_told_at_once(served, fault):
    served.answer, message = WRONG[fault]
    with pytest.raises(ServerError, match=message):
        teacher(served, concurrency=1).signals(batch())
    assert len(served.asked) == 1


def test_tokens_that_are_named_by_their_text_are_refused(served):
    served.answer = words
    with pytest.raises(ServerError, match=r"names tokens by their text \('\d+'\)"):
        teacher(served, protocol="openai", concurrency=1).signals(batch())
    served.answer = vllm
    served.first = [{"choices": [{"text": "x", "logprobs": None}]}]
    with pytest.raises(ServerError, match=r"no logprobs of the text itself \(echo\)"):
        teacher(served, protocol="openai", concurrency=1).signals(batch())


def test_words_of_another_tokenizer_are_refused(served):
    asked = teacher(served, concurrency=1)
    asked._word = lambda token: f"w{token}"
    asked.signals(batch())
    asked.tokenizer, asked._word = "small", lambda token: f"v{token}"
    with pytest.raises(ServerError, match="token 9 is 'w9' on the server and 'v9' in small: teacher and student need the same tokenizer"):
        asked.signals(batch())


def test_a_positive_log_probability_is_a_broken_answer(served):
    def positive(body: dict[str, Any]) -> Any:
        answer = vllm(body)
        next(iter(answer["choices"][0]["prompt_logprobs"][1].values()))["logprob"] = 0.5
        return answer

    served.first = [positive]
    teacher(served, concurrency=1).signals(batch())
    assert len(served.asked) == 3


def test_the_key_is_sent_and_never_told(served, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cret")
    teacher(served, key_variable="MY_KEY").signals(batch())
    assert {own["Authorization"] for own in served.headers} == {"Bearer s3cret"}
    served.first = [(401, {}, "Bearer s3cret is not allowed")]
    with pytest.raises(ServerError, match=r"401 Unauthorized: Bearer \*\*\* is not allowed") as told:
        teacher(served, key_variable="MY_KEY", concurrency=1).signals(batch())
    assert "s3cret" not in repr(told.value)
    monkeypatch.delenv("MY_KEY")
    teacher(served, key_variable="MY_KEY").signals(batch())
    assert "Authorization" not in served.headers[-1]


def test_a_redirection_is_not_followed_with_the_key(served):
    other = Served()
    served.first = [(302, {"Location": other.url}, "")]
    with pytest.raises(ServerError, match="the server refuses: 302"):
        teacher(served, concurrency=1).signals(batch())
    assert other.asked == []
    other.http.shutdown()
    other.http.server_close()


def test_no_more_than_so_many_are_asked_at_a_time(served):
    barrier = threading.Barrier(2, timeout=60)
    served.first = [lambda body: vllm(body) if barrier.wait() >= 0 else None] * 2
    teacher(served, concurrency=2).signals(batch())
    alone = teacher(served, concurrency=1)
    under_way: list[int] = []
    once = alone._server._once

    def counted(path: str, body: Any) -> Any:
        under_way.append(1)
        assert len(under_way) == 1
        answer = once(path, body)
        under_way.clear()
        return answer

    alone._server._once = counted  # type: ignore[method-assign]
    alone.signals(batch())


def test_other_temperatures_layers_and_tasks_are_refused(served):
    with pytest.raises(LimbeckError, match="temperature 2 was asked of a server, whose log-probabilities are those at temperature 1"):
        teacher(served, temperature=2.0)
    with pytest.raises(LimbeckError, match="has no layers, and the objective reads 'layer1'"):
        RemoteTeacher(url=served.url, served="big").open(
            Setting(TeacherRequest(("layer1",), True, torch.device("cpu")), call=lambda model, batch: None)  # type: ignore[arg-type, return-value]
        )
    with pytest.raises(LimbeckError, match="speaks about the tokens of texts"):
        teacher(served).signals(Batch(IDS, None, torch.arange(2)))
    masked = batch()
    masked.labels = torch.tensor([9, 2, 3, 8])
    with pytest.raises(LimbeckError, match="speaks about the next token of a text; this task asks about others"):
        teacher(served).signals(masked)
    with pytest.raises(ServerError, match="is no address of a server"):
        RemoteTeacher(url="localhost:8000", served="big")


def test_probabilities_that_round_to_one_leave_a_tail(served):
    sure = {
        "choices": [
            {"prompt_logprobs": [None, *[{str(i): {"logprob": 0.0 if i == t else -50.0} for i in (t, 40, 41, 42)} for t in (9, 2, 7)]]}
        ]
    }
    served.first = [lambda body: sure if body["prompt"][0] == 5 else None] * 2
    said = teacher(served).signals(batch()).tokens
    assert isinstance(said, TopK)
    assert (said.log_probs.exp().sum(1) < 1).all()
    assert said.log_probs[0, 0] > -1e-5
