"""A causal language model on a server: vLLM, or another that gives the log-probabilities of a text in OpenAI's protocol.

The server is asked about the tokens of the data, by their ids; it names the likeliest tokens at every place, at temperature 1 whatever is
asked, so that another temperature is refused. What it says is best written down once: `limbeck label`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ..errors import LimbeckError, MissingDependency
from ..tokens import TopK
from ..types import Batch, NonNegativeInt, Positive, PositiveInt, Signals
from ._server import Row, Server, ServerError, prompt_question, prompt_rows
from .base import Setting, Teacher


@final
@dataclass(eq=False, kw_only=True)
class RemoteTeacher(Teacher):
    """Asks a server about every document of a batch."""

    source: ClassVar = "none"

    url: str
    """Address up to `/completions`, such as `http://localhost:8000/v1`."""
    served: str
    """Name of the model on the server."""
    k: PositiveInt = 20
    """Number of likeliest tokens to ask for; vLLM gives 20 at most, unless it was started with `--max-logprobs`."""
    protocol: Literal["vllm", "openai", "chat"] = "vllm"
    """`vllm` asks for `prompt_logprobs`, `openai` for `logprobs` with `echo`; `chat` is a server that only writes texts, which no loss
    compares: `limbeck generate --remote` writes them down as data."""
    temperature: float = 1.0
    """Served log-probabilities are those at temperature 1; anything else is refused."""
    tokenizer: str | None = None
    """Hub id or folder of the tokenizer whose words the server's are compared with; only ids are, where absent."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; it is sent to `url` and written nowhere."""
    timeout: Positive = 120.0
    """Seconds that an attempt may take."""
    retries: NonNegativeInt = 8
    """Attempts after the first, with growing pauses."""
    concurrency: PositiveInt = 8
    """Documents that are asked about at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature != 1:
            raise LimbeckError(
                f"teacher: temperature {self.temperature:g} was asked of a server, whose log-probabilities are those at temperature 1. "
                "Leave it out; a store of hidden states of a model on this machine knows every temperature."
            )
        self._server = Server(self.url, self.key_variable, self.timeout, self.retries, concurrency=self.concurrency)

    def open(self, setting: Setting) -> None:
        if self.protocol == "chat":
            raise LimbeckError(
                "a chat server writes texts and says no probabilities. Have it write once with `limbeck generate --remote`, and learn from "
                "what it wrote."
            )
        if setting.request.taps:
            raise LimbeckError(
                f"a teacher on a server has no layers, and the objective reads {', '.join(map(repr, setting.request.taps))}."
            )
        if setting.vocabulary is not None and self.k >= setting.vocabulary:
            raise LimbeckError(
                f"teacher.k: {self.k} tokens are asked for, and the tokenizer of the data has {setting.vocabulary}; ask for fewer."
            )
        self._device, self._view, self._vocabulary = setting.request.device, setting.view, setting.vocabulary
        self._word: Callable[[int], str] | None = None if self.tokenizer is None else _words(self.tokenizer)

    def signals(self, batch: Batch) -> Signals:
        batch = batch.shown(self._view)
        if batch.rows is None or batch.labels is None:
            raise LimbeckError("a teacher on a server speaks about the tokens of texts, and these data are none.")
        texts = _texts(batch)
        answers = list(self._server.all([partial(self._ask, ids) for ids, _, _ in texts]))
        ids = torch.zeros(len(batch.rows), self.k, dtype=torch.int64)
        log_probs = torch.zeros(len(batch.rows), self.k)
        for (_, rows, places), answer in zip(texts, answers, strict=True):
            named = [answer[place] for place in places]
            ids[rows] = torch.tensor([own for own, _ in named])
            log_probs[rows] = torch.tensor([value for _, value in named])
        if self._vocabulary is not None:
            _leave_out(ids, log_probs, self._vocabulary)
        return Signals(tokens=TopK(ids.to(self._device), _below_one(log_probs).to(self._device)))

    def meta(self, rows: int) -> TopK:
        """What is said of so many tokens, without values."""
        return TopK(torch.empty(rows, self.k, dtype=torch.int64, device="meta"), torch.empty(rows, self.k, device="meta"))

    def _ask(self, ids: list[int]) -> list[Row]:
        body = prompt_question(self.served, ids, self.k, self.protocol)
        rows, words = self._server.ask("completions", body, partial(self._checked, ids))
        if self._word is not None:
            for token, word in zip(ids, words, strict=True):
                if word is not None and "\ufffd" not in word and word != self._word(token):
                    raise ServerError(
                        f"token {token} is {word!r} on the server and {self._word(token)!r} in {self.tokenizer}: teacher and student need "
                        "the same tokenizer."
                    )
        return rows

    def _checked(self, ids: list[int], answer: Any) -> tuple[list[Row], list[str | None]]:
        rows, words = prompt_rows(answer, ids, self.k, self.protocol)
        if any(not math.isfinite(value) or value > 1e-3 for _, values in rows for value in values):
            raise ValueError("a log-probability is positive or no number")
        return rows, words


def server_at(url: str, *, key_variable: str = "OPENAI_API_KEY", timeout: float = 120.0, retries: int = 8, concurrency: int = 8) -> Server:
    """A server that is asked for texts; the fields are those of `RemoteTeacher`."""
    return Server(url, key_variable, timeout, retries, concurrency=concurrency)


def _below_one(log_probs: Tensor) -> Tensor:
    """Log-probabilities whose sum was not rounded to 1 or more."""
    excess = (log_probs.logsumexp(1, keepdim=True) - math.log1p(-1e-6)).clamp_min(0)
    return log_probs - excess


def _leave_out(ids: Tensor, log_probs: Tensor, vocabulary: int) -> None:
    """Takes out, in place, tokens beyond the tokenizer, which a server names whose model's head has rows that are no words.

    The others share their probability in proportion. In their place stand tokens that were not named, each with an even part of the rest.
    """
    beyond = ids >= vocabulary
    for row in beyond.any(1).nonzero().flatten().tolist():
        kept = ~beyond[row]
        named, said = ids[row, kept], log_probs[row, kept] - torch.log1p(-log_probs[row, ~kept].exp().sum().clamp_max(1 - 1e-6))
        unnamed = torch.tensor([token for token in range(ids.shape[1]) if token not in named.tolist()])[: ids.shape[1] - len(named)]
        share = (1 - said.exp().sum()).clamp_min(1e-6) / (vocabulary - len(named))
        ids[row], log_probs[row] = torch.cat([named, unnamed]), torch.cat([said, share.log().expand(len(unnamed))])


def _texts(batch: Batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Ids of every document of a batch, the rows that belong to it, and the place of each row's target in it.

    Raises:
        LimbeckError: where a row's target is not the token after it.
    """
    inputs = batch.inputs["input_ids"].cpu()
    mask = batch.inputs["attention_mask"].cpu() if "attention_mask" in batch.inputs else torch.ones_like(inputs)
    segments = batch.inputs["segments"].cpu() if "segments" in batch.inputs else torch.zeros_like(inputs)
    width = inputs.shape[1]
    rows, labels = batch.rows.cpu(), batch.labels.cpu()  # pyright: ignore[reportOptionalMemberAccess] - the caller has looked
    line, column = rows // width, rows % width
    found = []
    for number in line.unique().tolist():
        own = torch.nonzero(line == number).flatten()
        of_row = segments[number][column[own]]
        for segment in of_row.unique().tolist():
            places = torch.nonzero((mask[number] != 0) & (segments[number] == segment)).flatten()
            picked = own[of_row == segment]
            target = torch.searchsorted(places, column[picked]) + 1
            ids = inputs[number][places]
            if int(target.max()) >= len(ids) or not torch.equal(ids[target], labels[picked]):
                raise LimbeckError("a teacher on a server speaks about the next token of a text; this task asks about others.")
            found.append((ids.tolist(), picked.tolist(), target.tolist()))
    return found


def _words(reference: str) -> Callable[[int], str]:
    """What a token is in words."""
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependency("transformers", "text", "comparing tokenizers") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(reference)
    except (OSError, ValueError) as error:
        raise LimbeckError(f"teacher.tokenizer: {reference} cannot be loaded: {error}") from None
    return lambda token: tokenizer.decode([token])
