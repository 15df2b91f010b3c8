"""What a recipe gives to a search (data, models, training, labels), and how a pipeline is written into it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..assemble import build_term
from ..config.load import LoadedRecipe
from ..config.marks import Node
from ..errors import RunError
from ..registry import LOSSES
from ..tasks.base import Task
from .pipeline import AUGMENTATIONS, DECAY, GIVEN, MIXES, PAST, UNWEIGHED, Pipeline, Scales, rounded, terms

JOINED = ("joint",)
"""Tasks whose terms belong to one data set each, which a search over whole objectives does not know."""
PLAIN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "class": ("kd", {}),
    "token": ("kd", {}),
    "span": ("kd", {}),
    "multilabel": ("bernoulli_kd", {}),
    "real": ("mse", {}),
}
"""Plain distillation by the kind of labels: the loss on outputs, and its options."""


@dataclass(frozen=True)
class Ground:
    """A recipe as the ground on which pipelines are tried."""

    loaded: LoadedRecipe
    task: Task
    stage: str | None
    """The last stage that trains the student; None where the recipe has no stages."""
    labels: Mapping[str, Mapping[str, Any]]
    """The terms without a teacher."""
    taught: Mapping[str, Mapping[str, Any]]
    """The terms with a teacher that the recipe has already."""

    @property
    def plain(self) -> tuple[str, Mapping[str, Any]]:
        """Plain distillation for these labels: the loss on outputs and its options."""
        return PLAIN[self.task.labels]

    @property
    def primary(self) -> str:
        """The metric that pipelines are judged by."""
        return self._train.monitor or self.task.monitor

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return self.task.better[self.primary]

    @property
    def _train(self) -> Any:
        recipe = self.loaded.recipe
        return (recipe.stages[self.stage].train if self.stage is not None else None) or recipe.train

    @property
    def data(self) -> Any:
        """The data that the student learns from."""
        recipe = self.loaded.recipe
        return (recipe.stages[self.stage].data if self.stage is not None else None) or recipe.data

    def written(self, folder: Path) -> dict[str, Any]:
        """The recipe as somebody wrote it, all bases and overrides in one, with paths as seen from `folder`."""
        whole = yaml.safe_load(self.loaded.resolved(folder.absolute()))
        return _kept(whole, self.loaded.base or self.loaded.tree)

    def recipe(self, pipeline: Pipeline | None, folder: Path, scales: Scales = UNWEIGHED, *, seed: int | None = None) -> dict[str, Any]:
        """The recipe with a pipeline in the place of its own terms with a teacher; with its own where `pipeline` is None."""
        found = self.written(folder)
        found["baseline"] = False
        if seed is not None:
            found["seed"] = seed
        if pipeline is None:
            return found
        objective = {
            **self._weighed(pipeline.share),
            **terms(pipeline, scales, warm=warm(pipeline.logits), options=self._options(pipeline)),
        }
        return self._laid(found, objective, pipeline)

    def with_terms(self, objective: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The recipe with another objective of the student's last stage."""
        found = self.written(folder)
        found["baseline"] = False
        self._place(found)["objective"] = dict(objective)
        return found

    def alone(self, folder: Path, *, seed: int) -> dict[str, Any]:
        """The recipe with the student alone beside it."""
        return {**self.written(folder), "baseline": True, "seed": seed}

    def _options(self, pipeline: Pipeline) -> Mapping[str, Any]:
        name, options = self.plain
        return options if pipeline.logits == name else {}

    def _weighed(self, share: float) -> dict[str, Any]:
        """The terms without a teacher, which have together what the teacher leaves."""
        weights = {label: term.get("weight", 1.0) for label, term in self.labels.items()}
        plain = {label: float(weight) if isinstance(weight, (int, float)) else 1.0 for label, weight in weights.items()}
        total = sum(plain.values())
        return {
            label: {**term, "weight": rounded((1 - share) * plain[label] / total) if total else 0.0} for label, term in self.labels.items()
        }

    def _laid(self, found: dict[str, Any], objective: Mapping[str, Any], pipeline: Pipeline) -> dict[str, Any]:
        place = self._place(found)
        place["objective"] = dict(objective)
        data, train = place.setdefault("data", {}), place.setdefault("train", {})
        if pipeline.augment != GIVEN:
            data["transforms"] = [*self.data.transforms, *deepcopy(AUGMENTATIONS[pipeline.augment])]
        if pipeline.mix != GIVEN:
            data["mix"] = dict(MIXES[pipeline.mix])
        if pipeline.rate != 1.0:
            train.setdefault("optimizer", {})["lr"] = rounded(self._train.optimizer.lr * pipeline.rate)
        if pipeline.average == "ema":
            train["ema"] = {"decay": DECAY}
        if pipeline.teacher == "ema":
            found.setdefault("teachers", {})[PAST] = {"kind": "ema", "momentum": DECAY}
        for key in ("data", "train"):
            if not place[key]:
                del place[key]
        return found

    def _place(self, found: dict[str, Any]) -> dict[str, Any]:
        """The section of the student's last stage, from which other stages of the student no longer take their objective."""
        if self.stage is None:
            return found
        top = found.pop("objective", {})
        for name, stage in self.loaded.recipe.stages.items():
            own = found["stages"].get(name) or {}
            found["stages"][name] = own
            if stage.learner == "student" and top:
                own["objective"] = _laid_over(top, own.get("objective") or {})
        return found["stages"][self.stage]


def ground_of(loaded: LoadedRecipe, task: Task, *, allow_code: bool) -> Ground:
    """A recipe as ground of a search.

    Raises:
        RunError: where it has no student or no teacher, or is made in a way that a search of objectives does not know.
    """
    recipe = loaded.recipe
    if recipe.task in JOINED:
        raise RunError(f"{recipe.task}: a recommendation is made for one data set at a time. Write a recipe for one of them.")
    if recipe.teacher is None and not recipe.teachers:
        raise RunError("the recipe names no teacher, so there is nothing to distil. Add `teacher: {model: ...}`.")
    if recipe.teacher is None:
        raise RunError("the recipe has several teachers; a search is made with one, called `teacher`. `limbeck teachers` ranks them.")
    stage = None
    if recipe.stages:
        stage = next((name for name, own in reversed(recipe.stages.items()) if own.learner == "student"), None)
        if stage is None:
            raise RunError("no stage of the recipe trains the student. Add one, such as `distil: {}`.")
    own = recipe.stages[stage] if stage is not None else None
    if recipe.peers or (own is not None and own.peers):
        raise RunError("the student learns together with peers; a search is made for a student and its teacher. Remove `peers`.")
    specs = own.objective if own is not None and own.objective is not None else recipe.objective
    whole = yaml.safe_load(loaded.resolved())
    texts = _laid_over(whole.get("objective") or {}, ((whole.get("stages") or {}).get(stage or "") or {}).get("objective") or {})
    labels, taught = {}, {}
    for label, spec in specs.items():
        term = build_term(label, spec, allow_code=allow_code)
        (taught if term.loss.needs.teacher or term.loss.teaches else labels)[label] = texts[label]
    if not labels:
        labels = {"labels": {"loss": task.loss, "weight": 1.0} | ({"target": "labels"} if task.labels == "real" else {})}
    return Ground(loaded, task, stage, labels, taught)


def warm(loss: str) -> bool:
    """Whether a loss has a temperature that can be set to a number."""
    return "temperature" in LOSSES.get(loss).__dataclass_fields__


def _kept(values: Mapping[str, Any], node: Node) -> dict[str, Any]:
    """The part of the values that somebody wrote."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        own = node.mapping.get(key)
        if own is None:
            continue
        found[key] = _kept(value, own) if isinstance(value, Mapping) and own.mapping else value
    return found


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge, null removes, all else replaces."""
    found = dict(base)
    for key, value in over.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = _laid_over(found[key], value)
        else:
            found[key] = value
    return found
