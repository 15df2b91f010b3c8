"""The models that are drawn, each with the results of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..lenient import mapping
from ..numbers import finite
from ..table import ordered, summary_table

SHAPES = ("circle", "square", "diamond", "ring")
"""Of the marks of one model after the other, so that they can be told apart without colours."""


@dataclass(frozen=True)
class Subject:
    """A model over one run or several, which differ in the seed."""

    label: str
    model: str
    """Its name in results.json."""
    variable: str
    """CSS variable of its colour."""
    runs: tuple[Mapping[str, Any], ...]
    """Contents of results.json."""

    def found(self, key: str) -> list[Any]:
        """An entry of the model, of every run that has it."""
        models = [mapping(mapping(run.get("models")).get(self.model)) for run in self.runs]
        return [model[key] for model in models if model.get(key)]

    def section(self, key: str) -> list[dict[str, Any]]:
        """An entry of the model that is a mapping, of every run that has it."""
        return [found for found in self.found(key) if isinstance(found, dict)]

    def metric(self, key: str) -> list[float]:
        """A metric of the model, of every run that has it."""
        return numbers(metrics.get(key) for metrics in self.section("metrics"))


def numbers(values: Any) -> list[float]:
    """Those of the values that are numbers."""
    return [number for value in values if (number := finite(value)) is not None]


def of_run(results: Mapping[str, Any]) -> list[Subject]:
    """The models of one run."""
    found = []
    for title, (name, role, _) in zip(summary_table(results).titles, ordered(mapping(results.get("models"))), strict=True):
        found.append(Subject(title, name, "series-3" if role == "before" else role, (results,)))
    return found
