"""Runs a recipe's teacher over the training data once and writes what it says: `limbeck.label` and `limbeck label`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from . import assemble
from .assemble import ALONE, Phase
from .belonging import check_origin, inputs_key, origin, teacher_hash
from .config.data_schema import DataSpec
from .config.load import LoadedRecipe, load_recipe
from .data.base import Examples
from .data.language.rows import LanguageExamples
from .data.loader import BatchStream
from .dictation import Order, contents, inputs_of, label_documents, order_of
from .engine.backend import Backend
from .engine.watch import Journal, Listener, Silent
from .errors import CodeNotAllowed, Interrupted, LimbeckError
from .files import read_json, write_json
from .preflight import preflight
from .session import Session
from .settling import candidates_of, settled
from .store.manifest import MANIFEST, TOKENS, Key, Manifest, Signal, StoreError, read_manifest
from .store.places import Place, is_remote, place
from .store.reader import LOGITS
from .store.writer import StoreWriter, tidy
from .teachers.base import Teacher
from .types import Signals
from .version import __version__

STAGES = "stages.json"
"""File of the folder beside a store: which stages left their checkpoints there."""
BATCH = 256
SHARD = 4096


@dataclass(frozen=True)
class Labelling:
    """What is to be written, besides the recipe."""

    out: str | Path
    """A folder, or an address of fsspec such as `s3://bucket/store`."""
    codecs: Mapping[str, Signal]
    """How a signal is written; those that are not named are dense, in fp16."""
    views: int | None = None
    """Epochs of augmentation to write; 1 where the data are not augmented."""
    shard: int | None = None
    """Examples in a file; `SHARD` where absent, of texts as many documents as take about 64 MiB."""
    batch: int = BATCH
    workers: int = 0
    teacher: str = "teacher"
    every: bool = False
    """Also the examples that the recipe does not select, so that one store serves every selection."""


def label(
    recipe: str | Path | Mapping[str, Any],
    wish: Labelling,
    *,
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 - the same word as on the command line
    device: str | None = None,
    allow_code: bool = True,
    listener: Listener | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Writes the signals that the student's stage of `recipe` reads of its teacher; what is there already is not made again.

    Stages before the student's, such as the training of the teacher, are run first, in a folder of their own beside `out`: see `workshop`.

    Args:
        recipe: a recipe file, or the recipe itself as a mapping.
        wish: what is to be written, and where.
        set: overrides, as for `distill`.
        device: where the teacher runs.
        allow_code: import code that the recipe names as `module:callable`.
        listener: who is told how it goes.
        interrupted: asked after every batch; then everything that is whole is kept.

    Returns:
        The manifest of the store.

    Raises:
        RecipeError: all problems of the recipe at once.
        StoreError: where something else lies in `out`, also where that is finished.
        Interrupted: after Ctrl-C; the same command goes on.
    """
    listener = listener or Silent()
    loaded = load_recipe(recipe, set=set, allow_code=allow_code)
    if loaded.code and not allow_code:
        raise CodeNotAllowed(loaded.code[0])
    found = preflight(loaded, allow_code=allow_code, device=device)
    found.raise_problems()
    where = place(wish.out)
    finished = where.has(MANIFEST)
    backend = Backend(precision=loaded.recipe.train.precision, device=device)
    backend.wait()  # whoever is first must not finish it before the last has looked
    session = _session(loaded, wish, backend, listener, interrupted, allow_code)
    phase = listening(session, every=wish.every)
    if finished:
        return _again(session, phase, where, wish)
    if backend.is_main:
        where.check_writable(found.bytes_needed)
    phase, teacher, examples = _taught(session, wish, listener)
    try:
        if isinstance(examples, LanguageExamples):
            order = Order(wish.out, wish.codecs, wish.views, wish.shard, wish.batch, wish.teacher)
            return label_documents(session, phase, teacher, examples, order, interrupted)
        return _write(session, phase, teacher, examples, wish, listener, interrupted)
    finally:
        teacher.close()


def ready(
    loaded: LoadedRecipe, wish: Labelling, backend: Backend, listener: Listener, interrupted: Callable[[], bool], allow_code: bool
) -> tuple[Session, Phase, Teacher, Examples]:
    """A session after all stages before the student's, the student's stage, the teacher to be asked, and the examples to ask it about."""
    session = _session(loaded, wish, backend, listener, interrupted, allow_code)
    return session, *_taught(session, wish, listener)


def listening(session: Session, *, every: bool = False) -> Phase:
    """The student's stages as one that reads all that they read, so that one store serves them all; those with other data are left out.

    With `every` it selects nothing, and stages that differ in what they select are no others.

    Raises:
        LimbeckError: where no stage trains the student.
    """
    own = [phase for phase in session.phases if phase.learner == "student"]
    if not own:
        raise LimbeckError("no stage trains the student, so nobody listens to a teacher.")
    own = [candidates_of(phase) for phase in own] if every else own
    terms = {f"{phase.name}/{label}": term for phase in own if _read(phase) == _read(own[0]) for label, term in phase.objective.items()}
    return replace(own[0], objective=terms)


def _read(phase: Phase) -> DataSpec:
    """What single examples are; how an update is composed of them is nothing to a store."""
    return phase.data.model_copy(update={"mix": None, "crops": 1})


def workshop(out: str | Path) -> Path:
    """Where stages before the student's leave their checkpoints: `OUT.teacher` beside the store; in `runs` for one that is not here."""
    path = Path(str(out).split("://", 1)[-1])
    folder = Path("runs") if is_remote(out) else path.parent
    return folder / f"{path.name}.teacher"


def _session(
    loaded: LoadedRecipe, wish: Labelling, backend: Backend, listener: Listener, interrupted: Callable[[], bool], allow_code: bool
) -> Session:
    folder = workshop(wish.out)
    journal = Journal(None, listener)
    session = Session(loaded, folder, backend, listener, journal, interrupted, allow_code)
    if session.phases and session.phases[0].learner not in ("student", ALONE) and backend.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        journal.path = folder / "metrics.jsonl"
    backend.wait()
    return session


def _again(session: Session, phase: Phase, where: Place, wish: Labelling) -> Manifest:
    """The manifest of a store that is finished already.

    Raises:
        StoreError: where it is not what was asked for: other data, augmentation, views, codecs or signals, or another teacher.
    """
    manifest = read_manifest(where)
    phase = settled(session, phase)
    examples = session.data(phase.data).train
    specs = assemble.teacher_specs(session.recipe)
    view = specs[wish.teacher].view if wish.teacher in specs else None
    seed = session.seed("train-student")
    mine = {"data": examples.fingerprint(view), "inputs": inputs_key(phase, view), "seed": seed}
    if isinstance(examples, LanguageExamples):
        keys = [order_of(examples.augmented(seed, number).documents(view))[1] for number in range(manifest.views)]
        mine = {"data": contents(keys), "inputs": inputs_of(examples, seed)}
    differs = [name for name, value in mine.items() if getattr(manifest.key, name) != value]
    differs += ["views"] if wish.views is not None and wish.views != manifest.views else []
    differs += [
        f"signal {name}" for name in sorted(_asked(phase, wish, manifest, session.allow_code)) if not _written(manifest, wish, name)
    ]
    if differs:
        raise StoreError(f"{where}: a finished store of something else lies here ({', '.join(differs)} differ). Choose another --out.")
    check_origin(manifest, session.recipe, wish.teacher, str(where), strict=True)
    if session.backend.is_main:
        tidy(where)
    session.listener.message(f"{where}: this store is finished; nothing was written.")
    return manifest


def _asked(phase: Phase, wish: Labelling, manifest: Manifest, allow_code: bool) -> set[str]:
    """The signals that are to be written, as far as terms name them."""
    terms = [assemble.build_term(label, spec, allow_code=allow_code) for label, spec in phase.objective.items()]
    own = [term for term in terms if term.source == wish.teacher and term.loss.needs.teacher]
    if TOKENS in manifest.signals:
        return {TOKENS, *wish.codecs}
    return {tap for term in own for tap in term.teacher} | {*wish.codecs} | ({LOGITS} if any(term.reads_logits for term in own) else set())


def _written(manifest: Manifest, wish: Labelling, name: str) -> bool:
    """Whether a store holds a signal, in the codec that was asked for."""
    if name not in manifest.signals:
        return False
    found, asked = manifest.signals[name], wish.codecs.get(name)
    if asked is None:
        return True
    fields = asked.build_tokens().fields() if name == TOKENS else asked.build().fields()
    return (found.codec, dict(found.fields)) == (asked.codec, fields)


def _taught(session: Session, wish: Labelling, listener: Listener) -> tuple[Phase, Teacher, Examples]:
    """The student's stage, its teacher, after the stages that train it, and the examples that the student will learn from."""
    session.build_models()
    number = next(i for i, phase in enumerate(session.phases) if phase.learner in ("student", ALONE))
    # Where no stage trains the teacher, it is the recipe's, whatever another recipe has left there.
    resume = number > 0 and (session.folder / "checkpoints" / "latest.json").exists()
    if number:
        _same_stages(session, number, resume)
    session.run(resume, phases=number)
    student = settled(session, listening(session, every=wish.every))
    teachers = session.teachers_of(student)
    if wish.teacher not in teachers:
        known = ", ".join(map(repr, teachers)) or "no teacher"
        raise LimbeckError(f"stage {student.name!r} listens to {known}, not to {wish.teacher!r}; name the one to write with --teacher.")
    for name, other in teachers.items():
        if name != wish.teacher:
            other.close()
    return student, teachers[wish.teacher], session.data(student.data).train


def _same_stages(session: Session, number: int, resume: bool) -> None:
    """Refuses to go on from what the stages of another recipe have left, and notes which stages these are.

    Raises:
        StoreError: where the checkpoints are not those of the recipe's first `number` stages.
    """
    file, recipe = session.folder / STAGES, session.recipe
    mine = {
        "seed": recipe.seed,
        "task": recipe.task,
        "models": {name: spec.model_dump(mode="json") for name, spec in {**assemble.teacher_specs(recipe), **recipe.models}.items()},
        "stages": [
            json.loads(json.dumps(asdict(phase), default=lambda spec: spec.model_dump(mode="json"))) for phase in session.phases[:number]
        ],
    }
    if not resume:
        if session.backend.is_main:
            write_json(file, mine)
        return
    theirs = read_json(file) if file.exists() else {}
    differs = [key for key in mine if theirs.get(key) != mine[key]]
    if differs:
        raise StoreError(
            f"{session.folder}: the stages of another recipe left their checkpoints here ({', '.join(differs)} differ). "
            "Choose another --out, or remove this folder."
        )


def _write(
    session: Session,
    phase: Phase,
    teacher: Teacher,
    examples: Examples,
    wish: Labelling,
    listener: Listener,
    interrupted: Callable[[], bool],
) -> Manifest:
    backend = session.backend
    views = wish.views or 1
    seen = assemble.teacher_specs(session.recipe)[wish.teacher].view
    if views > 1 and not examples.seen(seen).transforms:
        where = "data.transforms" if seen is None else f"data.views.{seen}.transforms"
        raise LimbeckError(f"--views {views} was asked for, but the data are not augmented ({where}), so all views are the same.")
    plan = draft(session, phase, teacher, examples, wish, views)
    writer = StoreWriter(wish.out, plan, shard_size=wish.shard or SHARD, rank=backend.rank, world=backend.world)
    missing = writer.missing()
    total = sum(stop - start for _, start, stop in missing)
    updates = -(-total // wish.batch)
    listener.stage("label", "", 0, 1, updates, 0)
    done = 0
    with _Behind(writer) as behind:
        for view, start, stop in missing:
            batches: list[dict[str, Tensor]] = []
            for arrays in _answers(writer, teacher, examples, (view, start, stop), plan.key.seed, wish, backend):
                batches.append(arrays)
                done += 1
                listener.update(min(done, updates))
                if interrupted():
                    raise Interrupted(f"stopped; every whole shard in {wish.out} is kept. The same command goes on.")
            behind.write(view, start, stop, batches)
    backend.wait()
    manifest = writer.finish() if backend.is_main else plan
    backend.wait()
    return manifest


class _Behind:
    """Writes a shard while the teacher speaks about the next; what it was given is written, or an error raised, at the end of the block."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer, self._pool = writer, ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True)
        self.settle()

    def write(self, view: int, start: int, stop: int, batches: list[dict[str, Tensor]]) -> None:
        """Takes a shard, once the one before is written: no more than two are in memory."""
        self.settle()
        self._last = self._pool.submit(self._writer.write, view, start, stop, iter(batches))

    def settle(self) -> None:
        """Waits for the last shard."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


def _answers(
    writer: StoreWriter, teacher: Teacher, examples: Examples, piece: tuple[int, int, int], seed: int, wish: Labelling, backend: Backend
) -> Iterator[dict[str, Tensor]]:
    """What the teacher says of consecutive examples, encoded batch by batch."""
    view, start, stop = piece
    rows = [list(range(begin, min(begin + wish.batch, stop))) for begin in range(start, stop, wish.batch)]
    before: tuple[Signals, Tensor] | None = None
    for batch in BatchStream(examples.augmented(seed, view), rows, wish.workers):
        said = teacher.signals(batch.to(backend.device))
        if before is not None:  # so late that a device works on the next batch while this one is fetched from it
            yield writer.encode(*before)
        before = (said, batch.index)
    if before is not None:
        yield writer.encode(*before)


def draft(session: Session, phase: Phase, teacher: Teacher, examples: Examples, wish: Labelling, views: int) -> Manifest:
    """The manifest without its shards; the shapes are those of one example's signals."""
    batch = examples.__getitems__([0]).to(session.backend.device)
    said = teacher.signals(batch)
    found = present(said)
    if unknown := sorted(wish.codecs.keys() - found.keys()):
        raise StoreError(f"--signal names {', '.join(unknown)}; the recipe reads {', '.join(found)} of the teacher.")
    signals: dict[str, Signal] = {}
    for name, value in found.items():
        asked = wish.codecs.get(name, Signal((), "dense", {"dtype": "fp16"}))
        signals[name] = Signal(tuple(value.shape[1:]), asked.codec, asked.build().fields())
        signals[name].build().layout(signals[name].shape)
    spec = assemble.teacher_specs(session.recipe)[wish.teacher]
    about = {"teacher": spec.model or spec.kind, "data": phase.data.source, "limbeck": __version__}
    built = session.models.get(wish.teacher)
    seed = session.seed("train-student")
    weights, trained = teacher_hash(built) if built is not None else "", origin(session.recipe, wish.teacher)
    key = Key(weights, examples.fingerprint(spec.view), inputs_key(phase, spec.view), seed, trained)
    return Manifest(len(examples), views, signals, key, about=about)


def present(said: Signals) -> dict[str, Tensor]:
    """The signals that there are, by the name that a store gives them."""
    logits: Any = said.logits
    return {**({LOGITS: logits} if logits is not None else {}), **said.features}
