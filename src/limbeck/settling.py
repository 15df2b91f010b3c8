"""What a stage knows only once its teacher is trained: which examples it keeps, the replies that are written for them, and the weights that
are tied to their share."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import assemble, rollouts
from .assemble import ALONE, Phase
from .config.data_schema import SelectSpec
from .config.model_schema import ModelSpec
from .config.term_schema import Alike, Kept, TermSpec
from .data.base import Examples, Splits
from .data.duplicates import near
from .data.loader import BatchStream, EpochPlan, train_loader
from .data.selected import Selected
from .data.selection import SELECTIONS
from .data.selection.base import Amount, Evidence, Selection, need_labels
from .engine.optim import build_optimizer
from .errors import LimbeckError
from .evaluate.surprise import surprise
from .likeness import EXAMPLES, first_states, similarity_in, weight_at, write_similarity
from .models.base import BuiltModel
from .taps.head import find_head
from .taps.tapped import Tapped
from .tasks.base import Task
from .teachers.base import Call
from .types import labelled

BATCH = 256
SCORER = "scorer"
"""Name of the model that is trained for a selection only; its seed follows from it."""


class Host(rollouts.Host, Protocol):
    """What is needed of a run."""

    task: Task
    allow_code: bool

    def build(self, name: str, spec: ModelSpec, round: int = 0) -> BuiltModel:  # noqa: A002
        """A model with its initial weights."""
        ...

    def call(self, name: str, view: str | None = None) -> Call:
        """How a model is run."""
        ...


def settled(host: Host, phase: Phase) -> Phase:
    """The phase with its selection made (and written into the run's folder) and with plain numbers for weights that are tied to it.

    Replies that are asked for are written, too; the student alone has those of the data.
    """
    spec = phase.data.select
    if spec is not None and spec.method is not None:
        if phase.learner == ALONE and SELECTIONS.get(spec.method, allow_code=host.allow_code).taught:
            spec = SelectSpec(method="random", fraction=spec.fraction, top=spec.top, among=spec.among)
        manifest = SelectSpec(manifest=str(_manifest(host, phase, spec)))
        phase = replace(phase, data=phase.data.model_copy(update={"select": manifest}))
    if phase.data.rollouts is not None and phase.learner != ALONE:
        phase = rollouts.with_rollouts(host, phase)
    tied = {label: term for label, term in phase.objective.items() if isinstance(term.weight, Kept | Alike)}
    if not tied:
        return phase
    weights = {label: _weight(host, phase, label, term) for label, term in tied.items()}
    terms = {label: term.model_copy(update={"weight": weights[label]}) for label, term in tied.items()}
    return replace(phase, objective={**phase.objective, **terms})


def _weight(host: Host, phase: Phase, label: str, term: TermSpec) -> Any:
    """The number that a weight is, once the stage begins; of one that is tied to two models, it is written into the run's folder."""
    if not isinstance(term.weight, Alike):
        return assemble.weight_of(term, host.data(phase.data).kept)
    wish, path = term.weight, host.folder / "weights" / f"{phase.name}-{label}.json"
    known = path.exists()
    if not known:
        examples = host.data(phase.data).train
        rows = torch.arange(min(len(examples), EXAMPLES))
        states: list[Tensor] = []
        for name in wish.alike:
            built = host.models[name]
            built.module.to(host.backend.device)
            batches = (batch.to(host.backend.device) for batch in _batches(examples, rows))
            states.append(first_states(built, name, host.call(name), batches))
        if host.backend.is_main:
            write_similarity(path, states[0], states[1], wish)
    host.backend.wait()  # outside of the branch: a process that comes later finds the file already there
    similarity = similarity_in(path)
    weight = weight_at(wish, similarity)
    if not known:
        host.listener.message(f"{phase.name}: {' and '.join(wish.alike)} are alike by {similarity:.3f}, so {label} weighs {weight:.4g}")
    return weight


def _manifest(host: Host, phase: Phase, spec: SelectSpec) -> Path:
    """The file of a selection, made where it is not there: all stages on the same data that choose alike share one."""
    wide = candidates_of(phase)
    key = zlib.crc32((wide.data.model_dump_json() + spec.model_dump_json()).encode())
    path = host.folder / "selections" / f"{spec.method}-{key:08x}.json"
    if not path.exists():
        selected = select_examples(host, wide, spec)
        if host.backend.is_main:
            selected.write(path)
    host.backend.wait()
    return path


def candidates_of(phase: Phase) -> Phase:
    """The phase with all examples among which a selection chooses; of packed texts, each in a row of its own."""
    return replace(phase, data=phase.data.model_copy(update={"select": None, "unlabelled": True, "pack": False}))


def select_examples(host: Host, phase: Phase, spec: SelectSpec) -> Selected:
    """Which of the training examples of `phase` are kept.

    Raises:
        LimbeckError: where the method cannot judge these data, or nobody is left to choose from.
    """
    splits = host.data(phase.data)
    examples = splits.train
    rows = _candidates(splits, spec)
    method: Selection = SELECTIONS.get(spec.method or "", allow_code=host.allow_code)(**(spec.model_extra or {}))
    _check_kind(host, spec, method)
    others = torch.ones(len(examples), dtype=torch.bool)
    others[rows] = False
    if spec.apart is not None:
        rows = rows[~_repeats(examples, rows, splits, spec.apart)]
    if len(rows) == 0:
        raise LimbeckError(f"data.select: no candidate is left to choose from (among: {spec.among}).")
    if method.reads and set(method.reads) != {"labels"}:
        host.listener.message(f"selection: {spec.method} of {len(rows)} examples")
    evidence = _evidence(host, phase, spec, method, examples, rows)
    chosen, scores = method.choose(evidence, Amount(spec.fraction, spec.top))
    kept = others.clone()
    kept[rows[chosen]] = True
    told: list[float | None] = [None] * len(examples)
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        told[row] = score
    about = spec.model_dump(exclude_none=True, exclude_defaults=True)
    return Selected(len(examples), examples.fingerprint(), tuple(kept.nonzero().flatten().tolist()), tuple(told), about)


def _check_kind(host: Host, spec: SelectSpec, method: Selection) -> None:
    """Refuses a method that asks for what there is not for such data."""
    reads, kind = set(method.reads), host.task.labels
    if kind == "token" or host.task.language is not None:
        able = reads <= {"labels", "losses"} and ("losses" in reads or not reads) and not method.balanced and spec.epochs is None
        if not able or spec.apart is not None:
            raise LimbeckError(
                f"data.select: {spec.method!r}{' with these keys' if reads <= {'labels', 'losses'} else ''} is for one class an example, "
                f"and the task is {host.recipe.task}. Texts are chosen by `difference` or `random`."
            )
    elif kind != "class" and reads & {"labels", "logits", "history", "losses"}:
        raise LimbeckError(f"data.select: {spec.method!r} is for one class an example, and the task is {host.recipe.task}.")


def _candidates(splits: Splits, spec: SelectSpec) -> Tensor:
    rows = torch.arange(len(splits.train))
    if spec.among == "pool":
        return rows[len(rows) - splits.pooled :]
    return rows if spec.among == "all" else rows[~labelled(splits.train.labels)]


def _repeats(examples: Examples, rows: Tensor, splits: Splits, bits: int) -> Tensor:
    """Which candidates repeat an example that is held out."""
    held = [part for part in (splits.valid, splits.test) if part is not None and len(part)]
    plain = [Examples(part.store, part.labels, part.rows) for part in held]
    others = torch.cat([batch.inputs for part in plain for batch in _batches(part, torch.arange(len(part)))])
    return torch.cat([near(batch.inputs, others, bits) for batch in _batches(examples, rows)])


def _batches(examples: Examples, rows: Tensor) -> Iterator[Any]:
    return iter(BatchStream(examples, [part.tolist() for part in rows.split(BATCH)]))


def _evidence(host: Host, phase: Phase, spec: SelectSpec, method: Selection, examples: Examples, rows: Tensor) -> Evidence:
    """What the method reads of the candidates."""
    evidence = Evidence(rows, examples.labels[rows])
    if not {"logits", "features", "history", "losses"} & set(method.reads):
        return evidence
    if spec.epochs is not None:
        built = host.build(SCORER, host.recipe.student)
        host.models[SCORER] = built
        try:
            built.module.to(host.backend.device)
            evidence = replace(evidence, history=_trained(host, phase, built.module, examples, rows, spec.epochs))
            return _answered(host, SCORER, method, examples, evidence)
        finally:
            del host.models[SCORER]
    if "history" in method.reads:
        raise LimbeckError(f"data.select: {spec.method!r} watches a model while it is trained; say for how many epochs with `epochs`.")
    names = {"teacher": spec.teacher} | {field: str(vars(method)[field]) for field in method.judges}
    for key, name in names.items():
        if name not in host.models:
            known = ", ".join(map(repr, host.models))
            raise LimbeckError(f"data.select.{key}: expected a model of the recipe's own ({known}), found {name!r}.")
        host.models[name].module.to(host.backend.device)
    if "losses" in method.reads:
        need_labels(evidence, spec.method or "")
        evidence = replace(evidence, losses=torch.stack([_losses(host, name, examples, rows) for name in names.values()]))
    return _answered(host, spec.teacher, method, examples, evidence)


def _losses(host: Host, name: str, examples: Examples, rows: Tensor) -> Tensor:
    """How badly a model predicts each candidate, `(candidates,)`, float64."""
    module = host.models[name].module
    with _asked(module):
        batches = (batch.to(host.backend.device) for batch in _batches(examples, rows))
        return torch.cat([surprise(host.call(name)(module, batch), batch) for batch in batches])


def _answered(host: Host, name: str, method: Selection, examples: Examples, evidence: Evidence) -> Evidence:
    """The evidence with what a model says."""
    if not {"logits", "features"} & set(method.reads):
        return evidence
    module = host.models[name].module
    tap = _head_input(module) if "features" in method.reads else None
    tapped = Tapped(module, [tap]) if tap is not None else None
    logits: list[Tensor] = []
    features: list[Tensor] = []
    try:
        with _asked(module):
            for batch in _batches(examples, evidence.index):
                said = host.call(name)(tapped or module, batch.to(host.backend.device))
                logits.append(said.logits.float().cpu())
                features += [said.features[tap].flatten(1).float().cpu()] if tap is not None else []
    finally:
        if tapped is not None:
            tapped.close()
    return replace(evidence, logits=torch.cat(logits), features=torch.cat(features) if features else None)


def _head_input(module: nn.Module) -> str:
    head = find_head(module)
    return next(name for name, own in module.named_modules() if own is head) + ":input"


@contextmanager
def _asked(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradient, and the old mode afterwards."""
    before = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(before)


def _trained(host: Host, phase: Phase, module: nn.Module, examples: Examples, rows: Tensor, epochs: int) -> Tensor:
    """Trains a model on the labelled candidates; whether it is right about each candidate after every epoch, `(epochs, candidates)`."""
    known = rows[labelled(examples.labels[rows])]
    if len(known) == 0:
        raise LimbeckError("data.select.epochs: no candidate has a label to train a model with. Ask a teacher instead.")
    spec = phase.train.optimizer
    optimizer = build_optimizer(spec.name, spec.lr, dict(spec.model_extra or {}), module.parameters(), fused=False)
    call, device = host.call(SCORER), host.backend.device
    own = Examples(examples.store, examples.labels[known], examples.rows[known], views=examples.views)
    history: list[Tensor] = []
    for epoch in range(epochs):
        module.train()
        for batch in train_loader(own, EpochPlan(len(own), batch_size=phase.train.batch_size, seed=host.seed(SCORER), epoch=epoch)):
            moved = batch.to(device)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(call(module, moved).logits, moved.labels).backward()  # pyright: ignore[reportArgumentType]
            optimizer.step()
        with _asked(module):
            answers = [call(module, batch.to(device)).logits.argmax(1).cpu() for batch in _batches(examples, rows)]
        history.append(torch.cat(answers) == examples.labels[rows])
    return torch.stack(history)
