"""What is kept of the studies of the shipped recipes: their claims and verdicts, beside the parity of the losses that they use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import read_json
from .registry import LOSSES
from .testing.parity.compared import compared

NO_RECIPES = "base"
"""Folder below `recipes/` whose files are parts of recipes."""


@dataclass(frozen=True)
class Claimed:
    """A claim and what the seeds say of it."""

    text: str
    verdict: str
    """`holds`, `fails` or `undecided`."""
    estimate: float | None
    """Left side less right."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Entry:
    """What is known of a recipe."""

    slug: str
    recipe: str
    """Its path from the top of the repository."""
    page: int | None
    """Number of the method's page in the list of methods that are to be covered; None of other recipes."""
    parity: str | None
    """`pass`, `differs` or `missing`, of the stored numbers that the recipe's losses are compared with; None where there are none."""
    claims: tuple[Claimed, ...]
    """Empty where the study was not run, or claims nothing."""
    seeds: int
    """How many the study has; 0 where it was not run."""


def slug(path: Path | None) -> str:
    """A name for the study of a recipe: its file's, and where several below `recipes/` share it, with the folders before it."""
    if path is None:
        return "study"
    parts = path.resolve().with_suffix("").parts
    if "recipes" not in parts:
        return path.stem
    at = len(parts) - 1 - parts[::-1].index("recipes")
    same = [other for other in Path(*parts[: at + 1]).rglob(f"{path.stem}.yaml") if other.parent.name != NO_RECIPES]
    return path.stem if len(same) < 2 else "-".join(parts[at + 1 :])


def place() -> Path | None:
    """The folder `evidence` of the repository, or of the package; None where neither has one."""
    package = Path(__file__).parent
    return next((root / "evidence" for root in (package.parents[1], package) if (root / "evidence" / "parity.json").is_file()), None)


def entries(folder: Path) -> list[Entry]:
    """An entry for every shipped recipe, and for what else there is evidence of, by name.

    Args:
        folder: `evidence`, beside which `recipes` lies.
    """
    found = {file.stem: held for file in sorted(folder.glob("*.json")) if (held := read_json(file)).get("kind") == "study"}
    files = [path for path in sorted((folder.parent / "recipes").rglob("*.yaml")) if path.parent.name != NO_RECIPES]
    paths = {slug(path): path.relative_to(folder.parent).as_posix() for path in files}
    pages = read_json(folder / "pages.json")["pages"] if (folder / "pages.json").is_file() else {}
    parity = read_json(folder / "parity.json")["methods"] if (folder / "parity.json").is_file() else {}
    names = sorted({*paths, *found})
    return [_entry(name, found.get(name, {}), paths.get(name), folder.parent, pages, parity) for name in names]


def _entry(
    name: str, held: Mapping[str, Any], path: str | None, root: Path, pages: Mapping[str, int], parity: Mapping[str, Mapping[str, Any]]
) -> Entry:
    recipe = path or str(held.get("recipe", ""))
    claims = tuple(Claimed(*(claim[key] for key in ("text", "verdict", "estimate", "low", "high"))) for claim in held.get("claims", ()))
    return Entry(name, recipe, pages.get(Path(recipe).stem), _parity(root / recipe, parity), claims, len(held.get("seeds", ())))


def _parity(recipe: Path, methods: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The worst verdict of the stored numbers with which the losses of a recipe are compared."""
    if not recipe.is_file():
        return None
    words = set(re.findall(r":\s*[\"']?(\w+)", recipe.read_text(encoding="utf-8")))
    used = words & {*LOSSES.files()} - {"cross_entropy"}
    verdicts = {methods[method]["verdict"] for method, losses in compared().items() if losses & used and method in methods}
    return next((word for word in ("differs", "missing", "pass") if word in verdicts), None)
