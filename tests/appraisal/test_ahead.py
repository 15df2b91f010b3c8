"""What `evaluate` will take, before anything is done: examples by hand, times by a clock that is set."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.runs import SMALL

from limbeck import finishing as finishing_module
from limbeck.appraisal import ahead, cost_seconds, desk, examples_asked
from limbeck.appraisal.exposing import Canaries
from limbeck.config.load import load_recipe
from limbeck.engine.backend import Backend
from limbeck.engine.watch import Journal, Silent
from limbeck.finishing import finishing
from limbeck.session import Session


def session(folder: Path, **evaluate: Any) -> Session:
    loaded = load_recipe({**SMALL, "evaluate": evaluate})
    found = Session(loaded, folder, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    found.build_models()
    return found


def test_examples_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = session(tmp_path)
    test, train = len(plain.data().test), len(plain.data().train)
    assert examples_asked(plain) == 0
    assert examples_asked(session(tmp_path, corruptions=["noise", "occlusion"], severities=[1, 3, 5])) == 6 * test
    assert examples_asked(session(tmp_path, fidelity=True)) == examples_asked(session(tmp_path, membership=True)) == train
    assert examples_asked(session(tmp_path, fidelity=True, membership=True, corruptions=["noise"], severities=[1])) == train + test
    monkeypatch.setattr(desk, "MOST", 50)
    assert examples_asked(session(tmp_path, fidelity=True)) == 50


def test_secrets_that_the_data_plant_are_asked_about_as_those_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [Canaries(("a", "b"), ("a 1", "b 2"), ("a 3", "b 3", "a 4")), Canaries(("c 5",), ("c 5",), ("c 6",))]
    monkeypatch.setattr(ahead, "canaries_of", lambda session: sets)
    assert examples_asked(session(tmp_path)) == 5 + 2


def test_costs_by_a_clock_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cost_seconds(session(tmp_path), ["student"]) == 0
    asked = session(tmp_path, cost=[1, 8, 8])
    for step, forwards in ((0.001, 2 + 100), (0.04, 2 + 50), (3.0, 2 + 10)):
        clock = itertools.count(0.0, step)
        monkeypatch.setattr(ahead.time, "perf_counter", lambda clock=clock: next(clock))
        assert cost_seconds(asked, ["student", "teacher"]) == pytest.approx(2 * 2 * forwards * step)


def test_a_run_that_looks_longer_ends_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing_module, "judging", lambda session, names, budget: 2.0)
    for name in ("_cost", "_drawing", "_speaking"):
        monkeypatch.setattr(finishing_module, name, lambda *_: 0.0)
    plain, asked = session(tmp_path), session(tmp_path, corruptions=["noise"], severities=[2])
    test = len(plain.data().test)
    assert finishing(plain, ["student"], 0.01) == 2.0 * test
    assert finishing(asked, ["student"], 0.01) == 2.0 * 2 * test
