"""Ranks students for a teacher without training any: `limbeck students`, by DisWOT's score within a budget of size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from .. import assemble
from ..config.load import load_recipe
from ..config.model_schema import ModelSpec
from ..data.load import load_data
from ..engine.backend import Backend
from ..engine.checkpoint import seed_everything
from ..errors import LimbeckError, RunError, TapError
from ..evaluate.cost import model_cost
from ..evaluate.diswot import Glance, classifier_gradient, diswot
from ..models.build import build_model
from ..run import recipe_file
from ..taps.suggest import with_aliases
from ..taps.tapped import Tapped
from ..tasks.base import Task
from ..types import Batch, DataInfo, labelled
from .candidates import Entry, read_candidates, variants

BATCH, DRAWS = 64, 5


@dataclass(frozen=True)
class Ranked:
    """A student and what an untrained look at it says."""

    name: str
    parameters: float
    flops: float
    bytes: float
    score: float | None
    """Mean over the draws, at most 0, higher is better; None of a student that is over the budget or cannot run."""
    deviation: float | None
    """Standard deviation over the draws of initial weights and batches."""
    note: str = ""
    """Why it was left out."""


@dataclass(frozen=True)
class Limits:
    """How large a student may be."""

    flops: float | None = None
    bytes: float | None = None

    def excess(self, cost: Mapping[str, Any]) -> str:
        """What is too large, empty where nothing is."""
        for name, most, found in (("FLOPs", self.flops, cost["flops"]), ("bytes", self.bytes, cost["bytes"])):
            if most is not None and found > most:
                return f"{found:,.0f} {name} are more than {most:,.0f}"
        return ""


NO_LIMITS = Limits()


def rank_students(
    recipe: str | Path | Mapping[str, Any],
    candidates: Sequence[str] = (),
    limits: Limits = NO_LIMITS,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    draws: int = DRAWS,
    batch: int = BATCH,
    device: str | None = None,
    allow_code: bool = True,
) -> tuple[list[Ranked], str]:
    """The students of a list, best first, those that were left out at the end.

    Teacher and students have initial weights, as in the paper; nothing is read but the training examples.

    Args:
        recipe: gives data and teacher.
        candidates: models, see `read_candidates`; narrower and wider ones of the recipe's student where empty.
        limits: what is larger is left out.
        set: overrides by dotted key.
        draws: how often weights and batch are drawn.
        batch: labelled examples of a draw.
        device: as for a run.
        allow_code: import code that the recipe names.

    Returns:
        The ranking, and what the gradients of the classifiers were compared by: `channels` or `classes`.

    Raises:
        LimbeckError: where the task is no classification, the recipe has no teacher, or no student can be judged.
    """
    loaded = load_recipe(recipe_file(recipe), set=set, allow_code=allow_code)
    own = assemble.located(loaded)
    task = assemble.build_task(own, allow_code=allow_code)
    if task.labels != "class" or task.language is not None:
        raise RunError(f"DisWOT compares the classifiers of models, and the task {own.task!r} has none: it is for one class an example.")
    if own.teacher is None:
        raise RunError("the recipe names no `teacher` for which students could be ranked.")
    entries = read_candidates(candidates) if candidates else variants(own.student)
    request = assemble.data_request(own.data, own)
    splits = load_data(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=allow_code)
    look = _Look(task, splits.info, splits.train, Backend(precision="fp32", device=device).device, own.seed, batch, allow_code)
    return _ranking(look, own.teacher, entries, limits, draws)


@dataclass(frozen=True)
class _Look:
    """What every model is shown."""

    task: Task
    info: DataInfo
    train: Any
    device: torch.device
    seed: int
    batch: int
    allow_code: bool

    def cost(self, spec: ModelSpec) -> dict[str, Any]:
        """Parameters, FLOPs and bytes of a model, which is not made."""
        with torch.device("meta"):
            built = build_model(assemble.model_request(spec), self.info, allow_code=self.allow_code, load=False)
        example = self.task.example(self.info, batch=1)
        self.task.check_head(self.task.call(built.module.eval(), None, example).logits, self.info)
        return model_cost(built.module, example.inputs, latency=False)

    def examples(self, draw: int) -> Batch:
        """A batch of labelled training examples."""
        known = labelled(self.train.labels).nonzero().flatten()
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.seed * 1009 + draw))
        return self.train.__getitems__(known[order[: self.batch]].tolist()).to(self.device)

    def glance(self, spec: ModelSpec, batch: Batch, draw: int) -> Glance:
        """What a model with initial weights shows of a batch."""
        seed_everything((self.seed * 1_000_003 + 7919 * draw) % 2**31)
        request = assemble.model_request(spec.model_copy(update={"weights": None}))
        built = build_model(request, self.info, allow_code=self.allow_code)
        module = built.module.to(self.device).eval()
        taps = last_layers(module)
        tapped = Tapped(module, taps)
        try:
            with torch.no_grad():
                said = self.task.call(tapped, built.normalization, batch)
        finally:
            tapped.close()
        pooled = said.features[taps[0]]
        pooled = pooled.flatten(2).mean(2) if pooled.ndim > 3 else pooled
        labels: Tensor = batch.labels if batch.labels is not None else torch.zeros(0)
        return Glance(said.features[taps[-1]], classifier_gradient(pooled.float(), said.logits.float(), labels))


def last_layers(module: nn.Module) -> list[str]:
    """The input of the classifier, and the last layer before it where that is another.

    Raises:
        TapError: where a model's classifier is not found.
    """
    layers = with_aliases(module)
    if "head" not in layers:
        raise TapError("its classifier is not found, so its embedding is not known")
    return ["head:input", *(["last_stage"] if "last_stage" in layers else [])]


def _ranking(look: _Look, teacher: ModelSpec, entries: Sequence[Entry], limits: Limits, draws: int) -> tuple[list[Ranked], str]:
    costs, notes = {}, {}
    for entry in entries:
        costs[entry.name] = {"parameters": 0, "flops": 0, "bytes": 0}
        try:
            costs[entry.name] = look.cost(entry.spec)
            notes[entry.name] = limits.excess(costs[entry.name])
        except (LimbeckError, RuntimeError) as error:
            notes[entry.name] = str(error).strip().split("\n")[0]
    within = [entry for entry in entries if not notes[entry.name]]
    if not within:
        raise RunError("no candidate is left: " + "; ".join(f"{name}: {note}" for name, note in notes.items()))
    looks = [(look.glance(teacher, batch, draw), batch) for draw in range(draws) for batch in [look.examples(draw)]]
    shown = {entry.name: [look.glance(entry.spec, batch, draw) for draw, (_, batch) in enumerate(looks)] for entry in within}
    # One kind of comparison for all: only such scores may be ranked together.
    same = all(glance.gradient.shape == looks[0][0].gradient.shape for own in shown.values() for glance in own)
    by = "channels" if same else "classes"
    found = []
    for entry in entries:
        cost = costs[entry.name]
        sizes = (cost["parameters"], cost["flops"], cost["bytes"])
        if entry.name in shown:
            scores = [diswot(own, theirs, by=by).score for own, (theirs, _) in zip(shown[entry.name], looks, strict=True)]
            found.append(Ranked(entry.name, *sizes, fmean(scores), stdev(scores) if draws > 1 else None))
        else:
            found.append(Ranked(entry.name, *sizes, None, None, notes[entry.name]))
    return sorted(found, key=lambda item: (item.score is None, -(item.score or 0.0))), by
