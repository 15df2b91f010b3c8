"""Turns a validated recipe into objects and hands them to the engine: `limbeck.distill` and `limbeck run`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from . import assemble
from .beginnings import keep
from .config.load import LoadedRecipe, load_recipe
from .engine.backend import Backend
from .engine.watch import Journal, Listener, Silent
from .environment import environment
from .errors import CodeNotAllowed, Interrupted, RunError
from .export.student import load_student
from .files import check_writable, read_json, sweep, write_json, write_text
from .handover import hand_over
from .models.base import BuiltModel
from .models.lora import merge_adapters
from .models.scaling import merge_scales
from .preflight import preflight
from .results import collect_results
from .session import Session
from .sharing import FolderShelf

RUNS = Path("runs")
"""Where runs lie unless the user says otherwise."""


@dataclass(frozen=True)
class Result:
    """A finished run."""

    folder: Path
    """The run directory."""
    results: Mapping[str, Any]
    """The contents of its results.json."""
    student: nn.Module
    """The distilled student, in evaluation mode, without adapters; it expects inputs as `normalization` leaves them."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The student's metrics on the test split."""
        return self.results["models"]["student"]["metrics"]

    @property
    def report(self) -> Path:
        """The report to look at."""
        return self.folder / "report.html"


def distill(
    recipe: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    allow_code: bool = True,
    listener: Listener | None = None,
    shared: str | Path | None = None,
    report: bool = True,
) -> Result:
    """Runs a recipe from beginning to end.

    Args:
        recipe: a recipe file, a run directory to go on with, or the recipe itself as a mapping.
        set: overrides by dotted key, such as `{"train.epochs": 3}` (None removes a key), or texts such as `train.epochs=3`.
        out: the run directory; `runs/NAME` (numbered, where it is taken) if absent.
        resume: go on with the run in `out` (or with the last unfinished one of this recipe).
        device: `cpu`, `cuda`, `cuda:N` or `mps`; the best that is there if absent.
        allow_code: import code that the recipe names as `module:callable`.
        listener: who is told how it goes.
        shared: a folder in which runs leave the outcome of stages for other runs with the very same stages, such as their teacher's.
        report: write report.html; `limbeck report` makes it later, too.

    Returns:
        The finished run.

    Raises:
        RecipeError: all problems of the recipe at once.
        LimbeckError: anything else that the user can mend.
        Interrupted: after Ctrl-C; the run was saved.
    """
    loaded = load_recipe(recipe_file(recipe), set=set, allow_code=allow_code)
    source = str(recipe) if not isinstance(recipe, Mapping) else ""
    with interruptible() as interrupted:
        return _run(
            loaded, _Wish(source, set, _folder(recipe, out), resume, device, allow_code, shared, report), listener or Silent(), interrupted
        )


@dataclass
class _Wish:
    """What the user asked for besides the recipe."""

    source: str
    set: Mapping[str, Any] | Sequence[str]
    out: Path | None
    resume: bool
    device: str | None
    allow_code: bool
    shared: str | Path | None = None
    report: bool = True
    command: str = field(default="")

    def __post_init__(self) -> None:
        words = ["limbeck", "run", self.source or "RECIPE"]
        texts = [f"{key}={json.dumps(value)}" for key, value in self.set.items()] if isinstance(self.set, Mapping) else self.set
        words += [f"--set {shlex.quote(text)}" for text in texts]
        words += ["--allow-code"] if self.allow_code and self.source and ":" in self.source else []
        self.command = " ".join(words)


def _run(loaded: LoadedRecipe, wish: _Wish, listener: Listener, interrupted: Callable[[], bool]) -> Result:
    if loaded.code and not wish.allow_code:
        raise CodeNotAllowed(loaded.code[0])
    found = preflight(loaded, allow_code=wish.allow_code, device=wish.device)
    found.raise_problems()
    backend = Backend(precision=loaded.recipe.train.precision, device=wish.device, trackers=loaded.recipe.track)
    folder = Path(backend.broadcast_object(str(_place(loaded, wish)) if backend.is_main else ""))
    resume = wish.resume and begun(folder)
    if resume:
        _same_recipe(loaded, folder, wish.allow_code)
    for note in found.notes:
        listener.message(note)
    if backend.is_main:
        check_writable(folder, found.bytes_needed)
        if resume:
            sweep(folder)
        else:
            _begin(loaded, wish, folder, found.inferred)
    backend.wait()
    status = read_json(folder / "status.json")
    if status["status"] == "finished":
        listener.message(f"{folder}: this run is finished; its results are shown as they are.")
        return Result(folder, read_json(folder / "results.json"), load_student(folder, allow_code=wish.allow_code).module)
    journal = Journal(folder / "metrics.jsonl" if backend.is_main else None, listener)
    if not resume:
        journal.resume(0, 0.0)
    session = Session(loaded, folder, backend, listener, journal, interrupted, wish.allow_code, keep)
    session.shelf = FolderShelf(Path(wish.shared)) if wish.shared is not None else None
    with backend.tracking(folder, _flat(loaded.recipe.model_dump(mode="json"))):
        session.build_models()
        try:
            session.run(resume)
            results = collect_results(session, command=status["command"], source=status["recipe"], started=status["started"])
        except (Interrupted, KeyboardInterrupt) as stop:
            reason = str(stop) or "stopped at once; what came after the last checkpoint will be computed again."
            raise Interrupted(f"{reason} Go on with: limbeck run {shlex.quote(str(folder))} --resume") from None
    _merge(session.models["student"])
    if backend.is_main:
        _finish(session, results, report=wish.report)
    backend.wait()
    return Result(folder, results, session.models["student"].module.eval())


def _merge(student: BuiltModel) -> None:
    """Leaves an ordinary model where there were adapters."""
    if student.request.lora is not None:
        merge_adapters(student.module)
    if student.request.sources is not None:
        merge_scales(student.module)


def _begin(loaded: LoadedRecipe, wish: _Wish, folder: Path, inferred: Mapping[str, Any]) -> None:
    """Writes what is known before training."""
    write_text(folder / "recipe.yaml", loaded.with_inferred(inferred).resolved(folder))
    write_json(folder / "environment.json", environment())
    started = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "status.json", {"status": "running", "started": started, "command": wish.command, "recipe": wish.source})


def _finish(session: Session, results: Mapping[str, Any], *, report: bool) -> None:
    """Writes the student, the results, the card and the report; the run counts as finished only then."""
    from .report.card import card, markdown
    from .report.page import write_report

    folder = session.folder
    hand_over(session, folder / "student")
    write_json(folder / "results.json", results)
    told = card(results, session.recipe.model_dump(mode="json"), read_json(folder / "environment.json"))
    write_json(folder / "card.json", told)
    write_text(folder / "card.md", markdown(told))
    inferred = {f"{key}.kind": made["kind"] for key, made in session.adapters.items() if isinstance(made, dict)}
    write_text(folder / "recipe.yaml", session.loaded.with_inferred(inferred).resolved(folder))
    if report:
        write_report([folder], folder / "report.html")
    status = read_json(folder / "status.json")
    write_json(folder / "status.json", {**status, "status": "finished"})


# the run directory


def recipe_file(recipe: str | Path | Mapping[str, Any]) -> str | Path | Mapping[str, Any]:
    """The recipe file behind a run directory; anything else as it is."""
    if isinstance(recipe, Mapping) or not (Path(recipe) / "recipe.yaml").is_file():
        return recipe
    return Path(recipe) / "recipe.yaml"


def _folder(recipe: str | Path | Mapping[str, Any], out: str | Path | None) -> Path | None:
    if out is not None:
        return Path(out)
    if not isinstance(recipe, Mapping) and (Path(recipe) / "recipe.yaml").is_file():
        return Path(recipe)
    return None


def _place(loaded: LoadedRecipe, wish: _Wish) -> Path:
    """The folder of this run.

    Raises:
        RunError: where it holds another run and the user did not ask to go on with it.
    """
    if wish.out is not None:
        taken = begun(wish.out)
        if taken and not wish.resume:
            raise RunError(f"{wish.out}: holds a run already. Add --resume to go on with it, or choose another folder with --out.")
        if wish.resume and not taken:
            raise RunError(f"{wish.out}: --resume was asked for, but no run was begun there. Leave --resume away to begin one.")
        return wish.out
    name = loaded.path.stem if loaded.path is not None else "run"
    if wish.resume:
        return _unfinished(name)
    for number in range(1, 10_000):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        if not begun(folder):
            return folder
    raise RunError(f"{RUNS}: holds too many runs called {name!r}; choose a folder with --out.")


def begun(folder: Path) -> bool:
    """Whether a folder holds a run with something to go on from."""
    return (folder / "checkpoints" / "latest.json").exists() or (folder / "results.json").exists()


def _unfinished(name: str) -> Path:
    found = [path for path in RUNS.glob(f"{name}*") if path.name == name or path.name.removeprefix(f"{name}-").isdigit()]
    there = [path for path in found if begun(path)]
    open_ = [path for path in there if read_json(path / "status.json").get("status") != "finished"]
    if not there:
        raise RunError(f"{RUNS / name}: --resume was asked for, but no run of this recipe was begun. Leave --resume away to begin one.")
    return max(open_ or there, key=lambda path: (path / "status.json").stat().st_mtime)


def _same_recipe(loaded: LoadedRecipe, folder: Path, allow_code: bool) -> None:
    """Refuses to go on with a run under another recipe, and says what differs."""
    if differs := differences(load_recipe(folder / "recipe.yaml", allow_code=allow_code), loaded):
        shown = "; ".join(differs[:8])
        raise RunError(f"{folder}: the run was begun with another recipe ({shown}). Go on with: limbeck run {folder} --resume")


def differences(before: LoadedRecipe, now: LoadedRecipe) -> list[str]:
    """What differs between the recipe of a folder and another one, each as `key: there, here`.

    Adapters, which are picked, and what changes no number (`about`) are left out.
    """
    old, new = (_flat(assemble.located(recipe).model_dump(mode="json", exclude={"study", "about"})) for recipe in (before, now))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key) and ".adapter" not in key]
    return [f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in keys]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {
            key: item for name, inner in value.items() for key, item in _flat(inner, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    plain = value if isinstance(value, (str, int, float, bool)) or value is None else json.dumps(value)
    return {prefix: plain}


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the loop to stop at the next update; a second one stops at once."""
    asked: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        sys.stderr.write("\nstopping after this update; press Ctrl-C again to stop at once\n")

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:  # not in the main thread: leave the caller's handling alone
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
