"""Ranks teachers for a student: `limbeck teachers`.

A teacher is looked at in four ways, from cheap to dear, all on the validation split: how well its features tell the classes to their
nearest neighbours (arXiv:2210.10209) and to all linear classifiers (LogME, arXiv:2102.11005), how well it does itself, and how well a
student does that it has taught for a short while: the smoke test of the data-efficient distillation framework, which is what counts.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import assemble
from ..config.load import LoadedRecipe, load_recipe
from ..data.base import Examples, Splits
from ..data.load import load_data
from ..data.loader import eval_loader
from ..engine.watch import Silent
from ..errors import LimbeckError, RunError, ShapeMismatch
from ..evaluate.logme import logme
from ..evaluate.neighbours import nearest_vote
from ..files import read_json, write_json
from ..preflight import preflight
from ..run import interruptible, recipe_file
from ..session import Session
from ..taps.tapped import Tapped
from ..types import labelled
from .bench import Bench, failure
from .candidates import Entry, read_candidates
from .ground import Ground, ground_of
from .pipeline import Pipeline
from .students import last_layers

SMOKE = 0.25
NEIGHBOURS = 5
MOST = 5000
"""Training examples that neighbours are looked for among."""


@dataclass(frozen=True)
class Judged:
    """A teacher and what is found of it, on the validation split; None where it does not apply."""

    name: str
    neighbours: float | None = None
    """Share of the examples that their nearest neighbours, in its features, classify rightly."""
    logme: float | None = None
    own: float | None = None
    """Its own metric; None of one that does not answer for these classes."""
    smoke: float | None = None
    """Metric of the student after its short training by this teacher."""
    note: str = ""
    """Why it could not be judged."""
    targets: Mapping[str, float] | None = None
    """Accuracy of the neighbours on other data, by recipe."""


@dataclass(frozen=True)
class TeacherRanking:
    """The teachers, best first, and what they were ranked by."""

    teachers: list[Judged]
    metric: str
    maximize: bool
    by: str
    alone: float | None
    """Metric of the student after a training as short as that of the smoke test, by labels alone."""
    inputs: Mapping[str, float]
    """Accuracy of neighbours of the bare inputs, by recipe; the recipe's own is under the empty text."""


@dataclass(frozen=True)
class Probe:
    """How teachers are to be judged."""

    smoke: float = SMOKE
    """Share of the student's training; 0 leaves the smoke test out."""
    targets: Sequence[str] = ()
    """Recipes on whose data the features are probed too: a row of the transfer matrix (after arXiv:2508.17482)."""
    out: Path = Path("runs") / "teachers"
    """Where teachers that have to be trained are kept; one that is there is not trained again."""


def rank_teachers(
    recipe: str | Path | Mapping[str, Any],
    candidates: Sequence[str],
    probe: Probe,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> TeacherRanking:
    """Judges every candidate on the validation split of a recipe.

    A candidate with `weights` teaches as it is; any other is trained first, by the stages that train the recipe's teacher.

    Raises:
        RunError: where there is nothing to rank, or data and task do not allow it.
    """
    loaded = load_recipe(recipe_file(recipe), set=set, allow_code=allow_code)
    task = assemble.build_task(loaded.recipe, allow_code=allow_code)
    if task.labels not in ("class", "real") or task.language is not None:
        raise RunError(f"teachers are ranked for one class or for numbers an example, and the task {loaded.recipe.task!r} has neither.")
    ground = ground_of(loaded, task, allow_code=allow_code)
    entries = read_candidates(candidates)
    if not entries:
        raise RunError("name teachers with --candidates, such as 'mlp hidden=[64]' or the folder of a run.")
    with interruptible() as interrupted:
        work = _Work(ground, probe, device, allow_code, interrupted, say)
        found = [work.judge(number, entry) for number, entry in enumerate(entries)]
        alone = work.alone() if probe.smoke else None
    inputs = {**work.inputs} if task.labels == "class" else {}
    by = "smoke test" if probe.smoke else "mean rank of neighbours and LogME" if task.labels == "class" else "LogME"
    return TeacherRanking(_ordered(found, by, ground.maximize), ground.primary, ground.maximize, by, alone, inputs)


@dataclass
class _Work:
    ground: Ground
    probe: Probe
    device: str | None
    allow_code: bool
    interrupted: Callable[[], bool]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.inputs: dict[str, float] = {}
        self._others: dict[str, Splits] = {}

    def judge(self, number: int, entry: Entry) -> Judged:
        """One candidate; what is wrong with it is a note."""
        try:
            found = self._judged(number, entry)
        except (LimbeckError, RuntimeError) as error:
            return Judged(entry.name, note=failure(error))
        self.say(f"{entry.name}: judged")
        return found

    def alone(self) -> float:
        """The student after the short training, without a teacher."""
        place = self._bench(self.probe.out / "alone")
        recipe = self._short(self.ground.alone(place.folder / "run", seed=self.ground.loaded.recipe.seed))
        for stage in [name for name, own in self.ground.loaded.recipe.stages.items() if own.learner != "student"]:
            recipe["stages"][stage]["train"] = {"steps": 1}  # who teaches nobody need not learn
        place.forget(place.folder)
        loaded = place.load(recipe, place.folder / "run")
        place.prepare(loaded)
        return place.train(loaded, place.folder / "run").metrics[self.ground.primary]

    def _judged(self, number: int, entry: Entry) -> Judged:
        bench = self._bench(self.probe.out / f"{number}")
        recipe = self._with(entry, bench.folder / "shared")
        mark = bench.folder / "teacher.json"
        fresh = {"teacher": recipe["teacher"], "recipe": _told(self.ground.loaded)}
        if mark.exists() and read_json(mark) != fresh:
            shutil.rmtree(bench.folder)
        loaded = bench.load(recipe, bench.folder / "shared")
        preflight(loaded, allow_code=self.allow_code, device=self.device).raise_problems()
        write_json(mark, fresh)
        bench.prepare(loaded)
        session = bench.opened(loaded)
        splits = session.data()
        found = Judged(entry.name, own=self._own(session))
        found = self._features(found, session, splits)
        if self.probe.smoke:
            place = bench.folder / "smoke"
            bench.forget(place)
            plain = self.ground.recipe(Pipeline(self.ground.plain[0]), place)
            short = self._short(self._with(entry, place, plain))
            found = replace(found, smoke=bench.train(bench.load(short, place), place).metrics[self.ground.primary])
        return found

    def _bench(self, folder: Path) -> Bench:
        return Bench(folder, self.device, Silent(), self.interrupted, self.allow_code)

    def _with(self, entry: Entry, folder: Path, recipe: dict[str, Any] | None = None) -> dict[str, Any]:
        """The recipe with another teacher; one that has weights is not trained.

        Raises:
            RunError: where it has none, and no stage trains it.
        """
        found = dict(recipe) if recipe is not None else self.ground.recipe(None, folder)
        spec = entry.spec.model_dump(exclude_unset=True, mode="json")
        stages = {name: own for name, own in self.ground.loaded.recipe.stages.items() if own.learner == "teacher"}
        if spec.get("weights") is None and not stages:
            raise RunError("it has no weights, and no stage of the recipe trains the teacher.")
        if spec.get("weights") not in (None, "pretrained", "random"):
            spec["weights"] = str(Path(spec["weights"]).absolute()) if Path(spec["weights"]).exists() else spec["weights"]
        found["teacher"] = spec
        if spec.get("weights") is not None:
            found["stages"] = {name: own for name, own in (found.get("stages") or {}).items() if name not in stages}
        return found

    def _short(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """The recipe with a share of the student's training; that of its teacher stays."""
        whole = self.ground.loaded.recipe
        for name, own in whole.phases().items():
            if own.learner == "student":
                train = own.train or whole.train
                place = recipe["stages"][name] if whole.stages else recipe
                length = {"epochs": train.epochs} if train.steps is None else {"steps": train.steps}
                less = {key: max(1, round(self.probe.smoke * value)) for key, value in length.items()}
                place["train"] = {**(place.get("train") or {}), **less}
        return recipe

    def _own(self, session: Session) -> float | None:
        """The teacher's own metric."""
        said = session.collect("teacher", "valid")
        try:
            session.task.check_head(said.logits, session.data().info)
        except ShapeMismatch:
            return None
        return session.task.report(said.logits, said.labels, said.examples)[self.ground.primary]

    def _features(self, found: Judged, session: Session, splits: Splits) -> Judged:
        known, asked = self._embedded(session, splits.train), self._embedded(session, _valid(splits))
        found = replace(found, logme=logme(*asked))
        if self.ground.task.labels != "class":
            return found
        self._bare("", splits)
        targets = {name: value for name in self.probe.targets if (value := self._elsewhere(session, name)) is not None}
        return replace(found, neighbours=_accuracy(known, asked), targets=targets)

    def _elsewhere(self, session: Session, name: str) -> float | None:
        """How the neighbours do on the data of another recipe; None where the model does not take such inputs."""
        splits = self._other(name)
        if splits.info.input_shape != session.data().info.input_shape:
            return None
        return _accuracy(self._embedded(session, splits.train), self._embedded(session, _valid(splits)))

    def _other(self, name: str) -> Splits:
        if name not in self._others:
            loaded = load_recipe(recipe_file(name), allow_code=self.allow_code)
            recipe = assemble.located(loaded)
            task = assemble.build_task(recipe, allow_code=self.allow_code)
            if task.labels != "class" or task.language is not None:
                raise RunError(f"{name}: neighbours vote for one class an example, and the task {recipe.task!r} has none.")
            request = assemble.data_request(recipe.data, recipe)
            self._others[name] = load_data(request, kind=task.data_kind, labels=task.labels, allow_code=self.allow_code)
            self._bare(name, self._others[name])
        return self._others[name]

    def _bare(self, name: str, splits: Splits) -> None:
        if name not in self.inputs:
            known, asked = ((_inputs(part)) for part in (splits.train, _valid(splits)))
            self.inputs[name] = _accuracy(known, asked)

    def _embedded(self, session: Session, examples: Examples) -> tuple[Tensor, Tensor]:
        """The embeddings of the labelled examples, and their labels."""
        module = session.models["teacher"].module.to(session.backend.device).eval()
        tap = last_layers(module)[0]
        tapped, parts = Tapped(module, [tap]), []
        try:
            with torch.no_grad():
                for batch in _batches(examples):
                    here = batch.to(session.backend.device)
                    parts.append(session.call("teacher")(tapped, here).features[tap].flatten(1).float().cpu())
        finally:
            tapped.close()
        return _known(torch.cat(parts), examples)


def _batches(examples: Examples) -> Any:
    return eval_loader(examples, batch_size=256)


def _inputs(examples: Examples) -> tuple[Tensor, Tensor]:
    return _known(torch.cat([batch.inputs.flatten(1).float() for batch in _batches(examples)]), examples)


def _known(features: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    known = labelled(examples.labels).cpu()
    return features[known], examples.labels.cpu()[known]


def _valid(splits: Splits) -> Examples:
    if splits.valid is None or not len(splits.valid):
        raise RunError("teachers are judged on the validation split, and these data have none. Set `data.split.valid`, such as 0.15.")
    return splits.valid


def _accuracy(known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor]) -> float:
    order = torch.randperm(len(known[0]), generator=torch.Generator().manual_seed(0))[:MOST]
    # Of equal scale, so that no column rules because of its unit.
    mean, deviation = known[0].mean(0), known[0].std(0, correction=0).clamp_min(1e-6)
    known_features, asked_features = ((part - mean) / deviation for part in (known[0][order], asked[0]))
    return (nearest_vote(known_features, known[1][order], asked_features, k=NEIGHBOURS) == asked[1]).double().mean().item()


def _told(loaded: LoadedRecipe) -> Any:
    """What a trained teacher depends on, besides itself."""
    recipe = loaded.recipe.model_dump(mode="json")
    stages = {name: own for name, own in recipe["stages"].items() if own["learner"] != "student"}
    return {**{key: recipe[key] for key in ("task", "seed", "data", "train")}, "stages": stages}


def _ordered(found: Sequence[Judged], by: str, maximize: bool) -> list[Judged]:
    """Best first; those that could not be judged at the end."""
    good = [item for item in found if not item.note]

    def place(item: Judged) -> float:
        if by == "smoke test":
            return -(item.smoke or 0.0) if maximize else (item.smoke if item.smoke is not None else math.inf)
        ways = [[other.neighbours for other in good], [other.logme for other in good]]
        mine = (item.neighbours, item.logme)
        ranks = [sum((value or 0.0) > own for value in way) for way, own in zip(ways, mine, strict=True) if own is not None]
        return sum(ranks) / len(ranks)

    return [*sorted(good, key=place), *(item for item in found if item.note)]
