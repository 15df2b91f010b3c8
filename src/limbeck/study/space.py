"""The space of pipelines for a pair of models: which losses, layers, adapters and augmentations the check accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import assemble
from ..config.load import load_recipe
from ..data.transforms import TRANSFORMS
from ..errors import LimbeckError, Problem, RecipeError
from ..models.build import build_model
from ..preflight import preflight
from ..registry import ADAPTERS, LOSSES
from ..taps.suggest import suggest_taps, with_aliases
from ..types import DataInfo, Needs
from .ground import Ground, warm
from .pipeline import AUGMENTATIONS, GIVEN, MIXES, NONE, Pipeline

LOGITS_FIRST = ("kd", "dkd", "dist", "ttm", "wttm", "nkd", "mse", "akl", "skd", "bdkd", "mlkd", "wsld", "ranking_kd", "soft_cross_entropy")
FEATURES_FIRST = ("rkd", "hint", "sp", "srd", "at", "pkt", "cc", "crd", "reviewkd", "cka", "semckd", "vid", "afd", "ickd", "hidden_states")
TEXT_FIRST = ("hidden_states",)
"""The order in which losses are taken into a small space, where the evidence says nothing: those that won, in the papers that compare
losses under one training (arXiv:1910.10699, 2203.08679, 2205.10536, 2303.11098), before the others, and cheap ones before dear ones. On
inner layers of models of texts, those come first that leave padding out (arXiv:1909.10351)."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "losses": ("logits", "target", "features"),
    "layers": ("taps", "adapter"),
    "weights": ("share", "strength", "pull"),
    "temperature": ("temperature",),
    "augmentation": ("augment", "mix"),
    "teacher": ("teacher",),
    "training": ("rate", "average"),
}
"""Factors by the name under which `--fix` leaves them as they are."""


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A number between two bounds."""

    low: float
    high: float
    log: bool = False


Factor = Choice | Range


@dataclass(frozen=True)
class Space:
    """Every factor with its values, and which losses go with which mixing."""

    factors: Mapping[str, Factor]
    rejected: Mapping[str, str]
    """Losses that do not fit the pair, with the reason."""
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The layers that a loss on inner layers takes."""
    adapters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The adapters that it takes there, by `LOSS@LAYERS`."""

    def mended(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline with layers and adapters that its loss takes."""
        if pipeline.features == NONE:
            return replace(pipeline, taps="", adapter="auto")
        layers = self.layers[pipeline.features]
        taps = pipeline.taps if pipeline.taps in layers else layers[0]
        fits = pipeline.adapter in self.adapters[f"{pipeline.features}@{taps}"]
        return replace(pipeline, taps=taps, adapter=pipeline.adapter if fits else "auto")

    def fixed(self, groups: Sequence[str]) -> Space:
        """The space without the factors of some groups, which stay as in plain distillation."""
        gone = {name for group in groups for name in GROUPS[group]}
        kept = {name: factor for name, factor in self.factors.items() if name not in gone}
        return replace(self, factors=kept)


def find_space(ground: Ground, info: DataInfo, *, logits: int, features: int, allow_code: bool) -> Space:
    """The space of a recipe: registered parts that its check accepts for these data and models.

    Each candidate is a term of one recipe, which is checked as a whole: a term that does not fit is reported at its own place.

    Args:
        ground: the recipe.
        info: its data.
        logits: how many losses on outputs are looked at, the usual ones first.
        features: how many losses on inner layers are looked at.
        allow_code: as for a run.
    """
    pairs = tap_pairs(_module(ground, "student", info, allow_code), _module(ground, "teacher", info, allow_code))
    candidates = _candidates(ground, pairs, logits, features)
    accepted, rejected = _accepted(ground, candidates, allow_code=allow_code)
    layers: dict[str, dict[str, None]] = {}
    adapters: dict[str, dict[str, None]] = {}
    for label in accepted:
        if "@" in label:
            place, _, adapter = label.rpartition("@")
            loss, _, taps = place.partition("@")
            layers.setdefault(loss, {})[taps] = None
            adapters.setdefault(place, {"auto": None})[adapter] = None
    outputs = [label for label in accepted if "@" not in label]
    return Space(
        _factors(ground, outputs, layers, adapters, info.kind, allow_code),
        {name: reason for name, reason in rejected.items() if name not in outputs and name not in layers},
        {loss: tuple(own) for loss, own in layers.items()},
        {place: tuple(own) for place, own in adapters.items()},
    )


def tap_pairs(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Pairs of layers that lie equally deep, `STUDENT > TEACHER`, from the first to the last.

    Names that mean the same in every model where both have them; else the suggested layers, matched by their relative depth.
    """
    mine, theirs = with_aliases(student), with_aliases(teacher)
    common = [f"stage{i}" for i in range(1, 5) if f"stage{i}" in mine and f"stage{i}" in theirs]
    pairs = [f"{name} > {name}" for name in common]
    if not pairs:
        own, other = [
            [path for path in suggest_taps(module) if layers[path] is not layers.get("head")]
            for module, layers in ((student, mine), (teacher, theirs))
        ]
        for i, path in enumerate(own if other else []):
            place = round((i + 1) / len(own) * len(other)) - 1
            pairs.append(f"{path} > {other[max(place, 0)]}")
    if "head" in mine and "head" in theirs:
        pairs.append("head:input > head:input")
    return pairs[-4:]


def _module(ground: Ground, name: str, info: DataInfo, allow_code: bool) -> nn.Module:
    recipe = assemble.located(ground.loaded)
    spec = recipe.student if name == "student" else recipe.teacher
    if spec is None:
        raise LimbeckError(f"the recipe has no {name}.")
    with torch.device("meta"):
        return build_model(assemble.model_request(spec), info, allow_code=allow_code, load=False).module


def _candidates(ground: Ground, pairs: Sequence[str], logits: int, features: int) -> dict[str, dict[str, Any]]:
    """Terms to be tried: `LOSS` on outputs, `LOSS@LAYERS@ADAPTER` on inner layers."""
    found: dict[str, dict[str, Any]] = {}
    outputs, inner = 0, 0
    inner_first = (*TEXT_FIRST, *FEATURES_FIRST) if ground.task.data_kind == "text" else FEATURES_FIRST
    for name in _ordered(LOSSES.names(), (ground.plain[0], *LOGITS_FIRST, *inner_first)):
        needs = _needs(name)
        if needs is None or not needs.teacher or not needs.fits(ground.task.labels) or needs.rotations:
            continue
        if needs.features in ("none", "optional"):
            outputs += 1
            found |= {name: {"loss": name}} if outputs <= logits else {}
        elif pairs:
            inner += 1
            found |= (_single(name, needs, pairs) if needs.features == "one" else _several(name, pairs)) if inner <= features else {}
    return found


def _single(name: str, needs: Needs, pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A loss that compares one layer of each: at every pair, the deepest first, with every adapter."""
    kinds = ["auto", *(ADAPTERS.names() if needs.match != "any" else [])]
    return {f"{name}@{pair}@{kind}": _term(name, [pair], kind) for pair in reversed(pairs) for kind in kinds}


def _several(name: str, pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A loss that compares several layers: all of them, those before the embedding, the blocks among them, the last two, the last."""
    before = [pair for pair in pairs if not pair.startswith("head:input")]
    blocks = [pair for pair in before if pair.partition(" > ")[0].rpartition(".")[2].isdigit()]
    groups = [before, list(pairs), blocks, list(pairs[-2:]), before[-1:]]
    return {f"{name}@{' + '.join(group)}@auto": _term(name, group, "auto") for group in groups if group}


def _needs(name: str) -> Needs | None:
    """What a loss asks for with its defaults; None of one that cannot be made without being told more."""
    try:
        return LOSSES.get(name)().needs
    except (TypeError, ValueError, LimbeckError):
        return None


def _term(loss: str, pairs: Sequence[str], adapter: str) -> dict[str, Any]:
    split = [pair.split(" > ") for pair in pairs]
    term: dict[str, Any] = {"loss": loss, "student": [p[0] for p in split], "teacher": [p[-1] for p in split]}
    return term | ({"adapter": adapter} if adapter != "auto" else {})


def _accepted(ground: Ground, candidates: Mapping[str, Mapping[str, Any]], *, allow_code: bool) -> tuple[list[str], dict[str, str]]:
    """The candidates that the check has nothing against, in order, and by loss what it has against the others.

    A check ends at the first of reading, layers and losses that something is wrong with, so those that are left are checked once more.
    """
    left, why = {f"c{i}": label for i, label in enumerate(candidates)}, dict[str, str]()
    refused = True
    while refused:
        refused = False
        for problem in problems(ground, {key: dict(candidates[label]) for key, label in left.items()}, {}, allow_code=allow_code):
            key = problem.key.rpartition("objective.")[2].split(".")[0]
            if key in left:
                refused = True
                why.setdefault(left.pop(key).split("@")[0], problem.message)
    return list(left.values()), why


def problems(ground: Ground, objective: Mapping[str, Any], data: Mapping[str, Any], *, allow_code: bool) -> Sequence[Problem]:
    """What the check has against terms of the student's last stage beside its labels.

    Args:
        ground: the recipe.
        objective: the terms.
        data: keys of `data` that are laid over the recipe's.
        allow_code: as for a run.
    """
    recipe = ground.with_terms({**ground.labels, **objective}, Path.cwd())
    place = recipe if ground.stage is None else recipe["stages"][ground.stage]
    if data:
        place["data"] = {**place.get("data", {}), **data}
    try:
        loaded = load_recipe(recipe, allow_code=allow_code)
    except RecipeError as error:
        return error.problems
    return preflight(loaded, allow_code=allow_code).problems


def _possible(ground: Ground, data: Mapping[str, Any], allow_code: bool) -> bool:
    """Whether plain distillation can have these data."""
    name, options = ground.plain
    return not problems(ground, {"plain": {"loss": name, **options}}, data, allow_code=allow_code)


def _ordered(names: Sequence[str], first: Sequence[str]) -> list[str]:
    known = [name for name in first if name in names]
    return list(dict.fromkeys([*known, *names]))


def _factors(
    ground: Ground,
    logits: Sequence[str],
    layers: Mapping[str, Mapping[str, None]],
    adapters: Mapping[str, Mapping[str, None]],
    kind: str,
    allow_code: bool,
) -> dict[str, Factor]:
    every = tuple(dict.fromkeys(taps for own in layers.values() for taps in own))
    kinds = tuple(dict.fromkeys(kind for own in adapters.values() for kind in own))
    found: dict[str, Factor] = {"logits": Choice(tuple(logits)), "share": Range(0.3, 1.0), "strength": Range(0.3, 3.0, log=True)}
    if any(warm(name) for name in logits):
        found["temperature"] = Range(1.0, 10.0, log=True)
    if ground.task.labels in ("class", "token"):
        found["target"] = Choice((NONE, "logit_standardization"))
    if layers:
        found |= {"features": Choice((NONE, *layers)), "taps": Choice(every), "pull": Range(0.03, 3.0, log=True)}
        found |= {"adapter": Choice(kinds)} if len(kinds) > 1 else {}
    before = list(ground.data.transforms)
    fit = [name for name, more in AUGMENTATIONS.items() if all(_takes(transform, kind) for transform in more)]
    ways = [name for name in fit if _possible(ground, {"transforms": [*before, *AUGMENTATIONS[name]]}, allow_code)]
    mixes = [name for name, mix in MIXES.items() if ground.data.mix is None and _possible(ground, {"mix": dict(mix)}, allow_code)]
    found |= {"augment": Choice((GIVEN, *ways))} if ways else {}
    found |= {"mix": Choice((GIVEN, *mixes))} if mixes else {}
    return found | {"teacher": Choice(("frozen", "ema")), "rate": Range(0.3, 3.0, log=True), "average": Choice((GIVEN, "ema"))}


def _takes(transform: Any, kind: str) -> bool:
    """Whether a transform is for data of a kind."""
    name = transform if isinstance(transform, str) else next(iter(transform))
    return kind in TRANSFORMS.get(name).kinds
