"""Evaluates a finished student, or a file of weights, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from . import assemble
from .answering import PURPOSE, share_right
from .company import Company, members, tokenizer_of
from .config.load import load_recipe
from .config.model_schema import ModelSpec
from .data.base import Splits
from .data.load import load_data
from .data.loader import eval_loader
from .engine.backend import DTYPES, Backend
from .engine.evaluation import Collected, collect
from .errors import RunError
from .export.student import Student, load_student
from .fusing import tokens_of
from .models.base import BuiltModel
from .models.build import build_model
from .models.checkpoints import load_into, read_state_dict
from .models.lora import holds_adapters
from .session import EVAL_BATCH
from .tokens import Fused, Hidden
from .types import Batch, Signals


def evaluate(
    target: str | Path,
    *,
    recipe: str | Path | None = None,
    split: str = "test",
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - as for `distill`
    company: Company | None = None,
    device: str | None = None,
    allow_code: bool = False,
) -> dict[str, float]:
    """Metrics of a student.

    Args:
        target: a run directory, or a file with the weights of the student of `recipe`.
        recipe: where it is absent, the recipe of the run in which `target` lies.
        split: `test` or `valid`.
        set: overrides of the recipe, such as other data: `{"data.source": "jsonl:other.jsonl"}`, or `["data.source=jsonl:other.jsonl"]`.
        company: a large model that the student of a language run steers; that is judged then.
        device: as for `distill`.
        allow_code: as for `distill`.

    Raises:
        RunError: where there is no such run or file, or no recipe for it.
    """
    target = Path(target)
    if not target.exists():
        raise RunError(f"{target}: no such run or file. Expected a run folder or a .safetensors or .pt file.")
    run = _run_of(target)
    wanted = assemble.located(load_recipe(_recipe_of(target, run, recipe), set=set, allow_code=allow_code))
    task = assemble.build_task(wanted, allow_code=allow_code)
    request = assemble.data_request(wanted.data, wanted)
    if set and task.labels == "token" and run is not None and (run / "student" / "tokenizer_config.json").is_file():
        request = replace(request, tokenizer=str(run / "student"))  # characters of other texts would be other tokens
    data = load_data(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=allow_code)
    task = task.on(data.info)
    student = load_student(target, allow_code=allow_code) if target.is_dir() else None
    judged = student or _with_weights(wanted.student, target, data, allow_code)
    examples = data.test if split == "test" else data.valid
    if examples is None:
        raise RunError(f"{target}: the data of this recipe has no {split} split.")
    backend = Backend(precision=wanted.train.precision, device=device)

    def said(model: nn.Module) -> Collected:
        loader = eval_loader(examples, batch_size=EVAL_BATCH, rank=backend.rank, world=backend.world)

        def call(own: Any, batch: Batch) -> Signals:
            return task.call(own, judged.normalization, batch.shown(wanted.student.view))

        return collect(model.to(backend.device), call, loader, backend, precision=DTYPES[backend.precision])

    found = said(judged.module)
    answers: Any = found.logits if company is None else _fused(student, company, said, found, allow_code=allow_code)
    metrics = task.report(answers, found.labels, found.examples)
    if task.labels == "token" and company is None and backend.is_main:
        with backend.autocast():
            right = share_right(judged.module, data, examples, wanted.evaluate, seed=assemble.seed_of(wanted.seed, PURPOSE))
        metrics |= {} if right is None else {"exact_match": right}
    return metrics


def _fused(student: Student | None, company: Company, said: Callable[[nn.Module], Collected], own: Collected, *, allow_code: bool) -> Any:
    """What a large model says that the student of a run steers."""
    if student is None or not isinstance(own.logits, Hidden):
        raise RunError("only the student in a run folder of a language model can steer a larger one (--large, --base).")
    opened = members(student, tokenizer_of(student), company, allow_code=allow_code)
    large, before = tokens_of(said(opened.large)), tokens_of(said(opened.moves[0][1]))
    others = [tokens_of(said(after)) for after, _ in opened.moves[1:]]
    return Fused(large, tuple((after, before) for after in (own.logits, *others)), opened.weight)


def _with_weights(spec: ModelSpec, file: Path, data: Splits, allow_code: bool) -> BuiltModel:
    """The student with the weights in `file`; one that was made from a larger model, or has adapters, is made first."""
    request, state = assemble.model_request(spec), read_state_dict(file)
    if not holds_adapters(state):  # those of a finished student are merged into its weights
        request = replace(request, lora=None)
    if spec.shrink is None and request.lora is None:
        return build_model(replace(request, weights=str(file)), data.info, allow_code=allow_code)
    batches = (batch.inputs for batch in islice(eval_loader(data.train, batch_size=8), 4))
    built = build_model(request, data.info, allow_code=allow_code, batches=lambda: list(batches))
    load_into(built.module, state, source=str(file))
    return built


def _recipe_of(target: Path, run: Path | None, given: str | Path | None) -> str | Path:
    """The recipe of what is judged: the given one, else that of the run in which it lies."""
    if given:
        return given
    if run is None:
        raise RunError(f"{target}: lies in no run; name the recipe of these weights with --recipe.")
    return run / "recipe.yaml"


def _run_of(path: Path) -> Path | None:
    """The run directory that `path` is or lies in."""
    for folder in (path, *path.parents):
        if (folder / "recipe.yaml").is_file():
            return folder
    return None
