"""The grammar of `study`: which variants of a recipe are compared, over which seeds, and what is claimed of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from ..types import NonNegativeInt, PositiveInt
from .spec import Spec


def _listed(value: Any) -> str:
    return "<mapping>" if isinstance(value, list | tuple) else "<scalar>"


Seeds = Annotated[
    Annotated[list[NonNegativeInt], Field(min_length=1), Tag("<mapping>")] | Annotated[PositiveInt, Tag("<scalar>")], Discriminator(_listed)
]


class ArmSpec(Spec):
    """An arm: what it changes in the recipe, by dotted key as with `--set` (null removes). With one of the keys below it is another recipe,
    or stands for many arms; further keys are then changes of each."""

    model_config = ConfigDict(extra="allow")

    recipe: str | None = None
    """Another recipe, which takes the place of this one; `arms: {other: PATH}` for short."""
    live: bool = False
    """Asks the teacher itself where the study has `label`."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Dotted key to a list of values; an arm for every combination, called `NAME,key=value`."""
    from_: Literal["losses"] | None = Field(default=None, alias="from")
    """`losses`: an arm for each loss with one of `tags`, called like the loss; those that do not fit the recipe are left out."""
    tags: list[Literal["logits", "features", "relations", "dense", "alone"]] = Field(default_factory=list)
    """Of `from: losses`: families, as `limbeck losses` lists them; one of them or several."""
    names: list[str] = Field(default_factory=list)
    """Of `from: losses`: these losses, whatever their family."""
    without: list[str] = Field(default_factory=list)
    """Of `from: losses`: losses to leave out."""
    label: str = "logits"
    """Of `from: losses`: the term of the objective in whose place the loss is put; it keeps that term's weight, and its layers if it reads
    any."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """A null beside the known keys removes something from the recipe, so it is kept."""
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


class StudySpec(Spec):
    """Variants of the recipe (arms) over several seeds, and what is claimed of them; `limbeck study` runs them."""

    seeds: Seeds = 5
    """How many seeds, from 0 on, or a list of seeds."""
    arms: dict[str, ArmSpec] = Field(default_factory=dict)
    """Name to changes; `distilled: {}`, the recipe itself, where there are none. `{from: losses, tags: [logits]}` may stand here, too."""
    claims: list[str] = Field(default_factory=list)
    """Such as `distilled.accuracy > alone.accuracy + 0.01`; one or a list. A recipe with `baseline: true` claims that the student is better
    than the student alone, where nothing is said."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the intervals by which claims are decided."""
    correction: Literal["holm", "none"] = "holm"
    """For the number of claims of the study."""
    split_seed: Literal["follow", "fixed"] = "follow"
    """Whether the cut of the data follows the seed (`data.split.seed`), so that the intervals cover its chance, too."""
    baseline: str | None = None
    """The arm with which the others are compared in the ranking; the first where absent."""
    label: str | None = None
    """A codec such as `topk:k=5`: the teacher's answers are written down once a seed, and every arm learns from the store."""
