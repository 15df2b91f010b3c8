"""What a page compares: the student of every arm, and the other models (teacher, student alone, peers) that differ between arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..lenient import mapping
from .reading import Study, of, run_results

SHOWN = 8
"""So many arms have a colour of their own; figures of single arms show the best of them and the baseline."""
OTHERS_SHOWN = 12
"""So many models besides the students are shown at most."""
_DASHES = ("solid", "dashed", "dotted", "dashed")


@dataclass(frozen=True)
class Entry:
    """A model of an arm."""

    label: str
    arm: str
    model: str
    role: str
    """`distilled` for the student of an arm, else the model's role."""
    values: dict[str, tuple[float | None, ...]]
    folders: tuple[Path | None, ...]
    variable: str
    """CSS variable of its colour."""
    dash: str = "solid"

    def of(self, key: str) -> tuple[float | None, ...]:
        """The values of a metric, one a seed."""
        return self.values.get(key, ())


def entries(study: Study) -> list[Entry]:
    """The students in the order of the study, then every other model once; where arms have different ones, once for each of them."""
    alone = len(study.arms) == 1
    found = []
    for i, arm in enumerate(study.arms):
        label = "distilled" if alone and arm.name != "distilled" else arm.name
        values = {key: tuple(each) for key, each in arm.values.get("student", {}).items()}
        found.append(Entry(label, arm.name, "student", "distilled", values, arm.folders, f"series-{i % SHOWN}", _DASHES[i // SHOWN % 4]))
    return found + _others(study)[:OTHERS_SHOWN]


def _others(study: Study) -> list[Entry]:
    main = study.primary.key if study.primary is not None else ""
    names = list(dict.fromkeys(name for arm in study.arms for name in arm.values if name != "student"))
    found = []
    for name in names:
        seen: dict[tuple[float | None, ...], str] = {}
        for arm in study.arms:
            if name in arm.values:
                seen.setdefault(of(arm.values, name, main), arm.name)
        for arm_name in seen.values():
            arm = next(arm for arm in study.arms if arm.name == arm_name)
            label = name if len(seen) == 1 and name not in {arm.name for arm in study.arms} else f"{name} of {arm_name}"
            role = "alone" if name == "alone" else "teacher" if name.startswith("teacher") else "peer"
            variable = "alone" if role == "alone" and len(study.arms) == 1 else "ink" if role == "alone" else role
            values = {key: tuple(each) for key, each in arm.values[name].items()}
            found.append(Entry(label, arm_name, name, role, values, arm.folders, variable))
    return found


def reference(study: Study, found: Sequence[Entry]) -> Entry | None:
    """The entry with which others are compared: the student of the baseline; with a single arm the student alone, if it was trained."""
    if len(study.arms) == 1:
        alone = next((entry for entry in found if entry.role == "alone"), None)
        if alone is not None:
            return alone
    return next((entry for entry in found if entry.arm == study.baseline and entry.model == "student"), None)


def featured(study: Study, found: Sequence[Entry]) -> list[Entry]:
    """The students that figures of single arms show: the baseline and the best, at most `SHOWN`, in the order of the study."""
    students = [entry for entry in found if entry.model == "student"]
    if len(students) <= SHOWN:
        return students
    names = [study.baseline, *(arm.name for arm in study.order if arm.name != study.baseline)][:SHOWN]
    return [entry for entry in students if entry.arm in names]


class Results:
    """Reads the results of runs, each once."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Any]] = {}

    def models(self, entry: Entry) -> list[dict[str, Any]]:
        """What results.json says of the model of an entry, one a seed that has a run."""
        return [model for run in self.runs(entry) if (model := mapping(mapping(run.get("models")).get(entry.model)))]

    def runs(self, entry: Entry) -> list[dict[str, Any]]:
        """The results of the runs of an entry."""
        return [found for folder in entry.folders if folder is not None and (found := self.of(folder))]

    def of(self, folder: Path) -> dict[str, Any]:
        """The results of the run in `folder`; empty where they cannot be read."""
        if folder not in self._read:
            self._read[folder] = run_results(folder) or {}
        return self._read[folder]
