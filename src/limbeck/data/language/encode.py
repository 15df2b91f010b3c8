"""Texts, and prompts with their answers, as tokens."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError
from .columns import Records
from .documents import Collector
from .fit import fit
from .request import TokenRequest

EVERY = 10.0
"""Seconds between two words about how far it is."""
_AT_ONCE = 1 << 18
"""Characters that are tokenised in one call, so that what a tokenizer holds beside the tokens stays small."""


@dataclass
class Pace:
    """Says how far the tokens of a part are, at most every `EVERY` seconds."""

    told: Callable[[str], None]
    part: str
    whole: int
    """Characters of the part; 0 where that is not known before."""
    clock: Callable[[], float] = time.monotonic
    _done: int = 0
    _last: float = field(default=-1.0)

    def step(self, characters: int) -> None:
        """So many characters were tokenised."""
        self._done += characters
        now = self.clock()
        if self._last < 0:
            self._last = now
        if now - self._last < EVERY:
            return
        self._last = now
        share = f" ({min(self._done / self.whole, 1):.0%})" if self.whole else ""
        self.told(f"{self.part}: {self._done / 1e6:.1f} million characters tokenised{share}.")


@dataclass
class Tally:
    """What happened to the documents of a part, for notes."""

    counts: dict[str, int] = field(default_factory=dict)
    pace: Pace | None = None
    """Who is told how far it is, where it takes long."""

    def step(self, characters: int) -> None:
        """So many characters were tokenised."""
        if self.pace is not None:
            self.pace.step(characters)

    def add(self, what: str, number: int = 1) -> None:
        """Counts `number` more of `what`."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def notes(self, part: str) -> list[str]:
        """A sentence for everything that happened."""
        return [f"{part}: {number:,} {'document' if number == 1 else 'documents'} {what}." for what, number in self.counts.items()]


EMPTY = "without text left out"
UNTRAINED = "without a token to train left out"
CUT = "cut to max_length"
CUT_PROMPTS = "cut to max_length at the beginning of the prompt"
WINDOWS = "longer than max_length read in windows"
APART = "where prompt and completion would share a token; they were tokenised apart"


@dataclass(frozen=True)
class Ends:
    """What stands before and after the tokens of a text."""

    before: list[int]
    after: list[int]


def own_ends(tokenizer: Any) -> Ends:
    """What a tokenizer itself puts before and after a text, such as `<s>`, or `[CLS]` and `[SEP]`."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if bare and full[start : start + len(bare)] == bare:
            return Ends(full[:start], full[start + len(bare) :])
    return Ends([], [])


def ends(tokenizer: Any, *, end: bool) -> Ends:
    """The same for a text that a model writes: it ends with the end token, where there is one and `end` asks for it."""
    own = own_ends(tokenizer)
    final = tokenizer.eos_token_id
    if not end or final is None or own.after[-1:] == [final]:
        return own
    return Ends(own.before, [*own.after, final])


def encode_texts(records: Records, rows: Sequence[int], tokenizer: Any, request: TokenRequest, into: Collector, tally: Tally) -> None:
    """Documents of which every token is trained that has one before it."""
    around = ends(tokenizer, end=request.end)
    for row, body in tokens_of(records, "text", rows, tokenizer, tally):
        ids = _around(around, body)
        if len(ids) < 2:
            tally.add(UNTRAINED)
            continue
        trained = bytearray(b"\1") * len(ids)
        for place in range(max(1, len(around.before))):
            trained[place] = 0
        into.add(ids, trained, row)


def encode_prompts(
    records: Records, rows: Sequence[int], tokenizer: Any, request: TokenRequest, max_length: int, into: Collector, tally: Tally
) -> None:
    """Prompts with their completions, cut to `max_length`; without `train_on: all` only the completions and the end are trained.

    With `cut: prompt` those that are too long lose the beginning of the prompt, and not the end of the completion.
    """
    around = ends(tokenizer, end=request.end)
    for row in rows:
        prompt, completion = text_in(records, "prompt", row), text_in(records, "completion", row)
        tally.step(len(prompt) + len(completion))
        if not completion:
            tally.add(EMPTY)
            continue
        first, second = pair(tokenizer, prompt + request.separator if prompt else "", completion, tally)
        head, reply = around.before + first, second + around.after
        if request.cut == "prompt" and len(head) + len(reply) > max_length:
            tally.add(CUT_PROMPTS)
            head, kept = fit(around.before, first, len(reply), max_length)
            reply = reply[:kept]
        ids, given = head + reply, len(head)
        passed = max(given if request.train_on != "all" else len(around.before), 1)
        trained = bytearray(b"\1") * len(ids)
        trained[:passed] = bytes(passed)
        add_cut(ids, trained, row, max_length, into, tally, given)


def encode_windows(
    records: Records, rows: Sequence[int], tokenizer: Any, request: TokenRequest, max_length: int, into: Collector, tally: Tally
) -> None:
    """Texts for a model that reads both ways, each window with the tokenizer's own ends; what is not special may be masked."""
    around, special = own_ends(tokenizer), set(tokenizer.all_special_ids)
    room = max_length - len(around.before) - len(around.after)
    if room - request.stride < 1:
        raise DataError(f"data.max_length {max_length} leaves no room for text beside special tokens and data.stride {request.stride}.")
    cut_up = 0
    for row, body in tokens_of(records, "text", rows, tokenizer, tally):
        cut_up += len(body) > room
        for start in range(0, max(len(body) - request.stride, 1), room - request.stride):
            ids = [*around.before, *body[start : start + room], *around.after]
            maskable = bytearray(token not in special for token in ids)
            if any(maskable):
                into.add(ids, maskable, row)
            else:
                tally.add(UNTRAINED)
    tally.add(WINDOWS, cut_up)


def encode_pairs(
    records: Records,
    rows: Sequence[int],
    tokenizer: Any,
    request: TokenRequest,
    max_length: int,
    into: tuple[Collector, Collector],
    tally: Tally,
) -> None:
    """Prompts for an encoder and completions for its decoder, each cut to `max_length`; an encoder keeps its end token.

    The token that `decoder_start` names is given to the decoder, so it is not written once more where a tokenizer puts it first.
    """
    read, written = own_ends(tokenizer), ends(tokenizer, end=request.end)
    if request.decoder_start is not None and tokenizer.convert_ids_to_tokens(written.before) == [request.decoder_start]:
        written = Ends([], written.after)
    room = max_length - len(read.before) - len(read.after)
    for row in rows:
        prompt, completion = text_in(records, "prompt", row), text_in(records, "completion", row)
        tally.step(len(prompt) + len(completion))
        if not prompt.strip() or not completion:
            tally.add(EMPTY)
            continue
        body = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        target = written.before + tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"] + written.after
        if len(body) > room or len(target) > max_length:
            tally.add(CUT)
        source = read.before + body[:room] + read.after
        into[0].add(source, bytes(len(source)), row)
        into[1].add(target[:max_length], b"\1" * min(len(target), max_length), row)


def add_cut(ids: list[int], trained: bytearray, row: int, max_length: int, into: Collector, tally: Tally, given: int = 0) -> None:
    """Adds a document cut to `max_length`, unless nothing in it is left to train; `given` tokens begin it as a prompt."""
    if len(ids) > max_length:
        tally.add(CUT)
        ids, trained = ids[:max_length], trained[:max_length]
    if any(trained):
        into.add(ids, trained, row, given)
    else:
        tally.add(UNTRAINED)


def pair(tokenizer: Any, prompt: str, completion: str, tally: Tally) -> tuple[list[int], list[int]]:
    """Tokens of a prompt and of what follows it.

    Both are tokenised as one text, which a model meets that goes on after the prompt, where the prompt's own tokens begin that text.
    Else a token would lie across the border, and they are tokenised apart.
    """

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []

    first, whole = tokens(prompt), tokens(prompt + completion)
    if whole[: len(first)] == first:
        return first, whole[len(first) :]
    tally.add(APART)
    return first, tokens(completion)


def text_in(records: Records, role: str, row: int) -> str:
    """The text of a role in a row, empty where there is none; a list of words is joined by spaces.

    Raises:
        DataError: it is no text.
    """
    cell = records.cells[role][row]
    if cell is None:
        return ""
    if isinstance(cell, list | tuple) and all(isinstance(word, str) for word in cell):
        return " ".join(cell)
    if not isinstance(cell, str):
        raise DataError(
            f"{records.where}: row {row + 1}: {records.names[role]!r} must be a text, found {type(cell).__name__} {str(cell)[:40]!r}. "
            "Mend the row, or check data.columns."
        )
    return cell


def tokens_of(records: Records, role: str, rows: Sequence[int], tokenizer: Any, tally: Tally) -> Iterator[tuple[int, Sequence[int]]]:
    """Every row that has text, and its tokens without special ones."""
    waiting: list[tuple[int, str]] = []
    size = 0
    for row in rows:
        text = text_in(records, role, row)
        if not text.strip():
            tally.add(EMPTY)
            continue
        if len(text) > _AT_ONCE:
            yield from _several(tokenizer, waiting, tally)
            waiting, size = [], 0
            yield row, long_text(tokenizer, text, step=tally.step)
            continue
        waiting.append((row, text))
        size += len(text)
        if size > _AT_ONCE:
            yield from _several(tokenizer, waiting, tally)
            waiting, size = [], 0
    yield from _several(tokenizer, waiting, tally)


def _several(tokenizer: Any, waiting: list[tuple[int, str]], tally: Tally) -> Iterator[tuple[int, list[int]]]:
    if waiting:
        found = tokenizer([text for _, text in waiting], add_special_tokens=False, return_attention_mask=False, verbose=False)
        tally.step(sum(len(text) for _, text in waiting))
        yield from zip((row for row, _ in waiting), found["input_ids"], strict=True)


def _around(ends: Ends, body: Sequence[int]) -> array[int]:
    ids = array("i", ends.before)
    ids.extend(body)
    ids.extend(ends.after)
    return ids


def long_text(tokenizer: Any, text: str, at_once: int = _AT_ONCE, *, step: Callable[[int], None] = lambda count: None) -> array[int]:
    """Tokens of a text that is too long for one call: cut behind line breaks, each part read after the line break that it follows.

    Where a tokenizer does not begin anew after line breaks, the text is tokenised in one call.
    """

    def tokens(part: str) -> list[int]:
        return tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    anchor = tokens("\n")
    ids = array("i")
    start = 0
    while start < len(text):
        stop = _line_end(text, start + at_once)
        found = tokens(text[start:stop]) if start == 0 else tokens("\n" + text[start:stop])
        if start > 0:
            if found[: len(anchor)] != anchor:
                return array("i", tokens(text))
            found = found[len(anchor) :]
        ids.extend(found)
        step(stop - start)
        start = stop
    return ids


def _line_end(text: str, place: int) -> int:
    """Behind the first line break from `place` on that is followed by something other than white space; else the end."""
    while place < len(text):
        place = text.find("\n", place) + 1
        if place == 0:
            break
        if place < len(text) and not text[place].isspace():
            return place
    return len(text)
