"""Tries one pipeline: weighs its losses, checks it, trains a student, and judges it on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.load import LoadedRecipe
from ..errors import LimbeckError, RunError
from ..files import read_json, write_json
from ..preflight import preflight
from .bench import Bench, Report, Trained
from .ground import Ground, warm
from .pipeline import FEATURES, GIVEN, LOGITS, NONE, UNWEIGHED, Pipeline, Scales, feature_term, rounded, terms

FARTHEST = 1e3
"""A term is never weighed up or down by more than this: a gradient near zero at first says little."""


@dataclass
class Trier:
    """Makes recipes of pipelines and trains their students.

    Args:
        ground: the recipe.
        bench: where students are trained.
        examples: number of examples of the validation split.
        plain: plain distillation, whose gradient is the unit of all others.
    """

    ground: Ground
    bench: Bench
    examples: int
    plain: Pipeline
    _known: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self._file.exists():
            self._known = dict(read_json(self._file))

    @property
    def _file(self) -> Path:
        return self.bench.folder / "scales.json"

    def score(self, metrics: Mapping[str, float]) -> float:
        """The metric that counts, signed so that more is better; the likelihood decides between equal ones.

        On a small validation split many pipelines have the same accuracy; half an example's worth of it goes with the likelihood.

        Raises:
            RunError: where the metric is not among those of the task.
        """
        if self.ground.primary not in metrics:
            raise RunError(f"the metric {self.ground.primary!r} is not measured on the validation split: {', '.join(metrics)}.")
        value = metrics[self.ground.primary] * (1 if self.ground.maximize else -1)
        if self.ground.primary == "accuracy" and math.isfinite(metrics.get("nll", math.nan)):
            value -= min(metrics["nll"], 4.0) / 8 / max(self.examples, 1)
        return value

    def weighed(self, pipeline: Pipeline) -> Scales:
        """By how much the terms of a pipeline are to be multiplied, so that their first gradients are as strong as the plain one's."""
        own = terms(pipeline, UNWEIGHED, warm=warm(pipeline.logits))
        name, options = self.ground.plain
        unit = self._pull("plain", terms(self.plain, UNWEIGHED, warm=warm(name), options=options)[LOGITS])
        first = own[LOGITS] | (dict(options) if pipeline.logits == name else {})
        logits = 1.0 if pipeline.logits == name and pipeline.target == NONE else self._scale(unit, first)
        inner = self._scale(unit, feature_term(pipeline, 1.0)) if pipeline.features != NONE else 1.0
        return Scales(logits, inner)

    def recipe(self, pipeline: Pipeline | None, folder: Path, scales: Scales, *, seed: int) -> LoadedRecipe:
        """The recipe of a pipeline (None: the user's own), checked.

        Raises:
            LimbeckError: where the check refuses it.
        """
        loaded = self.bench.load(self.ground.recipe(pipeline, folder, scales, seed=seed), folder)
        preflight(loaded, allow_code=self.bench.allow_code, device=self.bench.device).raise_problems()
        return loaded

    def fitting(self, pipeline: Pipeline, folder: Path, scales: Scales, *, seed: int) -> tuple[Pipeline, LoadedRecipe]:
        """A pipeline and its recipe, without its mixing or its loss on inner layers where only these stand in the way.

        Raises:
            LimbeckError: where the check refuses it all the same.
        """
        variants = [pipeline, replace(pipeline, mix=GIVEN), replace(pipeline, mix=GIVEN, features=NONE, taps="", adapter="auto")]
        for variant in dict.fromkeys(variants):
            try:
                return variant, self.recipe(variant, folder, scales, seed=seed)
            except LimbeckError:
                if variant == variants[-1]:
                    raise
        raise RunError("there is no pipeline to try.")

    def train(self, loaded: LoadedRecipe, folder: Path, report: Callable[[float, float], None] | None = None) -> Trained:
        """Trains the student of a recipe; `report` is told the share that is over and the best score so far."""
        best = -math.inf

        def told(share: float, metrics: Mapping[str, float]) -> None:
            nonlocal best
            best = max(best, self.score(metrics))
            if report is not None:
                report(share, best)

        callback: Report = told
        return self.bench.train(loaded, folder, report=callback)

    def _scale(self, unit: float, term: Mapping[str, Any]) -> float:
        own = self._pull(repr(sorted(term.items(), key=str)), term)
        if not (math.isfinite(own) and own > 0 and math.isfinite(unit) and unit > 0):
            return 1.0
        return rounded(min(max(unit / own, 1 / FARTHEST), FARTHEST))

    def _pull(self, key: str, term: Mapping[str, Any]) -> float:
        """The first gradient of a term of weight 1, remembered over sessions."""
        if key not in self._known:
            folder = self.bench.folder / "probe"
            self.bench.forget(folder)
            label = FEATURES if "student" in term else LOGITS
            recipe = self.ground.with_terms({label: {**term, "weight": 1.0}}, folder)
            self._known[key] = self.bench.pull(self.bench.load(recipe, folder), folder)
            self.bench.forget(folder)
            write_json(self._file, self._known)
        return self._known[key]
