"""What is kept of the studies of the shipped recipes: their claims and verdicts, beside the parity of the losses that they use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    needs: str | None = None
    """What the study of the recipe asks for that no repository can bring, such as `your data`; None where it can be run."""
    over: Mapping[str, Any] = field(default_factory=dict)
    """What was laid over the recipe, by dotted key, to be done in minutes: its claims are then those of a shorter run."""

    @property
    def shortened(self) -> str:
        """What was laid over the recipe, as with `--set`; empty where nothing was."""
        return ", ".join(f"{key}={json.dumps(value)}" for key, value in self.over.items())


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
    asks = needs(folder)
    shown: list[Entry] = []
    for name in sorted({*paths, *found}):
        held = found.get(name, {})
        recipe = paths.get(name) or str(held.get("recipe", ""))
        claims = tuple(Claimed(*(claim[key] for key in ("text", "verdict", "estimate", "low", "high"))) for claim in held.get("claims", ()))
        asked = need(Path(recipe), asks) if not held else None
        page, agrees = pages.get(Path(recipe).stem), _parity(folder.parent / recipe, parity)
        shown.append(Entry(name, recipe, page, agrees, claims, len(held.get("seeds", ())), asked, held.get("over", {})))
    return shown


def needs(folder: Path) -> dict[str, str]:
    """What recipes, or all of a folder below `recipes/`, ask for that no repository can bring (`needs.json` of a folder of evidence)."""
    return read_json(folder / "needs.json")["needs"] if (folder / "needs.json").is_file() else {}


def need(recipe: Path, asks: Mapping[str, str]) -> str | None:
    """What a recipe asks for, of what `needs` says; None where nothing."""
    name = recipe.with_suffix("").as_posix()
    return next((what for part, what in asks.items() if f"/{name}/".partition("/recipes/")[2].startswith(f"{part}/")), None)


def _parity(recipe: Path, methods: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The worst verdict of the stored numbers with which the losses of a recipe are compared."""
    if not recipe.is_file():
        return None
    words = set(re.findall(r":\s*[\"']?(\w+)", recipe.read_text(encoding="utf-8")))
    used = words & {*LOSSES.files()} - {"cross_entropy"}
    verdicts = {methods[method]["verdict"] for method, losses in compared().items() if losses & used and method in methods}
    return next((word for word in ("differs", "missing", "pass") if word in verdicts), None)
