"""The grammar of a term of the objective: its loss, weight and layers, and what stands between the two models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from ..types import Fraction, NonNegative
from .spec import TAGS, Spec, form


class Schedule(Spec):
    """A value that changes over a stage."""

    schedule: Literal["linear", "cosine", "exponential", "step"]
    """Shape of the change from `start` to `end`; `step` jumps half-way between `begin` and `until`."""
    start: float
    """Value at the beginning."""
    end: float
    """Value at the end."""
    begin: Fraction = 0.0
    """Where the change starts, as a fraction of the stage."""
    until: Fraction = 1.0
    """Where the change is complete, as a fraction of the stage."""


class Kept(Spec):
    """A weight that is tied to the share of the training examples that a selection keeps."""

    kept: Annotated[list[Annotated[list[NonNegative], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    """Points `[share, weight]` in ascending order; linear between them and constant beyond."""


class Alike(Spec):
    """A weight that is the larger the more alike two models of transformers are when the stage begins (after arXiv:2208.10160)."""

    alike: Annotated[list[str], Field(min_length=2, max_length=2)]
    """Two models of the recipe, such as one with the prompt of a source task and one with that of the target."""
    scale: NonNegative = 1.0
    """The weight of models that say the same: the mean cosine of their last hidden states at the first token, over at most 1,000 training
    texts of the stage, is multiplied by it; below 0 it is 0."""


def _weight(value: Any) -> str:
    for tag, key, kind in ((TAGS[2], "kept", Kept), (TAGS[3], "alike", Alike)):
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return tag
    return form(value)


Weight = Annotated[
    Annotated[Schedule, Tag(TAGS[0])]
    | Annotated[NonNegative, Tag(TAGS[1])]
    | Annotated[Kept, Tag(TAGS[2])]
    | Annotated[Alike, Tag(TAGS[3])],
    Discriminator(_weight),
]


def _listed(value: Any) -> str:
    return TAGS[0] if isinstance(value, list | tuple) else TAGS[1]


LayerMap = Annotated[
    Annotated[list[int | None], Field(min_length=1), Tag(TAGS[0])] | Annotated[Literal["uniform", "skip", "last", "top"], Tag(TAGS[1])],
    Discriminator(_listed),
]


class AdapterSpec(Spec):
    """A trainable bridge from the student's feature to the teacher's; further keys go to the adapter."""

    model_config = ConfigDict(extra="allow")

    kind: str = "auto"
    """A registered adapter, `auto` (picked from the shapes) or `none`."""


class TargetSpec(Spec):
    """A change of both models' signals before a loss compares them; further keys go to it."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A registered target, or `module:Class`."""


class TermSpec(Spec):
    """One loss of the objective. Every other key is a hyper-parameter of the loss."""

    loss: str
    """A registered loss, or `module:Class`."""
    weight: Weight = 1.0
    """Factor of the term."""
    student: list[str] = Field(default_factory=list)
    """Layer path(s) of the student, for a loss on features."""
    teacher: list[str] = Field(default_factory=list)
    """Layer path(s) of the teacher; those of the student where absent."""
    layers: LayerMap | None = None
    """Where paths have a star in the place of the layer's number, as in `encoder.layer.*`: which layer of the teacher each one of the
    student learns from. `uniform` (where absent), `skip`, `last`, `top`, or a list of the teacher's layers, one (or null) for each."""
    from_: str = Field(default="teacher", alias="from")
    """Which teacher, where a recipe names several; in a stage with `peers` also one of its members, or `peers`: the mean over all other
    members."""
    only: str | None = None
    """Where several data sets are learnt together: the one whose examples, outputs and labels the term reads."""
    adapter: AdapterSpec = AdapterSpec()
    """How the student's feature is brought to the shape of the teacher's; a mapping, or just the kind."""
    targets: list[TargetSpec] = Field(default_factory=list)
    """What is done to the signals of both models before the loss sees them, in order; a list, or one name or mapping."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters of the loss, validated against its fields (written beside the keys above, not under `options`)."""
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    """Those hyper-parameters that change over the stage."""
