"""Where pipelines are tried: one teacher for all of them, a student for each, judged on the validation split.

The stages before the student's are run once. What they leave is laid at the beginning of every trial, which goes on from there as after a
kill, so that a trial gives what a run of its own recipe would give. The test split is read by `judge` alone.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from ..assemble import ALONE
from ..config.load import LoadedRecipe, load_recipe
from ..engine.backend import Backend
from ..engine.loop import prepare, updates
from ..engine.watch import Journal, Listener
from ..errors import LimbeckError, RecipeError, RunError
from ..files import write_text
from ..objective import Counts
from ..session import Session

MODELS = Path("checkpoints") / "models.safetensors"
PROBES = 2
"""Batches on which the first gradient of a term is measured."""
Report = Callable[[float, Mapping[str, float]], None]
"""Told of every evaluation on the validation split: the share of the training that is over, and the metrics."""


@dataclass
class Watching:
    """A listener that hands on what the validation split says, and messages that were not said before."""

    report: Report
    say: Callable[[str], None]
    total: int = 1

    def stage(self, name: str, learner: str, round: int, rounds: int, updates: int, done: int) -> None:  # noqa: A002
        """A stage begins."""
        self.total = max(updates, 1)

    def update(self, update: int) -> None:
        """An update is over; nobody is told."""

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of metrics: those of the validation split are handed on."""
        if record["kind"] == "valid":
            values = {key: value for key, value in record["values"].items() if value is not None}
            self.report(record["step"] / self.total, values)

    def message(self, text: str) -> None:
        """A note."""
        self.say(text)


@dataclass(frozen=True)
class Trained:
    """A student that was trained: how it does on the validation split, and how long that took."""

    metrics: Mapping[str, float]
    seconds: float


@dataclass
class Bench:
    """Trains and judges recipes that differ in nothing before the student's stage.

    Args:
        folder: where the shared beginning and the trials lie.
        device: as for a run.
        listener: who is told of the training of the teacher.
        interrupted: asked after every update whether to stop.
        allow_code: import code that the recipe names.
    """

    folder: Path
    device: str | None
    listener: Listener
    interrupted: Callable[[], bool]
    allow_code: bool
    backend: Backend = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend = Backend(precision="fp32", device=self.device)

    def load(self, recipe: Mapping[str, Any], folder: Path) -> LoadedRecipe:
        """Writes a recipe into a folder and reads it from there, so that its paths mean what they meant."""
        path = folder / "recipe.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
        return load_recipe(path, allow_code=self.allow_code)

    def prepare(self, loaded: LoadedRecipe) -> float:
        """Runs the stages before the student's, once; returns the seconds that it took."""
        start = time.monotonic()
        session = self._session(loaded, self.folder / "shared", self.listener)
        first = _first_student(session)
        if first:
            session.folder.mkdir(parents=True, exist_ok=True)
            session.run((session.folder / MODELS).exists() or (session.folder / "checkpoints" / "latest.json").exists(), phases=first)
        return time.monotonic() - start

    def train(self, loaded: LoadedRecipe, folder: Path, *, report: Report = lambda share, values: None) -> Trained:
        """Trains the student, from the shared beginning or from where a kill left it, and judges it on the validation split.

        What `report` raises ends the training and is passed on.
        """
        start = time.monotonic()
        session = self._session(loaded, folder, Watching(report, self._note))
        name, end = _learner(session)
        self._begin(session)
        session.run(_begun(folder), phases=end)
        phase = session.phases[end - 1]
        said = session.collect(name, "valid", phase.data, phase.train.precision)
        return Trained(session.task.report(said.logits, said.labels, said.examples), time.monotonic() - start)

    def judge(self, loaded: LoadedRecipe, folder: Path, *, teacher: bool = False) -> dict[str, dict[str, float]]:
        """The metrics of a student that `train` has left, on the test split; of the teacher also, where asked for."""
        session = self._session(loaded, folder, Watching(lambda share, values: None, self._note))
        name, end = _learner(session)
        session.run(True, phases=end)
        found = {}
        for who in [name] + (["teacher"] if teacher and "teacher" in session.models else []):
            said = session.collect(who, "test")
            found["student" if who == name else who] = session.task.report(said.logits, said.labels, said.examples)
        return found

    def pull(self, loaded: LoadedRecipe, folder: Path) -> float:
        """Norm of the gradient that the student's last stage gives the student's weights at first, the mean over some batches."""
        session = self._session(loaded, folder, Watching(lambda share, values: None, self._note))
        end = _learner(session)[1]
        self._begin(session)
        session.run(_begun(folder), phases=_first_student(session))
        stage = session.stage(session.phases[end - 1], end - 1, 0)
        try:
            prepare(stage)
            stage.train_mode()
            found = [_gradient(stage, batches[0]) for batches, _ in zip(updates(stage), range(PROBES), strict=False)]
        finally:
            for member in stage.members:
                member.learner.close()
            for teacher in stage.context.teachers.values():
                teacher.close()
        return sum(found) / len(found)

    def opened(self, loaded: LoadedRecipe) -> Session:
        """A session after the stages before the student's, which `prepare` has run, to ask the teacher in."""
        session = self._session(loaded, self.folder / "shared", Watching(lambda share, values: None, self._note))
        first = _first_student(session)
        session.run(first > 0, phases=first)
        return session

    def forget(self, folder: Path) -> None:
        """Removes the checkpoints of a trial, which nobody will go on with."""
        shutil.rmtree(folder, ignore_errors=True)

    def examples(self, loaded: LoadedRecipe) -> dict[str, Any]:
        """What there is to learn from and to be judged on.

        Raises:
            RunError: where there is no validation split, on which pipelines could be judged.
        """
        session = self._session(loaded, self.folder / "shared", Watching(lambda share, values: None, self._note), build=False)
        splits = session.data(session.phases[-1].data)
        if splits.valid is None or not len(splits.valid):
            raise RunError("pipelines are judged on the validation split, and these data have none. Set `data.split.valid`, such as 0.15.")
        info = session.data().info
        return {
            "train": len(splits.train),
            "valid": len(splits.valid),
            "test": len(session.data().test),
            "outputs": info.num_outputs,
            "shape": list(info.input_shape),
            "kind": info.kind,
        }

    def sizes(self, loaded: LoadedRecipe) -> dict[str, float]:
        """Logarithms of the teacher's number of parameters, and of how many times more these are than the student's."""
        session = self._session(loaded, self.folder / "shared", Watching(lambda share, values: None, self._note))
        counts = {name: sum(p.numel() for p in session.models[name].module.parameters()) for name in ("teacher", "student")}
        return {"parameters": math.log(counts["teacher"]), "ratio": math.log(counts["teacher"] / counts["student"])}

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _session(self, loaded: LoadedRecipe, folder: Path, listener: Listener, *, build: bool = True) -> Session:
        self.backend.precision = loaded.recipe.train.precision
        journal = Journal(None, listener)
        session = Session(loaded, folder, self.backend, listener, journal, self.interrupted, self.allow_code)
        if build:
            session.build_models()
        return session

    def _begin(self, session: Session) -> None:
        """Lays the shared beginning into the folder of a trial that has not begun."""
        source, goal = self.folder / "shared" / MODELS, session.folder / MODELS
        if not _first_student(session) or _begun(session.folder):
            return
        goal.parent.mkdir(parents=True, exist_ok=True)
        temporary = goal.with_suffix(".part")
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)
        temporary.replace(goal)


def _begun(folder: Path) -> bool:
    return (folder / MODELS).exists() or (folder / "checkpoints" / "latest.json").exists()


def _first_student(session: Session) -> int:
    """Number of the stages before the first that trains the student, taught or alone."""
    return next(i for i, phase in enumerate(session.phases) if phase.learner in ("student", ALONE))


def _learner(session: Session) -> tuple[str, int]:
    """Who is judged, and after how many stages: the student alone where there is one, else the student."""
    name = ALONE if session.recipe.baseline else "student"
    return name, 1 + max(i for i, phase in enumerate(session.phases) if phase.learner == name)


def _gradient(stage: Any, batch: Any) -> float:
    """Norm of the gradient of the whole objective with respect to the model, on one batch."""
    context = stage.context
    batch = batch.to(context.backend.device)
    teachers = context.teacher_signals(batch)
    total = context.learner(batch, teachers, Counts(batch.units, _known(batch)))[0]
    weights = [parameter for parameter in context.learner.model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    return float(torch.stack([g.detach().float().pow(2).sum() for g in gradients if g is not None] or [torch.zeros(())]).sum().sqrt())


def _known(batch: Any) -> float:
    from ..types import labelled

    return max(float(labelled(batch.labels).sum()), 1.0) if batch.labels is not None else 1.0


def failure(error: Exception) -> str:
    """Why a trial failed, in one line; what is no mistake of a pipeline is raised again."""
    if isinstance(error, RecipeError):
        return f"{error.problems[0].key}: {error.problems[0].message}"
    if isinstance(error, (LimbeckError, RuntimeError, ValueError, FloatingPointError)):
        return str(error).strip().split("\n")[0][:200] or type(error).__name__
    raise error
