"""Further views of texts: the same replies after other prompts, or read by another kind of model.

Whatever a view shows, the tokens that are to be predicted are those of the examples themselves, in the same order. So what a model says
of them is compared row by row, however long its prompt was, and whether a decoder read prompt and reply as one text or an encoder-decoder
as two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import DataError
from ...types import LanguageKind
from ..base import DataRequest
from ..views import ViewRequest
from .chat import encode_chats
from .columns import Records
from .documents import Collector, Documents
from .encode import Ends, Tally, ends, own_ends, pair, text_in
from .fit import fit
from .layout import whole
from .rows import CausalExamples, LanguageExamples, TokenRows
from .seq2seq import Seq2SeqExamples, start_token
from .template import Template
from .vocabulary import padding_token

SHOWN: tuple[LanguageKind, ...] = ("causal_lm", "seq2seq_lm")
"""Tasks whose examples may have further views."""
_IMAGES = ("transforms", "size", "columns", "array")
"""Keys of a view that mean nothing of texts."""
_UNCUT = 1 << 30


@dataclass(frozen=True)
class Shown:
    """What a view is made of.

    Attributes:
        name: of the view, for messages.
        cells: columns of the source.
    """

    name: str
    view: ViewRequest
    records: Records
    cells: Mapping[str, Sequence[Any]]
    tokenizer: Any
    request: DataRequest
    language: LanguageKind
    """What the task learns."""

    @property
    def where(self) -> str:
        """The view's key."""
        return f"data.views.{self.name}"

    @property
    def reads(self) -> LanguageKind:
        """How the view is read."""
        return self.view.task or self.language

    @property
    def max_length(self) -> int:
        """Most tokens of what is read."""
        if self.view.max_length is not None:
            return self.view.max_length
        return self.request.max_length * (2 if (self.reads, self.language) == ("causal_lm", "seq2seq_lm") else 1)


@dataclass(frozen=True)
class _Reply:
    """The reply of one document."""

    row: int
    ids: list[int]
    trained: list[bool]


def check_shown(shown: Shown) -> None:
    """Refuses what a view of texts cannot be.

    Raises:
        DataError: for the first such key.
    """
    view, where = shown.view, shown.where
    for key in _IMAGES:
        if getattr(view, key):
            raise DataError(f"{where}.{key} is not for language models; a view of texts has `prompt`, `task` and `max_length`. Remove it.")
    if shown.language not in SHOWN:
        raise DataError(f"data.views are for tasks in which a reply follows a prompt ({' and '.join(SHOWN)}), not for {shown.language}.")
    if shown.records.kind not in ("prompt", "chat"):
        raise DataError(
            f"{where}: a view is another prompt of the same reply, and these texts have none. Name the columns of both: "
            "data.columns: {prompt: NAME, completion: NAME}."
        )
    if shown.request.tokens.train_on == "all":
        raise DataError(
            f"{where}: a view is another prompt of the same reply, and data.train_on: all trains prompts, too. Remove one of them."
        )
    if shown.reads == "seq2seq_lm" and shown.records.kind == "chat":
        raise DataError(f"{where}.task: seq2seq_lm reads prompts with completions, and these are chats.")


def rendered(shown: Shown, own: LanguageExamples, tally: Tally) -> LanguageExamples:
    """What a view shows of the documents of a split, in their order.

    Args:
        shown: the view.
        own: the examples themselves, which say what the replies are.
        tally: counts what happened to prompts.

    Raises:
        DataError: where a reply would be other tokens than that of the examples, or has no room.
    """
    replies = own.replies
    if shown.records.kind == "chat":
        into = Collector()
        for ids, trained, row in _chats(shown, replies, tally):
            into.add(ids, trained, row)
        return CausalExamples(_rows(into.finish(), shown))
    template = None if shown.view.prompt is None else Template(shown.view.prompt, shown.cells, shown.records, f"{shown.where}.prompt")
    if shown.reads == "seq2seq_lm":
        return _two_texts(shown, replies, template, tally)
    return _one_text(shown, own, template, tally)


def _one_text(shown: Shown, own: LanguageExamples, template: Template | None, tally: Tally) -> CausalExamples:
    """Prompt and reply one after the other."""
    around, into = ends(shown.tokenizer, end=shown.request.tokens.end), Collector()
    if isinstance(own, Seq2SeqExamples):
        _check_start(shown, own, around)
    separator = shown.request.tokens.separator
    for reply in _replies(own.replies):
        prompt = _prompt(shown, template, reply.row)
        apart = Tally()
        first, second = pair(shown.tokenizer, prompt + separator if prompt else "", text_in(shown.records, "completion", reply.row), apart)
        if apart.counts or [*second, *around.after][: len(reply.ids)] != reply.ids:
            tally.add(f"whose reply the tokenizer writes otherwise after the prompt of view {shown.name!r}; it shows the student's tokens")
        head, kept = fit(around.before, first, len(reply.ids), shown.max_length)
        _check_room(shown, reply, head, kept)
        if len(head) < len(around.before) + len(first):
            tally.add(_cut(shown))
        into.add([*head, *reply.ids], bytearray([*bytes(len(head)), *reply.trained]), reply.row, len(head))
    return CausalExamples(_rows(into.finish(), shown))


def _two_texts(shown: Shown, replies: Documents, template: Template | None, tally: Tally) -> Seq2SeqExamples:
    """The prompt for an encoder, the reply for its decoder."""
    around, read, written = own_ends(shown.tokenizer), Collector(), Collector()
    room = shown.max_length - len(around.before) - len(around.after)
    for reply in _replies(replies):
        prompt = _prompt(shown, template, reply.row)
        body = shown.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"] if prompt else []
        if not body or room < 1:
            raise DataError(f"{shown.where}: row {reply.row + 1}: nothing is left for the encoder to read.")
        if len(body) > room:
            tally.add(_cut(shown))
        source = [*around.before, *body[-room:], *around.after]
        read.add(source, bytes(len(source)), reply.row)
        written.add(reply.ids, bytearray(reply.trained), reply.row)
    start = start_token(shown.tokenizer, shown.request.tokens.decoder_start)
    return Seq2SeqExamples(_rows(read.finish(), shown), _rows(written.finish(), shown), start)


def _chats(shown: Shown, replies: Documents, tally: Tally) -> Iterator[tuple[list[int], bytearray, int]]:
    """Chats as the template writes them, of which the same tokens are trained."""
    records, into = shown.records, Collector()
    if shown.view.prompt is not None:
        template = Template(
            shown.view.prompt, shown.cells, replace(records, cells={**records.cells, "prompt": []}), f"{shown.where}.prompt"
        )
        messages = list(records.cells["messages"])
        for row in replies.rows.tolist():
            messages[row] = _asked(shown, template, row)
        records = replace(records, cells={**records.cells, "messages": messages})
    encode_chats(records, replies.rows.tolist(), shown.tokenizer, shown.request.tokens, _UNCUT, into, Tally())
    found = into.finish()
    lengths = found.lengths.tolist()
    written = dict(zip(found.rows.tolist(), zip(found.ids.split(lengths), found.trained.split(lengths), strict=True), strict=True))
    nothing = (found.ids[:0], found.trained[:0])
    for reply in _replies(replies):
        tokens, flags = written.get(reply.row, nothing)
        wanted = [token for token, own in zip(reply.ids, reply.trained, strict=True) if own]
        places = flags.nonzero().flatten()[: len(wanted)].tolist()
        ids = tokens.tolist()
        theirs = [ids[place] for place in places]
        if theirs != wanted:
            raise DataError(_differs(shown, reply.row, wanted, theirs))
        ids = ids[: places[-1] + 1]
        start = max(len(ids) - shown.max_length, 0)
        if places[0] <= start:
            raise DataError(_no_room(shown, reply.row, len(ids) - places[0]))
        if start:
            tally.add(_cut(shown))
        trained = bytearray(len(ids))
        for place in places:
            trained[place] = 1
        yield ids[start:], trained[start:], reply.row


def _asked(shown: Shown, template: Template, row: int) -> list[dict[str, Any]]:
    """A chat in which the user says last what the template says."""
    messages = [dict(message) for message in shown.records.cells["messages"][row]]
    last = next((place for place in reversed(range(len(messages))) if messages[place]["role"] == "user"), None)
    if last is None:
        raise DataError(f"{shown.where}.prompt: row {row + 1}: nobody called `user` speaks in this chat, so there is no prompt to change.")
    messages[last]["content"] = template(row, prompt=str(messages[last]["content"]))
    return messages


def _prompt(shown: Shown, template: Template | None, row: int) -> str:
    return text_in(shown.records, "prompt", row) if template is None else template(row)


def _replies(documents: Documents) -> Iterator[_Reply]:
    """The reply of every document: what follows the prompt."""
    lengths = documents.lengths.tolist()
    columns = (documents.ids.split(lengths), documents.trained.split(lengths), documents.given.tolist(), documents.rows.tolist())
    for ids, trained, given, row in zip(*columns, strict=True):
        yield _Reply(row, ids[given:].tolist(), trained[given:].tolist())


def _rows(documents: Documents, shown: Shown) -> TokenRows:
    """A document a row."""
    left = shown.reads == "causal_lm" and (shown.request.tokens.padding or shown.tokenizer.padding_side) == "left"
    fill = padding_token(shown.tokenizer)
    return TokenRows(documents, whole(documents), fill=fill, max_length=shown.max_length, left=left, packed=False)


def _check_start(shown: Shown, own: Seq2SeqExamples, around: Ends) -> None:
    """The reply of an encoder-decoder must not begin with what a tokenizer puts before a text, which nobody writes after a prompt."""
    first = own.written.documents.ids[: len(around.before)].tolist()
    if around.before and first == around.before:
        names = "".join(shown.tokenizer.convert_ids_to_tokens(around.before))
        raise DataError(
            f"{shown.where}: the decoder writes {names} before each reply, which a model that reads prompt and reply as one text does not. "
            f"Begin with it instead: data.decoder_start: {names!r}."
        )


def _check_room(shown: Shown, reply: _Reply, head: list[int], kept: int) -> None:
    if kept < len(reply.ids):
        raise DataError(_no_room(shown, reply.row, len(reply.ids)))
    if not head and reply.trained[0]:
        raise DataError(f"{shown.where}: row {reply.row + 1}: nothing stands before the reply, whose first token is to be predicted.")


def _no_room(shown: Shown, row: int, tokens: int) -> str:
    return (
        f"{shown.where}: row {row + 1}: the reply has {tokens} tokens, which leaves no room for a prompt in {shown.max_length}. "
        f"Raise {shown.where}.max_length."
    )


def _cut(shown: Shown) -> str:
    return f"cut at the beginning of the prompt to the {shown.max_length} tokens of view {shown.name!r}"


def _differs(shown: Shown, row: int, mine: list[int], theirs: list[int]) -> str:
    place = next((i for i, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), min(len(mine), len(theirs)))
    words = [repr(shown.tokenizer.decode(ids[place : place + 1])) if place < len(ids) else "nothing" for ids in (mine, theirs)]
    return (
        f"{shown.where}: row {row + 1}: what is to be predicted must be the same tokens in every view. Token {place + 1} is {words[0]} for "
        f"the student and {words[1]} here: the chat template writes answers otherwise after this prompt."
    )
