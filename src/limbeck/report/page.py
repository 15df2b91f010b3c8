"""Writes the page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import write_text
from .audits import of_run, sections
from .compare import common_metric, compare, over_seeds
from .figures import cost_bars, overlaid_figures, reliability_figures, training_figures
from .generations import generations
from .headline import headline
from .lenient import mapping
from .matrices import confusion, similarity
from .numbers import ABSENT, duration, finite, metric, primary_metric
from .recipes import differences
from .rundir import RunFiles, read_runs
from .table import summary_table
from .templating import environment, flat


@dataclass(frozen=True)
class StageRow:
    """A line of the table of stages."""

    name: str
    learner: str
    updates: str
    epochs: str
    seconds: str
    best: str


def write_report(run_dirs: Sequence[Path], out: Path) -> Path:
    """Writes one self-contained HTML page about one run, or about several side by side.

    Args:
        run_dirs: run directories; each needs a results.json, everything else may be missing.
        out: the file to write.

    Returns:
        `out`.

    Raises:
        RunError: where a run directory cannot be read or the page cannot be written.
    """
    runs = read_runs(run_dirs)
    html = _single(runs[0]) if len(runs) == 1 else _several(runs)
    if out.is_dir():
        raise RunError(f"{out} is a directory. Expected the name of a file, such as {out / 'report.html'}.")
    write_text(out, html)
    return out


def _single(run: RunFiles) -> str:
    results, models = run.results, run.models
    student, teacher = models.get("student") or {}, models.get("teacher") or {}
    data = mapping(results.get("data"))
    return (
        environment()
        .get_template("run.html")
        .render(
            run=run,
            title=run.title,
            about={"claim": "", "paper": "", "notes": "", **mapping(results.get("about"))},
            facts=_facts(run),
            headline=headline(results),
            table=summary_table(results),
            stages=_stages(results),
            training=training_figures(run),
            reliability=reliability_figures(results),
            confusion=confusion(student.get("confusion"), teacher.get("confusion"), data.get("classes") or ()),
            similarity=similarity(mapping(results.get("similarity"))),
            audits=sections(of_run(results), primary_metric(models)),
            costs=cost_bars(results),
            generations=generations(results),
            data=flat({key: value for key, value in data.items() if key != "classes"}),
            environment=flat(run.environment),
            adapters=flat(mapping(results.get("adapters"))),
            commands=_commands(run),
            version=results.get("limbeck") or "",
        )
    )


def _several(runs: Sequence[RunFiles]) -> str:
    recipes = [run.recipe for run in runs]
    main = common_metric(runs)
    return (
        environment()
        .get_template("compare.html")
        .render(
            runs=runs,
            title=_common_title(runs),
            comparison=compare(runs),
            metric=main,
            groups=over_seeds(runs),
            training=overlaid_figures(runs),
            differences=differences(recipes) if all(recipes) else None,
            missing=[run.name for run in runs if not run.recipe],
            tables=[(run, headline(run.results), summary_table(run.results)) for run in runs],
            command="limbeck report " + " ".join(shlex.quote(str(run.path)) for run in runs),
            version=next((run.results["limbeck"] for run in runs if run.results.get("limbeck")), ""),
        )
    )


def _facts(run: RunFiles) -> list[str]:
    results, data = run.results, mapping(run.results.get("data"))
    facts = [str(results.get("task") or "").replace("_", " "), str(data.get("source") or "")]
    labelled, train = finite(data.get("labelled")), finite(data.get("train"))
    if train is not None:
        part = f", {labelled:,.0f} of them labelled" if labelled is not None and labelled < train else ""
        facts.append(f"{train:,.0f} training examples{part}")
    if finite(results.get("seed")) is not None:
        facts.append(f"seed {results['seed']}")
    facts.append(str(results.get("started") or "")[:16].replace("T", " "))
    if finite(results.get("seconds")) is not None:
        facts.append(f"took {duration(results['seconds'])}")
    return [fact for fact in facts if fact]


def _stages(results: Mapping[str, Any]) -> list[StageRow]:
    rows = []
    for stage in results.get("stages") or []:
        best = mapping(stage.get("best"))
        text = ABSENT
        if best:
            known = metric(str(best.get("metric")))
            text = f"{known.text(best.get('value'))} {known.noun} at update {best.get('step')}"
        name = str(stage.get("name")) + (f" (round {stage['round']})" if stage.get("round") else "")
        updates, epochs = (_count(stage.get(key)) for key in ("updates", "epochs"))
        rows.append(StageRow(name, str(stage.get("learner") or ABSENT), updates, epochs, duration(stage.get("seconds")), text))
    return rows


def _count(value: Any) -> str:
    number = finite(value)
    return ABSENT if number is None else f"{number:,.0f}"


def _commands(run: RunFiles) -> list[tuple[str, str]]:
    folder = shlex.quote(str(run.path))
    commands = [("This run", str(run.results["command"]))] if run.results.get("command") else []
    if run.recipe:
        commands.append(("The same from the resolved recipe", f"limbeck run {shlex.quote(str(run.path / 'recipe.yaml'))} --out again"))
    if (run.path / "student").is_dir():
        language = "before" in (run.models.get("student") or {})
        commands.append(("Export the student", f"limbeck export {folder} --to {'hf' if language else 'onnx'}"))
    commands.append(("This page", f"limbeck report {folder}"))
    return commands


def _common_title(runs: Sequence[RunFiles]) -> str:
    titles = {run.title for run in runs}
    return f"{titles.pop()}: {len(runs)} runs" if len(titles) == 1 else f"Comparison of {len(runs)} runs"
