"""Of every kind of teacher: nothing in it moves while a student learns, but for what follows the student, and that between updates only.

A new kind must be entered here; without an entry the first test fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.engine.checkpoint import latest, load
from limbeck.labelling import Labelling, label
from limbeck.registry import TEACHERS
from limbeck.store.manifest import Key, Manifest, Signal
from limbeck.store.writer import StoreWriter
from limbeck.teachers.base import Setting, Teacher, TeacherRequest
from limbeck.types import Batch, Signals
from tests.runs import SMALL, distill
from tests.teachers.test_remote import Served
from tests.teachers.test_remote import batch as documents

CPU = torch.device("cpu")
COUNT = 24


class Student(nn.Module):
    """Batch statistics, noise, and a buffer that counts forwards in training mode."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(8, outputs)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.head(self.body(x))


def call(model: Any, batch: Batch) -> Signals:
    return Signals(model(batch.inputs))


@dataclass
class Case:
    """How a kind is made, and what of it may move."""

    fields: Callable[[Path], dict[str, Any]]
    follows: bool = False
    """Its model moves after an update of the student, by design."""
    learns: bool = False
    """It has parameters of its own that learn, beside its models."""


def stored(folder: Path) -> dict[str, Any]:
    signals = {"logits": Signal((5,), "dense", {"dtype": "fp32"})}
    plan = Manifest(examples=COUNT, views=1, signals=signals, key=Key("a" * 64, "b" * 64, "{}", 0))
    writer = StoreWriter(folder / "store", plan, shard_size=COUNT)
    rows = torch.arange(COUNT)
    writer.write(0, 0, COUNT, iter([writer.encode(Signals(torch.randn(COUNT, 5)), rows)]))
    writer.finish()
    return {"path": str(folder / "store")}


def members(**more: Any) -> Case:
    return Case(lambda _: {"members": ["a", "b"], **more}, learns=more.get("combine") == "gate")


CASES: dict[str, list[Case]] = {
    "frozen": [Case(lambda _: {})],
    "ema": [Case(lambda _, buffers=buffers: {"momentum": 0.5, "buffers": buffers}, follows=True) for buffers in ("average", "copy", "own")],
    "snapshot": [Case(lambda _, of=of: {"of": of}, follows=of != "start") for of in ("epoch", "best", "start")],
    "ensemble": [members(combine=how) for how in ("probabilities", "logits", "confidence", "label", "gate", "dataset")],
    "stored": [Case(stored)],
    "remote": [Case(lambda _: {"served": "big", "k": 4, "timeout": 5.0})],
}
EVERY = [pytest.param(kind, case, id=f"{kind}-{number}") for kind, cases in CASES.items() for number, case in enumerate(cases)]


STUDENTS_OWN = {"adapter_off": "test_adapter_off.py"}
"""Kinds that are the student itself, with the file that shows that asking them moves nothing in it."""


def test_every_kind_has_an_entry() -> None:
    assert sorted([*CASES, *STUDENTS_OWN]) == TEACHERS.names()
    assert all((Path(__file__).parent / name).is_file() for name in STUDENTS_OWN.values())


def parts(thing: Any, seen: set[int] | None = None) -> Iterator[nn.Module | Tensor]:
    """All modules and learning tensors that an object holds, however deep; other teachers among them."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module) or (isinstance(thing, Tensor) and thing.requires_grad):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from parts(value, seen)
    elif isinstance(thing, list | tuple | set):
        for value in thing:
            yield from parts(value, seen)
    elif type(thing).__module__.startswith("limbeck.") and hasattr(thing, "__dict__"):
        yield from parts(vars(thing), seen)


def modules(teacher: Teacher) -> list[nn.Module]:
    return [part for part in parts(teacher) if isinstance(part, nn.Module)]


def values(found: list[nn.Module]) -> list[Tensor]:
    """Every parameter and buffer, those that are not saved as well."""
    return [value.detach().clone() for module in found for value in (*module.parameters(), *module.buffers())]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def setting(learner: nn.Module, module: nn.Module | None, others: Mapping[str, Teacher] | None = None) -> Setting:
    request = TeacherRequest((), True, CPU)
    return Setting(request=request, call=call, module=module, learner=learner, members=others or {}, updates=3, epochs=3, examples=COUNT)


def opened(kind: str, case: Case, learner: nn.Module, folder: Path, url: str) -> tuple[Teacher, list[nn.Module]]:
    """A teacher that is ready, and the models that were given to it."""
    cls = TEACHERS.get(kind)
    given: list[nn.Module] = []
    others: dict[str, Teacher] = {}
    if cls.source == "own":
        given = [Student()]
    if cls.source == "members":
        given = [Student(), Student()]
        for name, module in zip(("a", "b"), given, strict=True):
            others[name] = TEACHERS.get("frozen")()
            others[name].open(setting(learner, module))
    made = cls(**case.fields(folder), **({"url": url} if kind == "remote" else {}))
    made.open(setting(learner, given[0] if cls.source == "own" else None, others))
    return made, given


def batches(kind: str) -> Iterator[tuple[Batch, Tensor]]:
    """What the teacher is asked about, and the student's inputs."""
    for number in range(3):
        rows = torch.arange(8) + 8 * number
        asked = Batch(torch.randn(8, 3), torch.randint(5, (8,)), rows, {"dataset": rows % 2})
        yield (documents() if kind == "remote" else asked), asked.inputs


def loss(said: Signals, logits: Tensor) -> Tensor:
    if said.logits is None:  # a server's answer: likeliest tokens, of which the student learns something
        return logits.square().mean()
    return nn.functional.kl_div(logits.log_softmax(-1), said.logits.softmax(-1), reduction="batchmean")


@pytest.fixture
def url() -> Iterator[str]:
    served = Served()
    yield served.url
    served.http.shutdown()
    served.http.server_close()


@pytest.mark.parametrize(("kind", "case"), EVERY)
def test_nothing_in_a_teacher_moves_while_a_student_learns(kind: str, case: Case, tmp_path: Path, url: str) -> None:
    torch.manual_seed(0)
    learner = Student().train()
    made, given = opened(kind, case, learner, tmp_path, url)
    own = modules(made)
    begun, handed, kept = values(own), values(given), {name: value.clone() for name, value in made.state().items()}
    assert bool(own) == (TEACHERS.get(kind).source != "none")
    assert learner not in own
    assert not {id(p) for p in learner.parameters()} & {id(value) for module in own for value in module.parameters()}
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    before = copy.deepcopy(learner.state_dict())
    for asked, inputs in batches(kind):
        for module in own:
            module.train()  # what a wrapper around the student might do
        now = values(own)
        said = made.signals(asked)
        assert said.logits is None or not said.logits.requires_grad
        optimizer.zero_grad()
        loss(said, learner(inputs)).backward()
        optimizer.step()
        assert same(now, values(own)), "an answer or a backward pass moved the teacher"
        assert not any(module.training for module in own)
        made.after_step(learner)
        made.after_epoch(learner, True)
    assert learner.training
    assert not torch.equal(before["head.weight"], learner.head.weight)
    assert same(handed, values(given))
    assert same(begun, values(own)) is not case.follows
    assert not any(p.requires_grad or p.grad is not None for module in own for p in module.parameters())
    learning = [part for part in parts(made) if not isinstance(part, nn.Module)]
    assert bool(learning) is case.learns
    now = made.state()
    assert bool(now) is (case.learns or TEACHERS.get(kind).source == "learner")
    assert case.learns is False or any(not torch.equal(kept[name], now[name]) for name in kept)
    made.close()


RECIPES: dict[str, dict[str, Any]] = {
    "frozen": {},
    "ema": {"teacher": {"kind": "ema", "momentum": 0.5}},
    "snapshot": {"teacher": {"kind": "snapshot"}},
    "ensemble": {
        "teacher": {"kind": "ensemble", "members": ["a", "b"], "combine": "gate"},
        "teachers": dict.fromkeys(("a", "b"), SMALL["teacher"]),
    },
    "stored": {"teacher": {"stored": "STORE"}},
}
KEPT = {
    "ema": {"ema.count", "ema.decays"},
    "snapshot": {"snapshot.epochs"},
    "ensemble": {f"gate.{name}{rest}" for name in ("slopes", "bias") for rest in ("", ".step", ".exp_avg", ".exp_avg_sq")},
}
"""What checkpoints keep of a teacher, beside the weights of one that follows the student."""


def test_every_kind_that_needs_no_server_is_run() -> None:
    assert sorted([*RECIPES, "remote", *STUDENTS_OWN]) == TEACHERS.names()


@pytest.mark.parametrize("kind", RECIPES)
def test_checkpoints_hold_of_a_teacher_only_what_moves(kind: str, tmp_path: Path) -> None:
    recipe = {**SMALL, **RECIPES[kind], "train": {**SMALL["train"], "epochs": 1}}
    if kind == "stored":
        label(SMALL, Labelling(tmp_path / "store", {}), device="cpu")
        recipe["teacher"] = {"stored": str(tmp_path / "store")}
    distill(recipe, out=tmp_path / "run", device="cpu")
    point = latest(tmp_path / "run" / "checkpoints")
    assert point is not None
    groups, state = load(point)
    student = {name.removeprefix("model.") for name in groups["learner"]}
    of_student = sum(value.numel() for value in groups["learner"].values() if value.is_floating_point())
    mine = {name: set(group) for name, group in groups.items() if "teacher" in name}
    if kind in KEPT:
        weights = student if TEACHERS.get(kind).source == "learner" else set()
        assert {key.removeprefix("model.") for key in mine.pop("teacher-teacher")} == KEPT[kind] | weights
    assert mine == {}
    assert list(state["players"]) == ["learner"]
    moments = sum(value.numel() for key, value in groups["optimizer-learner"].items() if "exp_avg" in key)
    assert 0 < moments <= 2 * of_student
