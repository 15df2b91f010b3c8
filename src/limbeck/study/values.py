"""What a study has measured: one value a seed, by arm, model and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UnknownName
from ..files import read_json
from .claims import Name

STUDENT = "student"


class StudyValues:
    """The values of a study as claims read them.

    A name is a metric of an arm's student (`distilled.accuracy`), of another model of an arm (`distilled.alone.accuracy`), or, in a study
    of one arm, of a model of that arm (`alone.accuracy`). `valid.` and `last.` before a metric ask for the validation split and for the
    weights of the last epoch, which are those that were handed on where nothing else is known.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._arms: Mapping[str, Any] = results["arms"]
        self.seeds: list[int] = list(results["seeds"])

    @classmethod
    def read(cls, folder: Path) -> StudyValues:
        """The values of a study's folder."""
        return cls(read_json(folder / "results.json"))

    def arms(self) -> list[str]:
        """All arms."""
        return list(self._arms)

    def models(self, arm: str) -> list[str]:
        """The models of an arm."""
        return list(self._arms[arm]["values"])

    def get(self, name: Name) -> list[float | None]:
        """One value a seed; None for all where the arm has not got that metric.

        Raises:
            UnknownName: there is no such arm.
        """
        for arm, model, metric in readings(name, self._arms):
            found = self._metric(arm, model, metric)
            if found is not None:
                return found
        return [None] * len(self.seeds)

    def _metric(self, arm: str, model: str, metric: str) -> list[float | None] | None:
        own = self._arms[arm]
        head, _, rest = metric.partition(".")
        if head == "last" and rest:
            return _either(own["last"].get(model, {}).get(rest), self._metric(arm, model, rest))
        if head == "valid" and rest:
            return own["valid"].get(model, {}).get(rest)
        return own["values"].get(model, {}).get(metric)


def readings(name: Name, arms: Iterable[str]) -> list[tuple[str, str, str]]:
    """What a name may mean, as arm, model and metric, the likeliest first.

    Raises:
        UnknownName: where it begins with no arm; in a study of one arm it may begin with a model.
    """
    known = list(arms)
    found = [(reading.arm, reading.model or STUDENT, reading.metric) for reading in name.readings() if reading.arm in known]
    if found:
        return found
    if len(known) == 1:
        return [(known[0], reading.arm, reading.metric) for reading in name.readings() if reading.model is None]
    raise UnknownName("arm", name.arm, known)


def _either(first: Sequence[float | None] | None, second: Sequence[float | None] | None) -> list[float | None] | None:
    """The first values, and the second where they are missing."""
    if first is None or second is None:
        chosen = first if first is not None else second
        return list(chosen) if chosen is not None else None
    return [a if a is not None else b for a, b in zip(first, second, strict=True)]
