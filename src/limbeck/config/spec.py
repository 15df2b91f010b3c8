"""What all recipe models have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

TAGS = ("<mapping>", "<scalar>", "<kept>", "<alike>")
"""Names of the forms of a value that may be a mapping or a scalar; they appear in pydantic's locations only."""


def form(value: Any) -> str:
    """Which of the two forms a value has."""
    return TAGS[0] if isinstance(value, (dict, BaseModel)) else TAGS[1]


class Spec(BaseModel):
    """Base of all recipe models: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """A known key set to null has its default, as everywhere else in a recipe; an unknown one is still reported."""
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        free = cls.model_config.get("extra") == "allow"
        return {key: value for key, value in data.items() if value is not None or not (free or key in known)}
