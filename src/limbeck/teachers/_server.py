"""Asks a server that speaks OpenAI's protocol, such as vLLM: patiently, several questions at a time, with a key that is never told."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

from ..errors import LimbeckError

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Answers after which asking again may help."""
LONGEST = 60.0
"""Seconds between two attempts at most, unless the server asks for more."""
_SHOWN = 300


class ServerError(LimbeckError):
    """A server that cannot be reached, refuses, or answers something else than was asked."""


class _PassingError(Exception):
    """An attempt that failed in a way that may pass; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address that the user named and to no other."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follows nothing."""


@dataclass
class Server:
    """A server at an address.

    Args:
        url: address that ends before `/completions`, such as `http://localhost:8000/v1`.
        key_variable: environment variable with the key; where it is not set, none is sent.
        timeout: seconds that an attempt may take.
        retries: attempts after the first.
        pause: seconds before the second attempt at most; each further pause may be twice as long, and a random part of it is waited.
        concurrency: questions under way at a time.
    """

    url: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    retries: int = 8
    pause: float = 1.0
    concurrency: int = 8
    sleep: Callable[[float], object] = time.sleep
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ServerError(
                f"{self.url!r} is no address of a server; it begins with http:// or https://, such as http://localhost:8000/v1."
            )
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """The answer to a question, as `read` understands it.

        Args:
            path: after the address, such as `completions`.
            body: the question.
            read: what becomes of the answer; a `ValueError` that it raises counts as a broken answer, which is asked for again.

        Raises:
            ServerError: refused, or in vain after all attempts.
        """
        for attempt in range(self.retries + 1):
            try:
                return read(self._once(path, body))
            except (_PassingError, KeyError, IndexError, TypeError, ValueError) as error:
                reason = str(error) if isinstance(error, _PassingError) else f"it answered something else: {type(error).__name__}: {error}"
                if attempt == self.retries:
                    raise ServerError(f"{self.url}/{path}: in vain after {attempt + 1} attempts: {self._shown(reason)}") from None
                pause = self._random.uniform(0, min(LONGEST, self.pause * 2**attempt))
                self.sleep(max(pause, error.wait if isinstance(error, _PassingError) else 0.0))
        raise AssertionError("unreachable")

    def _once(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/{path}", json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - http(s) is checked
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            said = error.read(4 * _SHOWN).decode("utf-8", "replace") if error.fp is not None else ""
            reason = f"{error.code} {error.reason}: {said}".strip(": \n")
            if error.code in AGAIN:
                raise _PassingError(reason, _wait(error.headers.get("Retry-After"))) from None
            raise ServerError(f"{self.url}/{path}: the server refuses: {self._shown(reason)}") from None
        except json.JSONDecodeError as error:
            raise _PassingError(f"its answer is no JSON: {error}") from None
        except (urllib.error.URLError, HTTPException, OSError) as error:  # refused, reset, cut short, too slow
            raise _PassingError(f"{type(error).__name__}: {error}") from None

    def _shown(self, text: str) -> str:
        """A text of the server as it may be told: short, and never with the key."""
        key = os.environ.get(self.key_variable)
        return (text.replace(key, "***") if key else text)[:_SHOWN]

    def all(self, questions: Iterable[Callable[[], Any]]) -> Iterator[Any]:
        """The results of questions, in order, some of them under way at a time; the first error ends it."""
        halt = threading.Event()

        def one(question: Callable[[], Any]) -> Any:
            if halt.is_set():
                return None
            try:
                return question()
            except BaseException:
                halt.set()
                raise

        with ThreadPoolExecutor(self.concurrency) as pool:
            under_way = [pool.submit(one, question) for question in questions]
            try:
                for future in under_way:
                    yield future.result()
            finally:
                halt.set()


def _wait(text: str | None) -> float:
    """Seconds that `Retry-After` asks for: a number, or a date."""
    if not text:
        return 0.0
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


Row = tuple[list[int], list[float]]
"""Ids and log-probabilities of the likeliest tokens, largest first."""


def prompt_question(model: str, ids: Sequence[int], k: int, protocol: str) -> dict[str, Any]:
    """What asks for the likeliest tokens at every place of a text that is given as token ids."""
    body: dict[str, Any] = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 1.0}
    if protocol == "vllm":
        return {**body, "prompt_logprobs": k}
    return {**body, "echo": True, "logprobs": k, "return_tokens_as_token_ids": True}


def prompt_rows(answer: Any, ids: Sequence[int], k: int, protocol: str) -> tuple[list[Row], list[str | None]]:
    """The likeliest tokens at every place of the text (nothing at the first), and the server's word for each token of the text.

    Raises:
        ServerError: where the server has other tokens, or gives fewer than k.
        ValueError, KeyError, TypeError: an answer of another form.
    """
    choice = answer["choices"][0]
    entries = _vllm(choice) if protocol == "vllm" else _echo(choice, len(ids))
    if len(entries) != len(ids):
        raise ServerError(f"the server counts {len(entries)} tokens in a text of {len(ids)}: its tokens are not those of the data.")
    rows: list[Row] = []
    words: list[str | None] = []
    for place, (entry, token) in enumerate(zip(entries, ids, strict=True)):
        if not entry:
            if place:
                raise ServerError(f"the server gives no log-probabilities at token {place} of a text.")
            rows.append(([], []))
            words.append(None)
            continue
        if token not in entry:
            raise ServerError(
                f"the server reads another token than {token} at place {place} of a text: its tokens are not those of the data."
            )
        named = dict(entry)
        best = sorted(named, key=lambda own: (-named[own][0], own))[:k]
        if len(best) < k:
            raise ServerError(
                f"the server names {len(best)} tokens at a place, {k} were asked for. Lower `k`, or start it with --max-logprobs {k}."
            )
        rows.append((best, [entry[own][0] for own in best]))
        words.append(entry[token][1])
    return rows, words


Entry = dict[int, tuple[float, str | None]]


def _vllm(choice: Any) -> list[Entry | None]:
    given = choice.get("prompt_logprobs")
    if given is None:
        raise ServerError("the server gives no prompt_logprobs; is it vLLM? Another one may know `protocol: openai`.")
    return [
        None if entry is None else {int(token): (float(own["logprob"]), own.get("decoded_token")) for token, own in entry.items()}
        for entry in given
    ]


def _echo(choice: Any, count: int) -> list[Entry | None]:
    given = choice.get("logprobs")
    if not given or not given.get("top_logprobs"):
        raise ServerError(
            "the server gives no logprobs of the text itself (echo); a chat server cannot. Use `protocol: vllm`, or store answers."
        )
    found: list[Entry | None] = []
    for token, log_prob, top in zip(given["tokens"], given["token_logprobs"], given["top_logprobs"], strict=True):
        if top is None:
            found.append(None)
            continue
        found.append({_id(own): (float(value), None) for own, value in {**top, token: log_prob}.items()})
    return found[:count]


def _id(token: str) -> int:
    head, _, number = token.partition(":")
    if head != "token_id" or not number.isdigit():
        raise ServerError(
            f"the server names tokens by their text ({token!r}), which is no number of a token; it must know return_tokens_as_token_ids."
        )
    return int(number)
