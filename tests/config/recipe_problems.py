"""A small good recipe to damage, and the problems that it then has."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError

GOOD = {
    "about": "{title: x}",
    "task": "classification",
    "data": "sklearn:digits",
    "student": "mlp",
    "teacher": "convnet",
    "objective": "{labels: cross_entropy, logits: kd}",
    "train": "{epochs: 3}",
}
"""A valid recipe, a key a line, so that the line of a key is known."""


def problems(text: str | bytes, **arguments: object) -> list[str]:
    """The problems of a recipe without their excerpts."""
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", **arguments)  # type: ignore[arg-type]
    return [str(problem).split("\n    ")[0].removeprefix("r.yaml:") for problem in caught.value.problems]


def recipe(changes: dict[str, str | None]) -> str:
    """The good recipe with some keys changed, added, or (None) left out."""
    return "".join(f"{key}: {value}\n" for key, value in {**GOOD, **changes}.items() if value is not None)
