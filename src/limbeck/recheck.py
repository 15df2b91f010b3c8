"""Asks the teacher again about some of the examples of a store, and compares: `limbeck store verify --recipe`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config.load import load_recipe
from .data.base import Examples
from .data.hashing import permutation
from .engine.backend import Backend
from .engine.watch import Listener, Silent
from .errors import CodeNotAllowed
from .labelling import Labelling, draft, present, ready
from .preflight import preflight
from .settling import candidates_of
from .store.manifest import Signal, StoreError, read_manifest
from .store.reader import LOGITS, StoreReader
from .teachers.base import Teacher
from .types import Batch

SAMPLES = 64
ROUNDING = 0.005
"""Largest difference that passes as rounding: relative to the largest value of an example's signal, and of logits in probability."""
AGREEING = 0.9
"""Least share of examples that must agree. Another batch size or device rounds otherwise; near a tie, or near the edge of a step of the
codec, a single answer may then be written differently. Damage is the checksums' business."""
_BATCH = 64


@dataclass(frozen=True)
class Recheck:
    """What was compared."""

    examples: int
    """Examples of all views together."""
    worst: Mapping[str, float]
    """Largest difference by signal."""


def recheck(
    store: str | Path,
    recipe: str | Path | Mapping[str, Any],
    *,
    samples: int = SAMPLES,
    teacher: str = "teacher",
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    listener: Listener | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Recheck:
    """Makes some augmented examples anew, asks the teacher of `recipe`, and compares with what `store` holds of it.

    Stages before the student's are run first, unless `limbeck label` has left them beside the store.

    Args:
        store: a finished store; every shard is compared with its checksum, too.
        recipe: the recipe with which it was made.
        samples: how many examples, over all views; evenly divided among them.
        teacher: which teacher, where the recipe has several.
        set: overrides, as for `distill`.
        device: where the teacher runs.
        allow_code: import code that the recipe names as `module:callable`.
        listener: who is told how it goes.
        interrupted: asked while stages are run.

    Raises:
        StoreError: where the store was made from something else, or more than a tenth of the answers differ by more than `ROUNDING`.
    """
    if read_manifest(store).language:
        raise StoreError(
            f"{store}: what a language model says of tokens is compared with targets when it is read; --recipe is for other stores."
        )
    reader = StoreReader(store)
    manifest = reader.manifest
    loaded = load_recipe(recipe, set=set, allow_code=allow_code)
    if loaded.code and not allow_code:
        raise CodeNotAllowed(loaded.code[0])
    preflight(loaded, allow_code=allow_code, device=device).raise_problems()
    backend = Backend(precision=loaded.recipe.train.precision, device=device)
    wish = Labelling(store, manifest.signals, manifest.views, teacher=teacher)
    session, phase, speaker, examples = ready(loaded, wish, backend, listener or Silent(), interrupted, allow_code)
    if len(examples) != manifest.examples and examples.among is not None:  # labelled with --all
        phase = candidates_of(phase)
        examples = session.data(phase.data).train
    try:
        reader.check(draft(session, phase, speaker, examples, wish, manifest.views).key, len(examples))
        return _compared(reader, speaker, examples, samples, backend.device)
    finally:
        speaker.close()


def _compared(reader: StoreReader, teacher: Teacher, examples: Examples, samples: int, device: torch.device) -> Recheck:
    manifest = reader.manifest
    each, count = -(-samples // manifest.views), 0
    gaps: dict[str, list[Tensor]] = {name: [] for name in manifest.signals}
    for view in range(manifest.views):
        shown = examples.augmented(manifest.key.seed, view)
        rows = sorted(permutation(len(examples), manifest.key.seed, view)[:each].tolist())
        count += len(rows)
        for begin in range(0, len(rows), _BATCH):
            batch = shown.__getitems__(rows[begin : begin + _BATCH])
            for name, gap in _gaps(reader, teacher, batch, view, device).items():
                gaps[name].append(gap)
    for name, parts in gaps.items():
        whole = torch.cat(parts)
        differ = int((~(whole <= ROUNDING)).sum())  # NaN is no agreement
        if differ > (1 - AGREEING) * count:
            raise StoreError(
                f"{reader.place}: {name!r} of {differ} of {count} examples differs from what the teacher says of them now, by up to "
                f"{float(whole.max()):.2g}; {ROUNDING:g} passes as rounding. Make the store anew with `limbeck label`."
            )
    return Recheck(count, {name: float(torch.cat(parts).max()) for name, parts in gaps.items()})


def _gaps(reader: StoreReader, teacher: Teacher, batch: Batch, view: int, device: torch.device) -> dict[str, Tensor]:
    """For every signal the largest difference of each example, `(batch,)`; both sides as the codec keeps them."""
    signals = reader.manifest.signals
    said, stored = present(teacher.signals(batch.to(device))), present(reader.read(batch.index, view, list(signals)))
    return {name: _gap(name, signals[name], said[name], stored[name], batch.index) for name in stored}


def _gap(name: str, signal: Signal, said: Tensor, stored: Tensor, index: Tensor) -> Tensor:
    codec = signal.build()
    now, then = codec.decode(codec.encode(said, index), signal.shape), stored
    if name == LOGITS and now.ndim == 2:
        return (now.softmax(1) - then.softmax(1)).abs().amax(1)
    now, then = now.flatten(1), then.flatten(1)
    return (now - then).abs().amax(1) / then.abs().amax(1).clamp_min(1e-6)
