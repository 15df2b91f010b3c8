"""The search: what it proposes, keeps over a kill, stops early, and takes for important."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("optuna")
from sqlalchemy.exc import IntegrityError

from limbeck.errors import RunError
from limbeck.study import search
from limbeck.study.pipeline import Pipeline
from limbeck.study.search import PLAIN, PROPOSED, SAMPLED, Candidate, Search, best, storage_url
from limbeck.study.space import Choice, Range, Space

SPACE = Space(
    {
        "logits": Choice(("kd", "dkd")),
        "temperature": Range(1.0, 10.0, log=True),
        "features": Choice(("none", "hint")),
        "taps": Choice(("a > b", "c > d")),
    },
    {},
    {"hint": ("c > d",)},
    {"hint@c > d": ("auto", "linear")},
)
BASE = Pipeline("kd", rate=2.0)


def opened(folder: Path, owner: str = "me") -> Search:
    search = Search(storage_url(folder), "s", seed=0, owner=owner)
    search.over(SPACE)
    return search


def told(search: Search, score: float | None, state: str = "complete") -> None:
    ongoing = search.ask(BASE)
    search.tell(ongoing, state, score, {"pipeline": ongoing.pipeline.values(), "seconds": 2.0, "metrics": {"accuracy": 0.5}})


def test_proposals_come_first_in_order_and_only_once(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.propose(Pipeline("kd", temperature=3.0), PLAIN)
    search.propose(Pipeline("dkd", temperature=20.0, features="hint"), PROPOSED)
    search.propose(Pipeline("kd", temperature=3.0), PLAIN)
    first, second, third = search.ask(BASE), search.ask(BASE), search.ask(BASE)
    assert (first.role, first.pipeline) == (PLAIN, Pipeline("kd", temperature=3.0, rate=2.0))
    assert (second.role, second.pipeline.temperature, second.pipeline.taps) == (PROPOSED, 10.0, "c > d")
    assert third.role == SAMPLED


def test_a_trial_that_a_kill_has_left_is_proposed_again(tmp_path: Path) -> None:
    search = opened(tmp_path)
    search.propose(Pipeline("dkd", temperature=7.0), PLAIN)
    search.ask(BASE)  # and then the power goes
    other = opened(tmp_path, owner="another machine")
    other.ask(BASE)
    search = opened(tmp_path)
    search.recover()
    again = search.ask(BASE)
    assert (again.role, again.pipeline.logits, again.pipeline.temperature) == (PLAIN, "dkd", 7.0)
    assert again.number == 2


def test_what_became_of_trials_is_read_back(tmp_path: Path) -> None:
    search = opened(tmp_path)
    told(search, 0.75)
    told(search, None, "pruned")
    told(search, None, "failed")
    found = opened(tmp_path).candidates()
    assert [(c.state, c.score, c.seconds) for c in found] == [("complete", 0.75, 2.0), ("pruned", None, 2.0), ("failed", None, 2.0)]
    assert found[0].metrics == {"accuracy": 0.5}
    assert found[0].pipeline.rate == 2.0


def test_a_trial_is_behind_where_more_than_half_of_three_others_were_better(tmp_path: Path) -> None:
    search = opened(tmp_path)
    trials = [search.ask(BASE) for _ in range(5)]
    assert [search.behind(trial, 25, score) for trial, score in zip(trials, (0.5, 0.6, 0.1), strict=False)] == [False] * 3
    assert search.behind(trials[3], 25, 0.4)
    assert not search.behind(trials[4], 25, 0.55)


def test_the_factor_that_matters_is_the_most_important(tmp_path: Path) -> None:
    search = opened(tmp_path)
    assert search.importance() == {}
    for _ in range(16):
        ongoing = search.ask(BASE)
        search.tell(ongoing, "complete", float(ongoing.pipeline.logits == "dkd"), {"pipeline": ongoing.pipeline.values()})
    found = search.importance()
    assert max(found, key=lambda name: found[name]) == "logits"
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def candidate(number: int, score: float | None, role: str = SAMPLED, logits: str = "kd") -> Candidate:
    return Candidate(number, Pipeline(logits, rate=float(number)), role, "complete" if score else "failed", score, {}, 1.0, "", {})


def test_the_best_hold_plain_distillation_always() -> None:
    found = [candidate(1, 0.1, PLAIN), candidate(2, 0.5), candidate(3, 0.9), candidate(4, None), candidate(5, 0.05, PLAIN)]
    assert [c.number for c in best(found, 2)] == [3, 1]
    assert [c.number for c in best(found, 9)] == [3, 2, 1, 5]


def test_the_same_pipeline_is_a_finalist_once() -> None:
    assert [c.number for c in best([candidate(1, 0.4), candidate(1, 0.5)], 3)] == [1]


def test_a_storage_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the storage 'sqlite:////no/such/folder/x\.db' cannot be used"):
        Search("sqlite:////no/such/folder/x.db", "s", seed=0, owner="me")


def test_a_driver_that_is_missing_is_named_and_the_password_is_not() -> None:
    with pytest.raises(RunError) as error:
        Search("mssql+pymssql://me:secret@host/db", "name", seed=0, owner="here")
    assert str(error.value) == ("the storage 'mssql+pymssql://me:***@host/db' cannot be used: its driver is missing: pip install pymssql")


def test_machines_that_begin_at_once_make_the_tables_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAUSES", (0.0, 0.0))
    tries: list[int] = []

    def late(fails: int) -> object:
        def opened() -> str:
            tries.append(1)
            if len(tries) <= fails:
                raise IntegrityError("create table", {}, Exception("duplicate key"))
            return "study"

        tries.clear()
        return opened

    assert search._first_come(late(2)) == "study"  # pyright: ignore[reportArgumentType]
    assert len(tries) == 3
    with pytest.raises(IntegrityError):
        search._first_come(late(9))  # pyright: ignore[reportArgumentType]
    assert len(tries) == 3
