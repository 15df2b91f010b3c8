"""Reads a run directory. What a run lacks is empty here, so that the page can say so instead of failing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError


@dataclass(frozen=True)
class LogLine:
    """A line of metrics.jsonl."""

    stage: str
    round: int
    kind: str
    step: float
    values: Mapping[str, Any]


@dataclass(frozen=True)
class RunFiles:
    """The files of one run that a report shows."""

    path: Path
    name: str
    """Short name, unique among the runs of a page."""
    results: Mapping[str, Any]
    log: Sequence[LogLine] = ()
    recipe: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, Any]:
        """The models of results.json that really are there."""
        return {name: model for name, model in (self.results.get("models") or {}).items() if isinstance(model, dict)}

    @property
    def title(self) -> str:
        """The recipe's title, else the name of the run."""
        return (self.results.get("about") or {}).get("title") or self.name


def read_runs(paths: Sequence[Path]) -> list[RunFiles]:
    """The runs at `paths`, each under the shortest name that tells it from the others.

    Raises:
        RunError: where a path is no run directory or its results cannot be read.
    """
    if not paths:
        raise RunError("no run directory was given: name at least one, such as `limbeck report runs/quickstart`.")
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise RunError(f"the same run directory was given twice: {', '.join(map(str, paths))}.")
    return [read_run(path, name) for path, name in zip(paths, names(resolved), strict=True)]


def read_run(path: Path, name: str) -> RunFiles:
    """The run at `path` under a name of its own.

    Raises:
        RunError: where it is no run directory or its results cannot be read.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a directory. Expected a run directory, as `limbeck run` makes them.")
    results = _mapping(path / "results.json", required=True)
    recipe = path / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    return RunFiles(path, name, results, _log(path / "metrics.jsonl"), text, _mapping(path / "environment.json", required=False))


def _mapping(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if not required:
            return {}
        raise RunError(
            f"{path} does not exist: this is no run directory, or the run has not finished; go on with it: "
            f"limbeck run {path.parent} --resume"
        )
    return json_object(path)


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def _log(path: Path) -> list[LogLine]:
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(text)
            lines.append(LogLine(str(row["stage"]), int(row.get("round") or 0), str(row["kind"]), float(row["step"]), dict(row["values"])))
        except (ValueError, KeyError, TypeError):
            continue  # a process that was killed may leave half a line behind
    return lines


def names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        found = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(found)) == len(found):
            return found
    return [str(path) for path in paths]
