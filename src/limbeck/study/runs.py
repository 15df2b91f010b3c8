"""The runs of a study: every arm with every seed, what is shared between them, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .. import assemble
from ..config.load import load_recipe
from ..config.study_schema import StudySpec
from ..engine.backend import pick_device
from ..files import read_json
from ..sharing import phase_keys
from .arms import Arm
from .folder import arm_file, run_folder

LABELLED = "labelled"
"""What the task of writing a store is called in the place of an arm."""


@dataclass(frozen=True)
class How:
    """How jobs are done."""

    workers: int = 1
    device: str | None = None
    allow_code: bool = True
    report: bool = True
    """Whether every run writes its report."""
    shared: Path | None = None
    """Where stages that runs have in common are kept, if not in the study's folder."""

    @property
    def threads(self) -> int:
        """Those of each run: a worker's share of this process's."""
        return max(1, torch.get_num_threads() // self.workers)


@dataclass(frozen=True, eq=False)
class Job:
    """A run, or the writing of a store; it can be described as JSON."""

    arm: str
    seed: int
    recipe: Path
    """The arm's recipe in the study's folder."""
    folder: Path
    """The run directory, or the store."""
    set: Mapping[str, Any]
    """The seeds, and the store where there is one."""
    shared: Path
    """Where stages that runs have in common are kept."""
    label: str | None = None
    """The codec of a store that is to be written; None of a run."""
    views: int | None = None
    """How many augmentations of the data the store shows."""
    keys: frozenset[str] = field(default_factory=frozenset)
    """What the shared stages of a run are called."""
    store: Path | None = None
    """The store that a run needs."""

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        if self.label is not None:
            return (self.folder / "manifest.json").is_file()
        status = self.folder / "status.json"
        return status.is_file() and read_json(status).get("status") == "finished"

    def plain(self) -> dict[str, Any]:
        """What another process needs to do it."""
        paths = {"recipe": self.recipe, "folder": self.folder, "shared": self.shared}
        return {
            **{key: str(path.absolute()) for key, path in paths.items()},
            "set": dict(self.set),
            "label": self.label,
            "views": self.views,
        }


def jobs_of(folder: Path, spec: StudySpec, arms: Sequence[Arm], seeds: Iterable[int], how: How) -> list[Job]:
    """Everything that is to be done for a study, seed by seed; what is finished already is among it."""
    shared = how.shared or folder / "shared"
    jobs: list[Job] = []
    for seed in seeds:
        store = folder / "stores" / f"seed-{seed}" if spec.label is not None else None
        seeds_set = {"seed": seed, **({"data.split.seed": seed} if spec.split_seed == "follow" else {})}
        if store is not None and spec.label is not None:
            first = next((arm for arm in arms if not live(spec, arm)), None)
            if first is not None:
                recipe = arm_file(folder, first.name)
                jobs.append(Job(LABELLED, seed, recipe, store, seeds_set, shared, spec.label, _views(first)))
        for arm in arms:
            own = None if live(spec, arm) else store
            values = {**seeds_set, **({"teacher.stored": str(own.absolute())} if own is not None else {})}
            keys = frozenset() if own is not None else _keys(arm_file(folder, arm.name), values, how.device, how.allow_code)
            place = run_folder(folder, arm.name, seed)
            jobs.append(Job(arm.name, seed, arm_file(folder, arm.name), place, values, shared, keys=keys, store=own))
    return jobs


def _views(arm: Arm) -> int | None:
    """As many augmentations as there are epochs, so that a student sees in each what it would see without the store."""
    recipe = arm.loaded.recipe
    return recipe.train.epochs if recipe.data.transforms else None


def live(spec: StudySpec, arm: Arm) -> bool:
    """Whether an arm asks the teacher itself though the study writes its answers down."""
    own = spec.arms.get(arm.name)
    return spec.label is None or (own is not None and own.live)


def _keys(file: Path, values: Mapping[str, Any], device: str | None, allow_code: bool) -> frozenset[str]:
    """The keys of the stages that a run may share with others."""
    recipe = assemble.located(load_recipe(file, set=values, allow_code=allow_code))
    phases = assemble.phases(recipe, assemble.build_task(recipe, allow_code=allow_code), allow_code=allow_code)
    found = phase_keys(recipe, phases, device=str(pick_device(device)), allow_code=allow_code)
    return frozenset(key for key in found if key is not None)
