"""Writes the page of a study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RunError
from ...files import write_text
from ..audits import Subject, sections
from ..lenient import mapping
from ..numbers import duration, finite
from ..spread import confidence_of
from ..templating import environment, flat
from .bands import band_figures
from .calibration import calibration_figures
from .claims import claims, confidence
from .classes import class_grid, group_grid
from .entries import Entry, Results, entries, featured, reference
from .headline import headline
from .pareto import costs
from .ranking import ranking
from .reading import Study, read_study
from .values import mean_table, seed_tables, selection, strips


@dataclass(frozen=True)
class Repeat:
    """How one run is repeated."""

    name: str
    command: str


def write_study_report(folder: Path, file: Path) -> Path:
    """Writes one self-contained HTML page about a study, also about one that is not finished.

    Args:
        folder: the folder of the study, or a file with its results.
        file: the file to write.

    Returns:
        `file`.

    Raises:
        RunError: where there is no study, its files cannot be read, or the page cannot be written.
    """
    return study_page(read_study(folder), file, f"limbeck report {shlex.quote(str(folder))}")


def study_page(study: Study, file: Path, command: str) -> Path:
    """Writes the page of a study that has been read; `command` is what makes this page again."""
    if file.is_dir():
        raise RunError(f"{file} is a directory. Expected the name of a file, such as {file / 'report.html'}.")
    write_text(file, _render(study, command))
    return file


def _render(study: Study, command: str) -> str:
    found, results = entries(study), Results()
    said, sure, main = claims(study), confidence(study), study.primary
    base, shown = reference(study, found), featured(study, found)
    others = [entry for entry in found if entry.model != "student"]
    rows, ticks = strips(found, main) if main is not None else ((), ())
    compared = [*shown, *others]
    about = mapping(study.results.get("about"))
    return (
        environment()
        .get_template("study.html")
        .render(
            title=study.title,
            about={key: str(about.get(key) or "") for key in ("claim", "paper", "notes")},
            facts=_facts(study),
            main=main,
            baseline=study.baseline,
            headline=headline(study, found, said, sure),
            claims=said,
            confidence=confidence_of(sure),
            ranking=ranking(study, found, sure),
            costs=costs(study, found),
            classes=class_grid(compared, base, results) if base is not None else None,
            groups=group_grid(study, compared, base, results) if base is not None else None,
            audits=sections(_subjects(compared, results), main),
            reference=base,
            left_out=len(study.arms) - len(shown),
            curves=band_figures(shown, main),
            reliability=calibration_figures(compared, results),
            strips=rows,
            ticks=ticks,
            means=mean_table(found, main),
            seeds=study.seeds,
            tables=seed_tables(found, main),
            selection=selection(study, found),
            arms=[(arm.name, flat(arm.changes)) for arm in study.arms],
            commands=_commands(study, command),
            runs=_runs(study, found, results),
            recipe=study.recipe,
            environment=flat(mapping(study.results.get("environment"))),
            version=str(study.results.get("limbeck") or ""),
        )
    )


def _subjects(found: Sequence[Entry], results: Results) -> list[Subject]:
    """The models as audits draw them: teachers and others first, then the students of the arms."""
    ordered = sorted(found, key=lambda entry: entry.model == "student")
    return [Subject(entry.label, entry.model, entry.variable, tuple(results.runs(entry))) for entry in ordered]


def _facts(study: Study) -> list[str]:
    results = study.results
    arms, seeds = len(study.arms), len(study.seeds)
    facts = [str(results.get("task") or "").replace("_", " "), f"{arms} arm{'s' if arms != 1 else ''}"]
    facts.append(f"{seeds} seed{'s' if seeds != 1 else ''} each")
    if not study.finished:
        facts.append("not finished")
    if finite(results.get("seconds")) is not None:
        facts.append(f"took {duration(results['seconds'])}")
    if finite(results.get("threads")) is not None:
        facts.append(f"{results['threads']} thread{'s' if results['threads'] != 1 else ''}")
    return [fact for fact in facts if fact]


def _commands(study: Study, page: str) -> list[Repeat]:
    recipe = str(study.results.get("recipe") or "")
    again = str(study.results.get("command") or "")
    if not again and recipe:
        seeds = "" if not study.seeds else f" --seeds {len(study.seeds)}" if study.seeds == tuple(range(len(study.seeds))) else ""
        again = f"limbeck study {shlex.quote(recipe)}{seeds}"
    found = [Repeat("The whole study: every value, interval and verdict on this page", again)] if again else []
    for name, source in mapping(study.results.get("commands")).items():
        found.append(Repeat(f"The study {name}", f"limbeck study {shlex.quote(str(source))}"))
    if not study.finished:
        found.append(Repeat("Go on with it", f"limbeck study {shlex.quote(str(study.path))} --resume"))
    return [*found, Repeat("This page, from the numbers that are there", page)]


def _runs(study: Study, found: Sequence[Entry], results: Results) -> list[tuple[str, list[Repeat]]]:
    """For every arm the command of each of its runs."""
    rows = []
    for entry in found:
        if entry.model != "student":
            continue
        commands = []
        for seed, folder in zip(study.seeds, entry.folders, strict=False):
            run: Mapping[str, Any] = {} if folder is None else results.of(folder)
            if run.get("command"):
                commands.append(Repeat(f"seed {seed}", str(run["command"])))
        if commands:
            rows.append((entry.label, commands))
    return rows
