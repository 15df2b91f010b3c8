"""`limbeck compare`, and `limbeck report` of a study."""

from __future__ import annotations

import json

import pytest
from tests.sample_runs import make_run
from tests.sample_studies import make_study

from limbeck.cli.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    make_study(folder / "one", epochs=2)
    make_run(folder / "hot", seed=0, t=8.0, epochs=2)
    return folder


@pytest.fixture
def here(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return place


def test_a_study(here, tmp_path, capsys):
    assert main(["compare", str(here / "one"), "--out", "page.html"]) == 0
    out = capsys.readouterr().out
    for word in ("plain", "cold", "wide", "baseline", "holds", "fails", "undecided", "page.html", "Parameters"):
        assert word in out
    assert "Limbeck study" in (tmp_path / "page.html").read_text()


def test_json(here, capsys):
    assert main(["compare", str(here / "one"), "--json", "--out", "x.html"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["primary"] == "accuracy"
    assert found["seeds"] == [0, 1, 2]
    assert list(found["arms"]) == ["plain", "cold", "wide"]
    assert len(found["arms"]["cold"]["student"]["accuracy"]) == 3
    assert [claim["verdict"] for claim in found["claims"]] == ["holds", "fails", "undecided"]
    assert found["page"] == "x.html"


def test_runs_of_several_seeds_become_arms(here, tmp_path, capsys):
    runs = [str(run) for run in sorted((here / "one" / "runs").glob("*/seed-*"))]
    assert main(["compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["arms"]) == 3
    assert "width=12, temperature=4.0" in found["arms"]
    assert [None not in arm["student"]["accuracy"] for arm in found["arms"].values()] == [True] * 3
    assert "Limbeck study" in (tmp_path / "comparison.html").read_text()


def test_single_runs_are_laid_side_by_side(here, tmp_path, capsys):
    runs = [str(here / "one" / "runs" / "plain" / "seed-0"), str(here / "hot")]
    assert main(["compare", *runs]) == 0
    assert "hot" in capsys.readouterr().out
    assert "Students side by side" in (tmp_path / "comparison.html").read_text()


def test_studies_and_runs_together(here, tmp_path, capsys):
    assert main(["compare", str(here / "one"), str(here / "hot"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["arms"]) == ["one: plain", "one: cold", "one: wide", "hot"]
    assert found["baseline"] == "one: plain"
    assert found["arms"]["hot"]["student"]["accuracy"][1:] == [None, None]
    assert found["claims"][0]["text"].startswith("one: ")
    assert "limbeck compare" in (tmp_path / "comparison.html").read_text()


def test_report_of_a_study(here, tmp_path, capsys):
    assert main(["report", str(here / "one"), "--out", "r.html"]) == 0
    assert capsys.readouterr().out.strip() == "r.html"
    assert "Limbeck study" in (tmp_path / "r.html").read_text()


def test_mistakes_are_told_without_a_traceback(here, tmp_path, capsys):
    one, hot = str(here / "one"), str(here / "hot")
    (tmp_path / "empty").mkdir()
    other = json.loads((here / "hot" / "results.json").read_text())
    for name, part in (("text", {"task": "text"}), ("rmse", {"models": {"student": {"role": "distilled", "metrics": {"rmse": 1.0}}}})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({**other, **part}))
    told = {
        (hot,): "one run has nothing to be compared with",
        ("nothing",): "is not a directory",
        ("empty", hot): "this is no run directory",
        (hot, hot): "given twice",
        (one, one): "given twice",
        (hot, "text"): "tasks differ",
        (hot, "rmse"): "metrics differ",
        (one, "text"): "tasks differ",
        (one, "rmse"): "metrics differ",
    }
    for paths, message in told.items():
        assert main(["compare", *paths]) == 2
        assert message in capsys.readouterr().err
    assert main(["report", one, hot]) == 2
    assert "limbeck compare" in capsys.readouterr().err
