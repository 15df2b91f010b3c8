"""The search itself: Optuna proposes pipelines, keeps what became of them, and stops those that fall behind. Nothing else knows Optuna."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, RunError
from .pipeline import Pipeline
from .space import Choice, Factor, Space

RUNGS = (25, 50)
"""Percent of the training after which a trial is compared with the others."""
RIVALS = 3
"""Others that must have come as far before a trial can be stopped."""
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
"""Optuna's words for what became of a trial, and ours."""
RANDOM = 6
"""Trials before the sampler (TPE) begins to learn from them."""
PLAIN, PROPOSED, SAMPLED = "plain", "proposed", "sampled"
"""Where a pipeline comes from."""


PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait for another machine that makes the tables of an empty database."""


@dataclass(frozen=True)
class Candidate:
    """A pipeline and what became of it."""

    number: int
    pipeline: Pipeline
    role: str
    state: str
    """`complete`, `pruned`, `failed` or `running`."""
    score: float | None
    """Higher is better, whatever the metric."""
    metrics: Mapping[str, float]
    """On the validation split."""
    seconds: float
    note: str
    scales: Mapping[str, float]
    """What its weights were multiplied by."""


@dataclass(frozen=True)
class Ongoing:
    """A trial under way."""

    number: int
    pipeline: Pipeline
    role: str
    handle: Any


class Search:
    """A study of Optuna, in a storage that survives a kill and that several machines may share.

    Args:
        url: storage, such as `sqlite:///search.db`.
        name: of the study; machines with the same name and storage work on the same one.
        seed: of the sampler.
        owner: tells the trials of this machine's folder from those of others.
    """

    def __init__(self, url: str, name: str, *, seed: int, owner: str) -> None:
        optuna = _optuna()
        self._space: Space | None = None
        self.owner = owner
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM)

        def opened() -> Any:
            return optuna.create_study(
                storage=url, study_name=name, direction="maximize", load_if_exists=True, sampler=sampler, pruner=optuna.pruners.NopPruner()
            )

        try:
            self._study = _first_come(opened)
        except Exception as error:  # a driver that is missing, a server that is away, a file that is none: each has errors of its own
            raise RunError(f"the storage {without_password(url)!r} cannot be used: {_reason(error)}") from error
        self._states = optuna.trial.TrialState

    def over(self, space: Space) -> None:
        """Sets the space that trials are drawn from."""
        self._space = space

    def recover(self) -> None:
        """Gives up the trials of this folder that a kill has left under way, and proposes them again."""
        for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            if trial.user_attrs.get("owner") == self.owner:
                self._study.tell(trial.number, state=self._states.FAIL)
                if trial.params:
                    self._study.enqueue_trial(trial.params, user_attrs={"role": trial.user_attrs.get("role", SAMPLED)})

    def propose(self, pipeline: Pipeline, role: str) -> None:
        """Puts a pipeline at the end of the queue, unless it is or was in the study already."""
        if self._space is None:
            raise RunError("a space is set before pipelines are proposed.")
        values = {name: _allowed(factor, pipeline.values()[name]) for name, factor in self._space.factors.items()}
        self._study.enqueue_trial(values, user_attrs={"role": role}, skip_if_exists=True)

    def ask(self, base: Pipeline) -> Ongoing:
        """The next pipeline: the first of the queue, else one that the sampler draws; what is no factor is as in `base`."""
        if self._space is None:
            raise RunError("a space is set before a pipeline is asked for.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask()
            trial.set_user_attr("owner", self.owner)
            found: dict[str, Any] = {}
            for name, factor in self._space.factors.items():
                if isinstance(factor, Choice):
                    found[name] = trial.suggest_categorical(name, factor.options)
                else:
                    found[name] = trial.suggest_float(name, factor.low, factor.high, log=factor.log)
        role = str(trial.user_attrs.get("role", SAMPLED))
        return Ongoing(trial.number, self._space.mended(Pipeline.of({**base.values(), **found})), role, trial)

    def behind(self, ongoing: Ongoing, rung: int, score: float) -> bool:
        """Notes the best score of a trial until one of the `RUNGS`, and whether half of the others were better there (halving)."""
        ongoing.handle.report(score, rung)
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if trial.number != ongoing.number]
        others = [trial.intermediate_values[rung] for trial in trials if rung in trial.intermediate_values]
        better = sum(value > score for value in others)
        return len(others) >= RIVALS and 2 * better > len(others)

    def tell(self, ongoing: Ongoing, state: str, score: float | None, told: Mapping[str, Any]) -> None:
        """Ends a trial: `complete` with its score, `pruned`, or `failed`; `told` are fields of its `Candidate`."""
        trial = ongoing.handle
        for key, value in told.items():
            trial.set_user_attr(key, value)
        if state == "complete" and score is not None:
            self._study.tell(trial, score)
        else:
            self._study.tell(trial, state=self._states.PRUNED if state == "pruned" else self._states.FAIL)

    def candidates(self) -> list[Candidate]:
        """Every trial so far, in order; those that are still to come aside."""
        found = []
        names = {self._states[name]: state for name, state in STATES.items()}
        for trial in self._study.get_trials(deepcopy=False):
            attributes = trial.user_attrs
            if trial.state in names and "pipeline" in attributes:
                found.append(
                    Candidate(
                        trial.number,
                        Pipeline.of(attributes["pipeline"]),
                        attributes.get("role", SAMPLED),
                        names[trial.state],
                        trial.value if trial.state == self._states.COMPLETE else None,
                        attributes.get("metrics", {}),
                        float(attributes.get("seconds", 0.0)),
                        attributes.get("note", ""),
                        attributes.get("scales", {}),
                    )
                )
        return found

    def importance(self) -> dict[str, float]:
        """Share of the differences between complete trials that each factor explains (fANOVA); empty where there are too few."""
        optuna = _optuna()
        complete = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state == self._states.COMPLETE]
        if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = optuna.importance.get_param_importances(
                    self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
                )
            except (RuntimeError, ValueError):
                return {}
        return {name: round(float(value), 4) for name, value in found.items()}


def storage_url(folder: Path) -> str:
    """The storage in a folder of one's own."""
    return f"sqlite:///{(folder / 'search.db').absolute().as_posix()}"


def _allowed(factor: Factor, value: Any) -> Any:
    """The value, or one that a factor takes where it means nothing (the layers of a loss that is not there)."""
    if isinstance(factor, Choice):
        return value if value in factor.options else factor.options[0]
    return min(max(float(value), factor.low), factor.high)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingDependency("optuna", "study", "a search for a pipeline") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def best(candidates: Sequence[Candidate], count: int, *, always: str = PLAIN) -> list[Candidate]:
    """The `count` complete candidates with the highest scores, no two with the same pipeline, the best plain one always among them."""
    complete = sorted((c for c in candidates if c.score is not None), key=lambda c: -(c.score or 0.0))
    found: list[Candidate] = []
    for candidate in complete:
        if all(candidate.pipeline != other.pipeline for other in found):
            found.append(candidate)
    plain = next((c for c in found if c.role == always), None)
    kept = found[:count]
    return kept if plain is None or plain in kept else [*kept[: count - 1], plain]


def _first_come(opened: Callable[[], Any]) -> Any:
    """What `opened` gives; tried again where another machine was making the same tables at that moment."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for pause in PAUSES:
        try:
            return opened()
        except (IntegrityError, ProgrammingError):
            time.sleep(pause)
    return opened()


def without_password(url: str) -> str:
    """An address of a database as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def _reason(error: Exception) -> str:
    driver = error.__cause__
    if isinstance(driver, ModuleNotFoundError):
        return f"its driver is missing: pip install {driver.name}"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
