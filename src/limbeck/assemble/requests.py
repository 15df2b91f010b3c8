"""The task, the models and the data of a recipe, as the layers that build them want these."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config.data_schema import DataSpec
from ..config.model_schema import ModelSpec, Normalize, TeacherSpec
from ..config.schema import Recipe
from ..data.arguments import build
from ..data.base import DataRequest
from ..data.joint import DatasetRequest
from ..data.language.request import CanaryRequest, RolloutRequest, TokenRequest
from ..data.mixing import MIXINGS
from ..data.mixing.base import Mixing
from ..data.pools import PoolRequest
from ..data.views import ViewRequest
from ..models.base import ModelRequest, Normalization
from ..models.lora import Lora
from ..models.prompt import Prompt
from ..models.scaling import Sources
from ..models.shrink import Shrink
from ..registry import TASKS
from ..tasks.base import Task

RANDOM = "random"
"""Explicit word for a model without weights."""


def build_task(recipe: Recipe, *, allow_code: bool) -> Task:
    """The recipe's task."""
    return TASKS.get(recipe.task, allow_code=allow_code)()


def model_request(spec: ModelSpec) -> ModelRequest:
    """A model as the models layer wants it."""
    normalize: Any = spec.normalize
    if isinstance(normalize, Normalize):
        normalize = Normalization(tuple(normalize.mean), tuple(normalize.std))
    weights = None if spec.weights == RANDOM else spec.weights
    return ModelRequest(
        model=spec.model,
        weights=weights,
        prefix=dict(spec.prefix),
        args=dict(spec.args),
        normalize=normalize,
        view=spec.view,
        dtype=spec.dtype or ("auto" if isinstance(spec, TeacherSpec) else "fp32"),
        gradient_checkpointing=spec.gradient_checkpointing,
        shrink=Shrink(**{**spec.shrink.model_dump(), "keep": tuple(spec.shrink.keep)}) if spec.shrink is not None else None,
        lora=Lora(**{**spec.lora.model_dump(), "targets": tuple(spec.lora.targets)}) if spec.lora is not None else None,
        prompt=Prompt(**spec.prompt.model_dump()) if spec.prompt is not None else None,
        sources=Sources(**{**spec.sources.model_dump(), "models": tuple(spec.sources.models)}) if spec.sources is not None else None,
        lazy=spec.lazy,
    )


def own_tokenizer(spec: ModelSpec) -> str | None:
    """The tokenizer that lies beside a model of texts, as the data want it."""
    scheme, _, rest = spec.model.partition(":")
    return {"hf": rest, "llama2c": str(Path(rest).parent)}.get(scheme)


def data_request(spec: DataSpec, recipe: Recipe) -> DataRequest:
    """Data as the data layer wants it; the tokenizer is the student's own where none is named."""
    return DataRequest(
        source=spec.source,
        args=dict(spec.args),
        datasets={name: DatasetRequest(own.source, own.labels, dict(own.args)) for name, own in spec.datasets.items()},
        only=list(spec.only),
        valid=spec.split.valid,
        test=spec.split.test,
        folds=spec.split.folds,
        fold=spec.split.fold,
        split_seed=spec.split.seed,
        group=spec.split.group,
        classes=[str(name) for name in spec.classes],
        label_fraction=spec.label_fraction,
        wrong=spec.wrong,
        unlabelled=spec.unlabelled,
        limit=spec.limit,
        size=spec.size,
        transforms=list(spec.transforms),
        tokenizer=spec.tokenizer or own_tokenizer(recipe.student),
        max_length=spec.max_length,
        tokens=_tokens(spec),
        pool=PoolRequest(spec.pool.source, dict(spec.pool.args), spec.pool.limit) if spec.pool is not None else None,
        select=spec.select.manifest if spec.select is not None else None,
        test_transforms=list(spec.test_transforms),
        views={name: ViewRequest(**dict(view)) for name, view in spec.views.items()},
    )


def _tokens(spec: DataSpec) -> TokenRequest:
    asked = {own.name: getattr(spec, own.name) for own in fields(TokenRequest)}
    canaries = CanaryRequest(**dict(spec.canaries)) if spec.canaries is not None else None
    rollouts = RolloutRequest(spec.rollouts.file) if spec.rollouts is not None else None
    return TokenRequest(**{**asked, "canaries": canaries, "rollouts": rollouts})


def build_mixing(spec: DataSpec, *, allow_code: bool) -> Mixing | None:
    """How the inputs of an update are mixed; None where they are not.

    Raises:
        LimbeckError: where the kind refuses its fields.
    """
    if spec.mix is None:
        return None
    return build(MIXINGS.get(spec.mix.kind, allow_code=allow_code), dict(spec.mix.model_extra or {}), f"data.mix {spec.mix.kind!r}")
