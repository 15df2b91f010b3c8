"""Evaluates a finished student, or a file of weights, without training."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

from . import assemble
from .config.load import load_recipe
from .config.schema import ModelSpec
from .data.base import Splits
from .data.load import load_data
from .data.loader import eval_loader
from .engine.backend import DTYPES, Backend
from .engine.evaluation import collect
from .errors import RunError
from .export.student import load_student
from .models.base import BuiltModel
from .models.build import build_model
from .models.checkpoints import load_into, read_state_dict
from .models.lora import holds_adapters
from .session import EVAL_BATCH


def evaluate(
    target: str | Path,
    *,
    recipe: str | Path | None = None,
    split: str = "test",
    device: str | None = None,
    allow_code: bool = False,
) -> dict[str, float]:
    """Metrics of a student.

    Args:
        target: a run directory, or a file with the weights of the student of `recipe`.
        recipe: where it is absent, the recipe of the run in which `target` lies.
        split: `test` or `valid`.
        device: as for `distill`.
        allow_code: as for `distill`.

    Raises:
        RunError: where there is no such run or file, or no recipe for it.
    """
    target = Path(target)
    if not target.exists():
        raise RunError(f"{target}: no such run or file. Expected a run folder or a .safetensors or .pt file.")
    run = _run_of(target)
    file = recipe or (run / "recipe.yaml" if run is not None else None)
    if file is None:
        raise RunError(f"{target}: lies in no run; name the recipe of these weights with --recipe.")
    wanted = assemble.located(load_recipe(file, allow_code=allow_code))
    task = assemble.build_task(wanted, allow_code=allow_code)
    data = load_data(
        assemble.data_request(wanted.data, wanted), kind=task.data_kind, labels=task.labels, language=task.language, allow_code=allow_code
    )
    task = task.on(data.info)
    if target.is_dir():
        student = load_student(target, allow_code=allow_code)
        module, normalization = student.module, student.normalization
    else:
        built = _with_weights(wanted.student, target, data, allow_code)
        module, normalization = built.module, built.normalization
    examples = data.test if split == "test" else data.valid
    if examples is None:
        raise RunError(f"{target}: the data of this recipe has no {split} split.")
    backend = Backend(precision=wanted.train.precision, device=device)
    loader = eval_loader(examples, batch_size=EVAL_BATCH, rank=backend.rank, world=backend.world)
    said = collect(
        module.to(backend.device),
        lambda model, batch: task.call(model, normalization, batch.shown(wanted.student.view)),
        loader,
        backend,
        precision=DTYPES[backend.precision],
    )
    return task.report(said.logits, said.labels, said.examples)


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


def _run_of(path: Path) -> Path | None:
    """The run directory that `path` is or lies in."""
    for folder in (path, *path.parents):
        if (folder / "recipe.yaml").is_file():
            return folder
    return None
