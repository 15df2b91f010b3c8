r"""Which pipelines to try first: learnt from the evidence of other data and models, after AutoDistiller.

A forest of regression trees is fitted on the pipelines of all studies in a folder of evidence. It maps features of the task, the models
and the pipeline to the distillation ratio

.. math:: r = \frac{score_{student}}{score_{teacher}}

(its inverse where less is better) less the mean of its situation: the same task, data, models and labels. It proposes the pipelines with
the highest predictions for a new task. It is believed only where it ranks pipelines that it was not fitted on better than chance
(one-sided, at the level `CHANCE`): those of a situation that is left out, or, where there are fewer than `SITUATIONS` of these, a fifth of
all; else, and where there are fewer than `LEAST` observations, a fixed order alone is tried.

Departs from the paper, which uses AutoGluon's ensembles and features of texts: a random forest, and features that every task has.

Reference: He et al., "Distiller: A Systematic Study of Model Distillation Methods in Natural Language Processing", 2021,
arXiv:2109.11105, section 5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..assemble import build_term
from ..config.load import load_recipe
from ..errors import LimbeckError
from .pipeline import GIVEN, NONE, Pipeline
from .space import Choice, Space

LEAST, SITUATIONS, FOLDS = 24, 3, 5
CHANCE = 0.05
TREES = 200
DRAWN = 400
"""Pipelines among which the best predictions are looked for."""


@dataclass(frozen=True)
class Circumstances:
    """Features of a task and its models; NaN where one is not known."""

    kind: str
    """What labels mean."""
    parameters: float = math.nan
    """Logarithm of the teacher's number of parameters."""
    ratio: float = math.nan
    """Logarithm of how many times more these are than the student's."""
    labelled: float = 1.0
    """Share of the examples with a label."""
    outputs: float = math.nan
    """Logarithm of the number of outputs."""


@dataclass(frozen=True)
class Observation:
    """How a pipeline did somewhere."""

    situation: str
    """Task, data, models and labels; what is the same in all pipelines that can be compared."""
    where: Circumstances
    pipeline: Pipeline
    ratio: float


def read_evidence(folder: Path | None) -> list[Observation]:
    """The observations in the results of studies, `*.json` in a folder; what cannot be read, or is no study, is passed over."""
    found: list[Observation] = []
    for path in sorted(folder.glob("*.json")) if folder is not None and folder.is_dir() else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("kind") == "study" and isinstance(content.get("arms"), dict):
            found += _observations(content, folder.parent if folder is not None else Path())
    return found


def _observations(content: Mapping[str, Any], root: Path) -> list[Observation]:
    metric, higher = content.get("primary"), content.get("better") != "lower"
    found = []
    for arm in content["arms"].values():
        values = arm.get("values") or {}
        student, teacher = (_mean((values.get(name) or {}).get(metric)) for name in ("student", "teacher"))
        pipeline, where, source = _of_recipe(root / str(content.get("recipe")), arm.get("set") or {})
        if pipeline is None or where is None or not student or not teacher:
            continue
        sizes = [_mean((values.get(name) or {}).get("parameters")) for name in ("teacher", "student")]
        if sizes[0] and sizes[1]:
            where = replace(where, parameters=math.log(sizes[0]), ratio=math.log(sizes[0] / sizes[1]))
        ratio = student / teacher if higher else teacher / student
        if math.isfinite(ratio):
            situation = f"{where.kind} {source} {where.labelled} {sizes}"
            found.append(Observation(situation, where, pipeline, ratio))
    return found


def _mean(values: Any) -> float | None:
    known = [float(value) for value in values or () if isinstance(value, (int, float))]
    return sum(known) / len(known) if known else None


def _of_recipe(path: Path, changes: Mapping[str, Any]) -> tuple[Pipeline | None, Circumstances | None, str]:
    """What a recipe with changes amounts to, as a pipeline; None where it teaches nothing or cannot be read."""
    try:
        loaded = load_recipe(path, set=changes)
        recipe = loaded.recipe
        stage = next((own for own in reversed(recipe.phases().values()) if own.learner == "student"), None)
        objective = (stage.objective if stage is not None else None) or recipe.objective
        built = {label: build_term(label, spec, allow_code=False) for label, spec in objective.items()}
    except (LimbeckError, OSError):
        return None, None, ""
    taught = {label: objective[label] for label, term in built.items() if term.loss.needs.teacher}
    outputs = [spec for label, spec in taught.items() if built[label].loss.needs.features == "none"]
    inner = [spec for label, spec in taught.items() if built[label].loss.needs.features != "none"]
    if not taught:
        return None, None, ""
    data, train = (stage.data if stage is not None else None) or recipe.data, (stage.train if stage is not None else None) or recipe.train
    weights = {label: spec.weight if isinstance(spec.weight, (int, float)) else 1.0 for label, spec in objective.items()}
    total = sum(weights.values())
    temperature = outputs[0].options.get("temperature") if outputs else None
    pipeline = Pipeline(
        logits=outputs[0].loss if outputs else NONE,
        temperature=float(temperature) if isinstance(temperature, (int, float)) else 4.0,
        share=sum(weights[label] for label in taught) / total if total else 0.9,
        target=outputs[0].targets[0].name if outputs and outputs[0].targets else NONE,
        features=inner[0].loss if inner else NONE,
        augment="other" if data.transforms else GIVEN,
        mix=data.mix.kind if data.mix is not None else GIVEN,
        average="ema" if train.ema is not None else GIVEN,
    )
    return pipeline, Circumstances(recipe.task, labelled=data.label_fraction), data.source


class MetaLearner:
    """A forest that predicts the distillation ratio of a pipeline.

    Attributes:
        trusted: whether it ranks pipelines of recipes that it does not know.
        reason: why, or why not, in a sentence.
    """

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.observations = list(observations)
        self._columns = _columns(self.observations)
        self.trusted, self.reason = self._examined()
        if self.trusted:
            self._forest = self._fitted(self.observations)

    def propose(self, where: Circumstances, space: Space, base: Pipeline, count: int, *, seed: int) -> list[Pipeline]:
        """The `count` pipelines of a space with the highest predictions, no two with the same losses and augmentation."""
        drawn = drawn_from(space, base, DRAWN, seed=seed)
        values = self._forest.predict(np.array([self._row(where, pipeline) for pipeline in drawn]))
        found: dict[tuple[str, str, str], Pipeline] = {}
        for place in np.argsort(-values, kind="stable"):
            pipeline = drawn[int(place)]
            found.setdefault((pipeline.logits, pipeline.features, pipeline.mix), pipeline)
        return list(found.values())[:count]

    def _examined(self) -> tuple[bool, str]:
        known = self.observations
        if len(known) < LEAST:
            text = f"{len(known)} pipelines; {LEAST} are needed"
            return False, f"The evidence is too thin to learn from ({text}), so a fixed order is tried first."
        agreements, how = self._left_out()
        agreement, chance = pooled(agreements)
        text = f"rank correlation {agreement:.2f} with {how} left out in turn, p = {chance:.2g}"
        if chance < CHANCE:
            return True, f"First trials come from a forest fitted on {len(known)} pipelines ({text}), then from a fixed order."
        return False, f"A forest fitted on {len(known)} pipelines does not rank others ({text}), so a fixed order is tried first."

    def _left_out(self) -> tuple[list[tuple[float, int]], str]:
        """How well pipelines are ranked that were not fitted, and how many they are, in every turn; and what was left out."""
        known = self.observations
        names = sorted({item.situation for item in known})
        varied = [name for name in names if len({item.ratio for item in known if item.situation == name}) > 2]
        if len(varied) >= SITUATIONS:
            turns = [[item.situation == name for item in known] for name in varied]
            how = f"each of {len(varied)} situations"
        else:
            order = np.random.default_rng(0).permutation(len(known))
            turns = [[bool(order[i] % FOLDS == turn) for i in range(len(known))] for turn in range(FOLDS)]
            how = "a fifth of them"
        agreements = []
        for turn in turns:
            held = [item for item, out in zip(known, turn, strict=True) if out]
            forest = self._fitted([item for item, out in zip(known, turn, strict=True) if not out])
            said = forest.predict(np.array([self._row(item.where, item.pipeline) for item in held]))
            agreements.append((_rank_agreement(said, _gains(held, known)), len(held)))
        return agreements, how

    def _fitted(self, observations: Sequence[Observation]) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        rows = np.array([self._row(item.where, item.pipeline) for item in observations])
        goals = _gains(observations, observations)
        return RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0).fit(rows, goals)

    def _row(self, where: Circumstances, pipeline: Pipeline) -> list[float]:
        told = {**where.__dict__, **pipeline.values()}
        found = []
        for name, option in self._columns:
            value = told[name]
            found.append(float(value == option) if option is not None else float(value))
        return found


def _gains(observations: Sequence[Observation], among: Sequence[Observation]) -> np.ndarray:
    """Ratios less the mean of their situation, so that how hard a task is does not count: pipelines of one task are to be told apart."""
    means = {name: np.mean([o.ratio for o in among if o.situation == name]) for name in {o.situation for o in observations}}
    return np.array([item.ratio - means[item.situation] for item in observations])


def _columns(observations: Sequence[Observation]) -> list[tuple[str, str | None]]:
    """A column for every number, and one for every text that a feature takes."""
    found: dict[tuple[str, str | None], None] = {}
    for item in observations:
        for name, value in {**item.where.__dict__, **item.pipeline.values()}.items():
            if name != "taps":
                found[(name, value if isinstance(value, str) else None)] = None
    return list(found)


def pooled(agreements: Sequence[tuple[float, int]]) -> tuple[float, float]:
    r"""Rank correlations of several turns as one, and the probability that chance gives as much.

    .. math:: r = \frac{\sum_i (n_i - 1) r_i}{\sum_i (n_i - 1)}, \qquad p = 1 - \Phi\left(r \sqrt{\sum_i (n_i - 1)}\right)

    since a rank correlation of n unrelated pairs has the variance 1 / (n - 1). So a turn counts as much as it knows.

    Args:
        agreements: the rank correlation of each turn, and of how many pairs it is.

    Returns:
        The correlation, and p; 0 and 1 where no turn has two pairs.
    """
    weight = sum(count - 1 for _, count in agreements)
    if weight <= 0:
        return 0.0, 1.0
    agreement = sum((count - 1) * value for value, count in agreements) / weight
    return agreement, math.erfc(agreement * math.sqrt(weight / 2)) / 2


def _rank_agreement(said: np.ndarray, true: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one of the two does not vary."""
    from scipy.stats import rankdata

    first, second = rankdata(said), rankdata(true)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def drawn_from(space: Space, base: Pipeline, count: int, *, seed: int) -> list[Pipeline]:
    """Pipelines drawn evenly from a space; half of them without a loss on inner layers."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        values: dict[str, Any] = {}
        for name, factor in space.factors.items():
            if isinstance(factor, Choice):
                values[name] = str(random.choice(np.array(factor.options, dtype=object)))
            elif factor.log:
                values[name] = float(math.exp(random.uniform(math.log(factor.low), math.log(factor.high))))
            else:
                values[name] = float(random.uniform(factor.low, factor.high))
        if number % 2 and "features" in values:
            values["features"] = NONE
        found.append(space.mended(Pipeline.of({**base.values(), **values})))
    return found


def usual(space: Space, base: Pipeline) -> list[Pipeline]:
    """The fixed order of first trials.

    Each changes what helped most in the studies of its paper: more examples between the given ones (arXiv:2211.03946, 2106.05237), a
    faster or slower rate, the average of weights (1803.05407), other ways to compare outputs (2203.08679, 2205.10536), relations and
    hints beside them (1904.05068, 1412.6550), and the student's own average as second teacher (1703.01780).
    """
    changes: list[dict[str, Any]] = [
        {"mix": "mixup", "rate": 2.0},
        {"average": "ema", "rate": 2.0},
        {"features": "rkd", "pull": 0.3},
        {"augment": "noise", "average": "ema"},
        {"logits": "dist"},
        {"logits": "dkd", "average": "ema"},
        {"augment": "shift", "mix": "mixup"},
        {"features": "hint", "pull": 0.3, "average": "ema"},
        {"target": "logit_standardization", "temperature": 2.0},
        {"teacher": "ema"},
    ]
    found = []
    for change in changes:
        fine = all(name in space.factors and _has(space, name, value) for name, value in change.items())
        if fine:
            found.append(space.mended(Pipeline.of({**base.values(), **change})))
    return found


def _has(space: Space, name: str, value: Any) -> bool:
    factor = space.factors[name]
    return value in factor.options if isinstance(factor, Choice) else factor.low <= value <= factor.high
