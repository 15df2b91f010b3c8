"""Replies that a model of the run writes for the training questions of a stage (`data.rollouts`): written, verified and chosen when the
stage begins, and kept in the run's folder, so that a run that was killed goes on with the same texts."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from . import assemble
from .answering import misread, replies_to
from .assemble import Phase
from .config.model_schema import ModelSpec
from .config.rollout_schema import RolloutSpec
from .config.schema import Recipe
from .curating import NOT_AGAIN, Choice, Reply, choose, is_right
from .data.base import Splits
from .data.language.prompts import Asked, all_prompts
from .data.language.rows import LanguageExamples
from .data.language.written import Written, write_replies
from .engine.backend import Backend
from .engine.watch import Listener
from .errors import Interrupted, LimbeckError, RunError
from .evaluate.generation import positions
from .files import read_json, write_json
from .models.base import BuiltModel

BATCH = 64
"""Questions that are answered and written down together; a kill loses no more."""
EVERY = 10.0
"""Seconds between two words about how far it is."""
TOO_LONG = "longer than the model reads"


class Host(Protocol):
    """What is needed of a run."""

    folder: Path
    backend: Backend
    listener: Listener
    models: dict[str, BuiltModel]
    recipe: Recipe

    def data(self, spec: Any = None) -> Splits:
        """The data of a phase."""
        ...

    def interrupted(self) -> bool:
        """Whether the run is to stop."""
        ...

    def seed(self, purpose: str, round: int = 0) -> int:  # noqa: A002
        """A seed for one purpose."""
        ...


def with_rollouts(host: Host, phase: Phase) -> Phase:
    """The phase on the replies that are written for its questions; all processes wait for the first, which writes them.

    Raises:
        LimbeckError: where no question is left.
        Interrupted: after Ctrl-C; what is written is kept.
    """
    if _asked(phase).file is not None:
        return phase
    path = _file(host, phase)
    known = _counts_file(path).exists()
    if not known and host.backend.is_main:
        _Desk(host, phase, path).write()
    host.backend.wait()  # outside of the branch: a process that comes later finds the file already there
    counts = read_json(_counts_file(path))
    if not known:
        host.listener.message(f"{phase.name}: {sentence(counts)}")
    if counts["kept"] == 0:
        raise LimbeckError(
            f"data.rollouts: no question is left to train on. {sentence(counts)} What was written is in {path.parent}. "
            "Compare rollouts.answer, samples and temperature, or train the model that writes for longer (or less)."
        )
    return _reading(phase, path)


def counts_of(phase: Phase) -> dict[str, Any] | None:
    """How many questions were kept, and why others were not; None of a phase for which nothing is written."""
    spec = phase.data.rollouts
    path = None if spec is None or spec.file is None else _counts_file(Path(spec.file))
    return read_json(path) if path is not None and path.exists() else None


def sentence(counts: Mapping[str, Any]) -> str:
    """The same for people."""
    left = ", ".join(f"{number:,} {why}" for why, number in counts["left_out"].items())
    share = "" if counts["right"] is None else f", {counts['right']:.0%} of them right"
    text = f"{counts['kept']:,} of {counts['questions']:,} questions are kept; {counts['by']} wrote {counts['samples']} replies to each"
    text = f"{text}{share}."
    return f"{text} Left out: {left}." if left else text


def pretend(host: Host, phase: Phase) -> float:
    """Lays the data's own replies where those of the phase will be, so that it can be tried before anything is trained.

    Returns:
        Seconds that the writing will take, at most, from some questions that were answered and forgotten.
    """
    path = _file(host, phase)
    return _Desk(host, phase, path).pretend()


def _asked(phase: Phase) -> RolloutSpec:
    if phase.data.rollouts is None:
        raise LimbeckError(f"stage {phase.name!r} asks for no rollouts.")
    return phase.data.rollouts


def _reading(phase: Phase, path: Path) -> Phase:
    """The phase on what is in a file."""
    return replace(phase, data=phase.data.model_copy(update={"rollouts": RolloutSpec(file=str(path))}))


def _file(host: Host, phase: Phase) -> Path:
    """Where the kept questions of a phase are: its name, and what all that decides about them comes to."""
    recipe, spec = host.recipe, _asked(phase)
    specs: Mapping[str, ModelSpec] = {"student": recipe.student, **assemble.teacher_specs(recipe), **recipe.models}
    own = [phase.data.model_dump_json(), specs[spec.by].model_dump_json(), recipe.evaluate.answer, recipe.evaluate.tokens, recipe.seed]
    return host.folder / "rollouts" / f"{phase.name}-{zlib.crc32(json.dumps(own).encode()):08x}.jsonl"


def _counts_file(path: Path) -> Path:
    return path.with_suffix(".json")


@dataclass
class _Desk:
    """Where the replies of a phase are written."""

    host: Host
    phase: Phase
    path: Path

    def __post_init__(self) -> None:
        self.spec = _asked(self.phase)
        wish = self.host.recipe.evaluate
        self.answer = self.spec.answer or wish.answer
        self.tokens = self.spec.tokens or wish.tokens
        self.seed = self.host.seed(f"rollouts-{self.phase.name}")
        self.again_seed = self.host.seed(f"rollouts-{self.phase.name}-again")
        data = self.phase.data.model_copy(update={"pack": False})
        self.plain = replace(self.phase, data=data)
        self.host.backend.precision = self.phase.train.precision

    def write(self) -> None:
        """Writes, verifies and chooses; what is written already is not written again."""
        splits = self.host.data(self.plain.data)
        self._look_at_tokenizer(splits)
        shelf = _Shelf(self.path.with_suffix(".written.jsonl"))
        first = self._written(splits, self.spec.view, self.spec.temperature, self.spec.samples, self.seed, shelf)
        chosen: dict[int, Choice] = {}
        left = Counter[str]()
        for row, replies in first.items():
            found = TOO_LONG if replies is None else self._choose(splits, row, replies)
            if isinstance(found, Choice):
                chosen[row] = found
            else:
                left[found] += 1
        kept = self._again(splits, chosen, left) if self.spec.again is not None and chosen else self._kept(splits, chosen)
        write_replies(self.path, kept)
        own = [(row, reply) for row, replies in first.items() for reply in replies or ()]
        right = [is_right(reply, splits.questions[row][1], self.answer) for row, reply in own] if self.answer is not None else []
        write_json(
            _counts_file(self.path),
            {
                "by": self.spec.by,
                "samples": self.spec.samples,
                "questions": len(first),
                "kept": len(kept),
                "left_out": dict(sorted(left.items())),
                "right": sum(right) / len(right) if right else None,
            },
        )

    def _look_at_tokenizer(self, splits: Splits) -> None:
        """Says where the model that learns will not read what the model that writes has written."""
        replies = [reply for _, reply in list(splits.questions.values())[:BATCH]]
        found = misread(splits.tokenizer, replies)
        if found:
            (text, written), share = found[0], f"{len(found)} of the first {len(replies)} replies of the data"
            self.host.listener.message(
                f"{self.phase.name}: {share} are read otherwise once the tokenizer has written them, such as {text[:60]!r}, which becomes "
                f"{written[:60]!r}. So will be what {self.spec.by} writes. Give tokenizer.json a decoder and the characters that it lacks."
            )

    def pretend(self) -> float:
        """As the function of this name."""
        splits = self.host.data(self.plain.data)
        start = time.perf_counter()
        asked, rows = _questions(splits, self.spec.view)
        some = list(range(min(BATCH, len(rows))))
        self._answers(splits, asked, some * self.spec.samples, self.spec.temperature, 0)
        if self.spec.again is not None:
            self._answers(splits, _questions(splits, self.spec.again.view)[0], some, self.spec.again.temperature, 0)
        seconds = (time.perf_counter() - start) * len(rows) / len(some)
        replies = {row: Choice(splits.questions[row][1], splits.questions[row][1]) for row in rows}
        write_replies(self.path, self._kept(splits, replies))
        counts = {"by": self.spec.by, "samples": 0, "questions": len(rows), "kept": len(rows), "left_out": {}, "right": None}
        write_json(_counts_file(self.path), counts)
        return seconds

    def _choose(self, splits: Splits, row: int, replies: Sequence[Reply]) -> Choice | str:
        return choose(replies, splits.questions[row][1], self.answer, self.spec.keep, seed=self.seed, row=row)

    def _kept(self, splits: Splits, chosen: Mapping[int, Choice], replies: Mapping[int, str] | None = None) -> list[Written]:
        """The kept questions, with replies to them; with the right ones where none are given."""
        texts = {row: choice.right for row, choice in chosen.items()} if replies is None else replies
        return [Written(row, splits.questions[row][0], text, chosen[row].right, chosen[row].wrong) for row, text in sorted(texts.items())]

    def _again(self, splits: Splits, chosen: Mapping[int, Choice], left: Counter[str]) -> list[Written]:
        """The questions whose reply is right, too, when it is written with a right and a wrong one in view."""
        again, between = self.spec.again, self.path.with_suffix(".chosen.jsonl")
        if again is None or self.answer is None:
            return []
        write_replies(between, self._kept(splits, chosen, {row: splits.questions[row][1] for row in chosen}))
        told = self.host.data(_reading(self.plain, between).data)
        shelf = _Shelf(self.path.with_suffix(".again.jsonl"))
        second = self._written(told, again.view, again.temperature, 1, self.again_seed, shelf)
        right: dict[int, str] = {}
        for row, replies in second.items():
            if replies is None:
                left[TOO_LONG] += 1
            elif not is_right(replies[0], splits.questions[row][1], self.answer):
                left[NOT_AGAIN] += 1
            else:
                right[row] = replies[0].text
        return self._kept(splits, chosen, right)

    def _written(
        self, splits: Splits, view: str | None, temperature: float, samples: int, seed: int, shelf: _Shelf
    ) -> dict[int, list[Reply] | None]:
        """Replies to every question by its row, batch by batch; None to one that the model has no room for."""
        asked, rows = _questions(splits, view)
        found = shelf.read(rows, samples)
        last = time.monotonic()
        for start in range(len(found), len(rows), BATCH):
            batch = list(range(start, min(start + BATCH, len(rows))))
            numbers = [number for number in batch for _ in range(samples)]
            told = self._answers(splits, asked, numbers, temperature, seed + start // BATCH)
            own: dict[int, list[Reply] | None] = {rows[number]: None for number in batch}
            for number, said in zip(numbers, told, strict=True):
                if said is not None:
                    own[rows[number]] = [*(own[rows[number]] or []), said]
            shelf.add(own)
            found |= own
            if time.monotonic() - last > EVERY:
                last = time.monotonic()
                self.host.listener.message(f"{self.phase.name}: {self.spec.by} has answered {len(found):,} of {len(rows):,} questions.")
            if self.host.backend.world == 1 and self.host.interrupted():
                raise Interrupted("stopped while replies are written; those are kept.")
        return found

    def _answers(self, splits: Splits, asked: Asked, numbers: Sequence[int], temperature: float, seed: int) -> list[Reply | None]:
        """A reply to each of some questions; None to one that the model has no room for."""
        host = self.host
        module = host.models[self.spec.by].module.to(host.backend.device)
        limit = positions(module)
        fits = [limit is None or len(asked.prompts[number].ids) < limit for number in numbers]
        some = Asked(tuple(asked.prompts[number] for number, fit in zip(numbers, fits, strict=True) if fit), asked.start)
        with host.backend.autocast():
            told = iter(replies_to(module, splits, some, self.tokens, temperature=temperature, top_k=self.spec.top_k, seed=seed))
        ends = self.phase.data.end  # texts that have no end are never cut off
        return [(said if ends else replace(said, ended=True)) if fit and (said := next(told)) else None for fit in fits]


def _questions(splits: Splits, view: str | None) -> tuple[Asked, list[int]]:
    """The prompts of all training questions as a view shows them, and the rows that they are from."""
    examples = splits.train
    if not isinstance(examples, LanguageExamples):
        raise LimbeckError("data.rollouts are for language models that write.")
    shown = examples if view is None else examples.rendering(view)
    return all_prompts(shown), examples.store.documents.rows.tolist()


@dataclass(frozen=True)
class _Shelf:
    """A file of what was written, a question a line."""

    path: Path

    def read(self, rows: Sequence[int], samples: int) -> dict[int, list[Reply] | None]:
        """What is there of the whole batches; the rest of the file is cut off.

        Raises:
            RunError: where it is of other questions.
        """
        if not self.path.exists():
            return {}
        lines = self.path.read_bytes().split(b"\n")[:-1]  # behind the last line break is what a kill cut off
        whole = len(lines) if len(lines) == len(rows) else len(lines) // BATCH * BATCH
        found: dict[int, list[Reply] | None] = {}
        try:
            for line in lines[:whole]:
                own = json.loads(line)
                cut = set(own.get("cut", ()))
                texts = None if own["replies"] is None else [Reply(text, place not in cut) for place, text in enumerate(own["replies"])]
                found[own["row"]] = texts
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path}: line {len(found) + 1} is none that a run wrote. Remove the file to write anew.") from error
        counts = {len(texts) for texts in found.values() if texts is not None}
        if list(found) != list(rows[:whole]) or counts - {samples}:
            raise RunError(f"{self.path}: it holds replies to other questions. Remove it to write anew.")
        self.path.write_bytes(b"".join(line + b"\n" for line in lines[:whole]))
        return found

    def add(self, replies: Mapping[int, Sequence[Reply] | None]) -> None:
        """Adds a batch."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = ""
        for row, own in replies.items():
            cut = [place for place, reply in enumerate(own or ()) if not reply.ended]
            line = {"row": row, "replies": None if own is None else [reply.text for reply in own], **({"cut": cut} if cut else {})}
            text += json.dumps(line, ensure_ascii=False) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
