"""The folder of a study: what is written into it before the first run, and whether a study may go on in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..config.load import LoadedRecipe, load_recipe
from ..errors import RunError
from ..files import check_writable, read_json, write_json, write_text
from ..run import differences
from .arms import Arm

STUDIES = Path("studies")
"""Where studies lie unless the user says otherwise."""
FILE = "study.json"


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (path / FILE).is_file()


def place(loaded: LoadedRecipe, out: Path | None, *, resume: bool) -> Path:
    """The folder of a study.

    Args:
        loaded: the recipe.
        out: the folder that was asked for; `studies/NAME`, numbered where it is taken, if None.
        resume: whether to go on with what lies there.

    Raises:
        RunError: where it holds another study and the user did not ask to go on with it, or none where he did.
    """
    name = loaded.path.stem if loaded.path is not None else "study"
    if out is None and resume:
        found = [p for p in STUDIES.glob(f"{name}*") if is_study(p) and (p.name == name or p.name.removeprefix(f"{name}-").isdigit())]
        if not found:
            raise RunError(f"{STUDIES / name}: --resume was asked for, but no study of this recipe was begun. Leave --resume away.")
        unfinished = [path for path in found if read_json(path / FILE)["status"] != "finished"]
        return max(unfinished or found, key=lambda path: (path / FILE).stat().st_mtime)
    if out is None:
        free = (STUDIES / (name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
        return next(path for path in free if not is_study(path))
    if is_study(out) and not resume:
        raise RunError(f"{out}: holds a study already. Add --resume to go on with it, or choose another folder with --out.")
    return out


def arm_file(folder: Path, arm: str) -> Path:
    """The recipe of an arm, in which every value is written out."""
    return folder / "arms" / f"{arm}.yaml"


def run_folder(folder: Path, arm: str, seed: int) -> Path:
    """The run directory of an arm with a seed."""
    return folder / "runs" / arm / f"seed-{seed}"


def begin(folder: Path, loaded: LoadedRecipe, arms: Iterable[Arm], record: dict[str, Any]) -> None:
    """Writes what is known before the first run; in a folder that holds a study, refuses one that is another.

    Seeds, arms and claims may be added; what an arm is may not change.

    Raises:
        RunError: an arm differs from the one of the same name whose runs lie here; says how.
    """
    check_writable(folder, 2**20)
    if is_study(folder):
        for arm in arms:
            _same(folder, arm)
    for arm in arms:
        if not arm_file(folder, arm.name).exists():
            write_text(arm_file(folder, arm.name), arm.loaded.resolved(arm_file(folder, arm.name).parent))
    write_text(folder / "recipe.yaml", loaded.resolved(folder, defaults=False))  # the arms are laid over it when it is gone on with
    write_json(folder / FILE, {"format": 1, "kind": "study", **record})


def _same(folder: Path, arm: Arm) -> None:
    file = arm_file(folder, arm.name)
    if not file.exists():
        return
    differs = differences(load_recipe(file, allow_code=arm.loaded.allow_code), arm.loaded)
    if differs:
        shown = "; ".join(differs[:8])
        raise RunError(
            f"{folder}: the arm {arm.name!r} was another one when its runs were begun ({shown}). Choose another folder with --out, or give "
            "the arm another name."
        )
