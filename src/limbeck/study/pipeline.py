"""A distillation pipeline as a point of the search space, and as the sections of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

NONE = "none"
GIVEN = "given"
"""A choice that leaves the recipe as it is."""
LOGITS, FEATURES, PAST = "logits", "features", "past"
"""Labels of the terms that a pipeline writes: outputs, inner layers, and the student's own past (a mean teacher)."""
DECAY = 0.99
"""Of the moving averages that a pipeline may ask for; of the average that teaches as well as of that which is kept."""
MIXES: Mapping[str, Mapping[str, Any]] = {
    "mixup": {"kind": "mixup", "alpha": 1.0},
    "cutmix": {"kind": "cutmix", "alpha": 1.0},
}
AUGMENTATIONS: Mapping[str, tuple[Any, ...]] = {
    "noise": ({"noise": {"std": 0.1}},),
    "shift": ({"affine": {"degrees": 0.0, "translate": 0.1}},),
    "turn": ({"affine": {"degrees": 10.0, "translate": 0.1}},),
    "flip": ("flip", {"crop": {"padding": 1}}),
}
"""Augmentation beside the recipe's own, by name."""


@dataclass(frozen=True)
class Pipeline:
    """What the student learns from its teacher, and how. Each field is a factor of the search."""

    logits: str
    """The loss on outputs."""
    temperature: float = 4.0
    """Its temperature, where it has one."""
    share: float = 0.9
    """Weight of what the teacher says; the labels have the rest of 1."""
    strength: float = 1.0
    """Of a loss on outputs other than the plain one: how strong its gradient is at first, as a multiple of the plain one's."""
    target: str = NONE
    """What is done to both models' outputs before they are compared."""
    features: str = NONE
    """A further loss on inner layers."""
    taps: str = ""
    """Which layers, `STUDENT > TEACHER`; several pairs are joined by ` + `."""
    adapter: str = "auto"
    """How the student's layer is brought to the shape of the teacher's."""
    pull: float = 0.3
    """Strength of the loss on inner layers, as `strength`."""
    teacher: str = "frozen"
    """`frozen`: the recipe's teacher alone; `ema`: also the moving average of the student itself (a mean teacher)."""
    augment: str = GIVEN
    """Augmentation of the examples that the student sees."""
    mix: str = GIVEN
    """Mixing of these examples."""
    rate: float = 1.0
    """Factor of the recipe's learning rate."""
    average: str = GIVEN
    """`ema`: the moving average of the student's weights is what is kept."""

    def values(self) -> dict[str, Any]:
        """The factors by name."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Pipeline:
        """The pipeline with these factors; those that are not named have their defaults."""
        known = cls(logits=str(values["logits"]))
        return replace(known, **{name: value for name, value in values.items() if name in asdict(known)})


@dataclass(frozen=True)
class Scales:
    """Factors that make the first gradients of losses as strong as the plain one's."""

    logits: float = 1.0
    features: float = 1.0


UNWEIGHED = Scales()


def terms(pipeline: Pipeline, scales: Scales, *, warm: bool, options: Mapping[str, Any] = {}) -> dict[str, dict[str, Any]]:
    """The terms with a teacher, as a recipe writes them.

    Args:
        pipeline: what is to be written.
        scales: what the losses' gradients are to be multiplied by.
        warm: whether the loss on outputs has a temperature.
        options: further hyper-parameters of that loss.
    """
    weight = rounded(pipeline.share * pipeline.strength * scales.logits)
    first: dict[str, Any] = {"loss": pipeline.logits, **({"temperature": rounded(pipeline.temperature)} if warm else {}), **options}
    first |= {"weight": weight} | ({"targets": pipeline.target} if pipeline.target != NONE else {})
    found = {LOGITS: first}
    if pipeline.features != NONE:
        found[FEATURES] = feature_term(pipeline, rounded(pipeline.share * pipeline.pull * scales.features))
    if pipeline.teacher == "ema":
        found[PAST] = {"loss": pipeline.logits, **({"temperature": 1.0} if warm else {}), **options, "from": PAST}
        found[PAST]["weight"] = rounded(0.3 * weight)
    return found


def feature_term(pipeline: Pipeline, weight: float) -> dict[str, Any]:
    """The term on inner layers."""
    term: dict[str, Any] = {"loss": pipeline.features}
    if pipeline.taps:
        pairs = [pair.split(" > ") for pair in pipeline.taps.split(" + ")]
        term |= {"student": [pair[0] for pair in pairs], "teacher": [pair[-1] for pair in pairs]}
    return term | ({"adapter": pipeline.adapter} if pipeline.adapter != "auto" else {}) | {"weight": weight}


def rounded(value: float) -> float:
    """Three significant digits: nobody can tell more apart, and they can be read."""
    return float(f"{value:.3g}")
