"""Phases that several runs have in common are trained once: what one leaves is kept under a key that says all that it depends on.

The key of a phase holds its own specification and those of the models that it trains or listens to, the keys of the earlier phases that
changed these models, the data, the task, the seed, the device and the versions. Seeds follow from names, so a run that takes the outcome of
a phase from the shelf has the same bits as one that trains it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from . import assemble
from .assemble import ALONE, Phase
from .config.model_schema import ModelSpec
from .config.schema import Recipe
from .engine import checkpoint
from .engine.loop import Outcome
from .files import write_text, writing
from .rounds import Done, last_of
from .session import Session
from .version import __version__

FORMAT = 1
_LAST = "last:"


def phase_keys(recipe: Recipe, phases: Sequence[Phase], *, device: str, allow_code: bool) -> list[str | None]:
    """The key of each phase; None of one that is never shared.

    Not shared are the student's last phase, from which on runs differ; phases that choose their examples, have replies written for them or
    have a teacher of their own, which leave more than models; and all that depends on these.

    Args:
        recipe: with absolute paths.
        phases: in order.
        device: kind of device that they run on.
        allow_code: whether losses of the user's own may be imported.
    """
    specs: dict[str, ModelSpec] = {
        "student": recipe.student,
        ALONE: recipe.student,
        **assemble.teacher_models(recipe, allow_code=allow_code),
        **recipe.models,
    }
    read = recipe.data.model_copy(update={"rollouts": None})  # a phase's own data say whether replies are written for it
    common = [FORMAT, __version__, torch.__version__, device, recipe.task, recipe.seed, _plain(read)]
    final = max((number for number, phase in enumerate(phases) if phase.learner == "student"), default=-1)
    changed: dict[str, str | None] = {}
    others = [name for name in specs if name != ALONE]
    keys: list[str | None] = []
    for number, phase in enumerate(phases):
        listens = _listens(phase, allow_code=allow_code)
        begins = [phase.start] if phase.start in specs else []
        used: list[str] = list(dict.fromkeys([*phase.members, *begins, *(others if listens else [])]))
        shared = number != final and phase.data.select is None and phase.data.rollouts is None and phase.teacher is None
        shared = shared and all(changed.get(name, "") is not None for name in used)
        key = None
        if shared:
            models = {name: [_plain(specs[name]), changed.get(name)] for name in used}
            teachers = {name: _plain(spec) for name, spec in assemble.teacher_specs(recipe).items()} if listens else {}
            key = _digest([*common, asdict(phase), models, teachers, _rounds(phase, phases)])
        keys.append(key)
        moved = specs if phase.between is not None or phase.teacher is not None else phase.members
        changed |= dict.fromkeys(moved, key)
    return keys


def _listens(phase: Phase, *, allow_code: bool) -> bool:
    """Whether a phase may read models other than those that learn in it."""
    terms = [
        assemble.build_term(*item, allow_code=allow_code) for name in phase.members for item in assemble.objective_of(phase, name).items()
    ]
    asks = any(term.loss.needs.teacher or term.loss.teaches for term in terms)
    return asks or phase.train.step != "supervised" or phase.between is not None


def _rounds(phase: Phase, phases: Sequence[Phase]) -> list[int]:
    """The rounds of the student's stage after whose length that of the student alone is cut."""
    return [other.repeat for other in phases if other.learner == "student" and other.key == phase.key] if phase.learner == ALONE else []


def _plain(spec: Any) -> Any:
    return spec.model_dump(mode="json")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


class FolderShelf:
    """A folder with the outcomes of phases by their keys; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys: list[str | None] | None = None
        self._before: tuple[int, int, float, dict[str, Any], dict[str, list[str]]] | None = None

    def fetch(self, session: Session, number: int, began: tuple[int, float]) -> bool:
        """Puts the outcome of a phase into the session, where it is there; else remembers how the phase began."""
        key = self._key(session, number)
        path = self.path(key) if key is not None else None
        if path is None or not path.exists():
            taps = {name: list(own) for name, own in session.taps.items()}
            self._before = (number, *began, dict(session.adapters), taps)
            return False
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
        tensors = checkpoint.load_tensors(path)
        for name in record["touched"]:
            session.models[name].module.load_state_dict(_below(tensors, f"{name}/"))
            if (last := _below(tensors, f"{_LAST}{name}/")) and session.backend.is_main:
                with writing(last_of(session.folder, name)) as temporary:
                    checkpoint.save_tensors(temporary, last)
        session.touched |= set(record["touched"])
        session.done += [Done(**{**item, "outcome": Outcome(**item["outcome"])}) for item in record["done"]]
        session.adapters |= record["adapters"]
        for name, taps in record["taps"].items():
            known = session.taps.setdefault(name, [])
            known += [tap for tap in taps if tap not in known]
        self._tell(session, record, began)
        return True

    def keep(self, session: Session, number: int) -> None:
        """Takes the outcome of a phase that was run from its beginning."""
        key, before = self._key(session, number), self._before
        if key is None or before is None or before[0] != number or not session.backend.is_main:
            return
        _, lines, seconds, adapters, taps = before
        phase = session.phases[number]
        tensors: dict[str, torch.Tensor] = {}
        for name in self._moved(session, phase):
            tensors |= {f"{name}/{k}": value for k, value in session.models[name].module.state_dict().items()}
            if last_of(session.folder, name).exists():
                tensors |= {f"{_LAST}{name}/{k}": v for k, v in checkpoint.load_tensors(last_of(session.folder, name)).items()}
        record = {
            "phase": phase.name,
            "touched": self._moved(session, phase),
            "done": [asdict(item) for item in session.done if item.name == phase.name],
            "adapters": {name: made for name, made in session.adapters.items() if name not in adapters},
            "taps": {name: [tap for tap in own if tap not in taps.get(name, [])] for name, own in session.taps.items()},
            "lines": _lines(session)[lines : session.journal.lines],
            "began": seconds,
            "seconds": session.journal.seconds - seconds,
        }
        with writing(self.path(key)) as temporary:
            kept = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
            save_file(kept, temporary, metadata={"record": json.dumps(record)})

    def path(self, key: str) -> Path:
        """Where the outcome of a phase is."""
        return self.folder / f"{key}.safetensors"

    def _key(self, session: Session, number: int) -> str | None:
        if self._keys is None:
            device = session.backend.device.type if session.backend.world == 1 else f"{session.backend.world} processes"
            self._keys = phase_keys(session.recipe, session.phases, device=device, allow_code=session.allow_code)
        return self._keys[number]

    def _moved(self, session: Session, phase: Phase) -> list[str]:
        """The models that a phase may have changed."""
        return sorted(session.touched) if phase.between is not None else sorted(phase.members)

    def _tell(self, session: Session, record: Mapping[str, Any], began: tuple[int, float]) -> None:
        """Writes the lines of metrics as if the phase had been run now."""
        lines, seconds = began
        session.journal.resume(lines, seconds + record["seconds"])
        session.journal.lines += len(record["lines"])
        if session.journal.path is not None:
            for line in record["lines"]:
                line["time"] = round(line["time"] - record["began"] + seconds, 3)
            text = "".join(json.dumps(line) + "\n" for line in record["lines"])
            before = session.journal.path.read_text(encoding="utf-8") if session.journal.path.exists() else ""
            write_text(session.journal.path, before + text)
        for done in record["done"][-1:]:
            session.listener.message(
                f"{record['phase']}: {done['learner']} was trained in another run of the study; it is taken from there."
            )


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _lines(session: Session) -> list[dict[str, Any]]:
    path = session.journal.path
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
