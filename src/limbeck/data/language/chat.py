"""Chats as tokens, of which those that the assistant says are trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from .columns import Records
from .documents import Collector
from .encode import EMPTY, UNTRAINED, Tally, add_cut
from .request import TokenRequest

ASSISTANT = "assistant"
_TAG = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
"""The tags of Jinja by which a template itself marks what the assistant says."""
_BEGIN, _END = "\ue000", "\ue001"
"""Characters without a meaning that stand for these tags for a moment."""


def template_of(tokenizer: Any, request: TokenRequest) -> str:
    """The chat template: of the file that is named, else the tokenizer's.

    Raises:
        DataError: there is none, or the file cannot be read.
    """
    if request.chat_template is not None:
        try:
            return Path(request.chat_template).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise DataError(f"data.chat_template {request.chat_template!r} cannot be read: {error}") from error
    own = tokenizer.chat_template
    if isinstance(own, str):
        return own
    if isinstance(own, dict) and "default" in own:
        return own["default"]
    raise DataError(
        "data.columns: the tokenizer has no chat template, so messages cannot be written as text. Set data.chat_template to a file with "
        "one, or give prompt and completion."
    )


def encode_chats(
    records: Records, rows: Sequence[int], tokenizer: Any, request: TokenRequest, max_length: int, into: Collector, tally: Tally
) -> None:
    """Chats, cut to `max_length`; without `train_on: all` only what the assistant says is trained, and the token that ends it.

    Raises:
        DataError: a row that is no chat, or a template in which the answers cannot be found.
    """
    if not tokenizer.is_fast:
        raise DataError("chats need a fast tokenizer (tokenizer.json), which says where its tokens stand in the text.")
    writer = Writer(tokenizer, template_of(tokenizer, request), records.where)
    for row in rows:
        messages = messages_in(records, row)
        if not messages:
            tally.add(EMPTY)
            continue
        text = writer.text(messages, row)
        tally.step(len(text))
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = encoded["input_ids"]
        if request.train_on == "all":
            trained = bytearray(b"\1") * len(ids)
        elif not any(message["role"] == ASSISTANT for message in messages):
            tally.add(UNTRAINED)
            continue
        elif writer.marks:
            trained = _marked(writer.marked(messages, text, row), ids, encoded["offset_mapping"], writer.special)
        else:
            trained = _within(writer.answers(messages, text, row), ids, encoded["offset_mapping"], writer.special)
        trained[:1] = b"\0"
        add_cut(ids, trained, row, max_length, into, tally)


class Writer:
    """Writes chats as text by a template.

    Args:
        tokenizer: of transformers.
        template: Jinja.
        where: names the source in messages.
    """

    def __init__(self, tokenizer: Any, template: str, where: str) -> None:
        self.tokenizer, self.template, self.where = tokenizer, template, where
        self.marks = _TAG.search(template) is not None
        self.special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}

    def text(self, messages: Sequence[dict[str, Any]], row: int, *, prompt: bool = False, template: str | None = None) -> str:
        """A chat as text; with `prompt` as far as the assistant is to go on.

        Raises:
            DataError: the template refuses the chat.
        """
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), chat_template=template or self.template, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # templates are programs, which raise what they like
            raise DataError(f"{self.where}: row {row + 1}: the chat template cannot write this chat: {error}") from error

    def marked(self, messages: Sequence[dict[str, Any]], whole: str, row: int) -> list[tuple[int, int]]:
        """Where in `whole` the template marks what the assistant says.

        Raises:
            DataError: where marks cannot be told from the text.
        """

        def shown(tag: re.Match[str]) -> str:
            return f"{{%{tag[1]} if true %}}{_END if tag[2] else _BEGIN}{{% endif {tag[3]}%}}"

        spans: list[tuple[int, int]] = []
        text, begin = "", 0
        for part in re.split(f"([{_BEGIN}{_END}])", self.text(messages, row, template=_TAG.sub(shown, self.template))):
            if part == _BEGIN:
                begin = len(text)
            elif part == _END:
                spans.append((begin, len(text)))
            else:
                text += part
        if text != whole:
            raise DataError(f"{self.where}: row {row + 1}: the chat template writes another text when it marks the answers. Mend it.")
        return spans

    def answers(self, messages: Sequence[dict[str, Any]], whole: str, row: int) -> list[tuple[int, int]]:
        """Where in `whole` the assistant speaks: after the prompt of every answer, up to the end of it.

        Raises:
            DataError: where the chat up to there is not how the whole begins, so that the answers cannot be found.
        """
        spans: list[tuple[int, int]] = []
        for turn, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before, after = self.text(messages[:turn], row, prompt=True), self.text(messages[: turn + 1], row)
            if not whole.startswith(before) or not whole.startswith(after) or len(after) < len(before):
                raise DataError(
                    f"{self.where}: row {row + 1}: the chat template writes the first {turn + 1} messages otherwise when more follow, so "
                    "the answers cannot be found in the text. Use a template that marks them ({% generation %}), data.train_on: all, "
                    "or a chat for every answer."
                )
            spans.append((len(before), len(after)))
        return spans


def _marked(spans: list[tuple[int, int]], ids: list[int], offsets: list[tuple[int, int]], special: set[int]) -> bytearray:
    """Which tokens begin in one of the spans that the template marks, with the special token that ends each."""
    trained = bytearray(len(ids))
    for start, stop in spans:
        inside = [place for place, (begin, end) in enumerate(offsets) if start <= begin < stop and end > begin]
        for place in inside:
            trained[place] = 1
        if inside and ids[inside[-1]] not in special and ids[inside[-1] + 1 : inside[-1] + 2] and ids[inside[-1] + 1] in special:
            trained[inside[-1] + 1] = 1
    return trained


def _within(spans: list[tuple[int, int]], ids: list[int], offsets: list[tuple[int, int]], special: set[int]) -> bytearray:
    """Which tokens lie in one of the spans of the text; of white space behind the last special token of a span, none."""
    trained = bytearray(len(ids))
    for start, stop in spans:
        inside = [place for place, (begin, end) in enumerate(offsets) if start <= begin < stop and end > begin]
        ends = [place for place in inside if ids[place] in special]
        # What follows the end of an answer is written by the template for the next turn.
        last = ends[-1] if ends else inside[-1] if inside else -1
        for place in inside:
            trained[place] = place <= last
    return trained


def messages_in(records: Records, row: int) -> list[dict[str, Any]]:
    """The chat of a row, empty where there is none.

    Raises:
        DataError: it is no list of messages with a role and a content.
    """
    cell = records.cells["messages"][row]
    where = f"{records.where}: row {row + 1}: {records.names['messages']!r}"
    if cell is None:
        return []
    if not isinstance(cell, list | tuple):
        raise DataError(f"{where} must be a list of messages, found {type(cell).__name__} {str(cell)[:40]!r}.")
    for number, message in enumerate(cell):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            found = (
                f"a mapping with {', '.join(map(str, message))}" if isinstance(message, dict) else f"{type(message).__name__} {message!r}"
            )
            raise DataError(f"{where}: message {number + 1} must be a mapping with role and content, found {found}.")
        if message["role"] == ASSISTANT and not isinstance(message["content"], str):
            raise DataError(f"{where}: the content of message {number + 1} must be a text, found {type(message['content']).__name__}.")
    return list(cell)
