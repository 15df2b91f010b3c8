"""`limbeck report`."""

from __future__ import annotations

import argparse
import json

import pytest

from limbeck.cli import report
from limbeck.errors import RunError

RESULTS = {"task": "classification", "models": {"student": {"role": "distilled", "metrics": {"accuracy": 0.5}}}}


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    report.configure(parser)
    return report.main(parser.parse_args(words))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(RESULTS))
    return tmp_path


def test_places(runs, capsys):
    assert call("a") == 0
    assert (runs / "a" / "report.html").is_file()
    assert call("a", "b") == 0
    assert (runs / "comparison.html").is_file()
    assert call("a", "--out", "deep/x.html") == 0
    assert (runs / "deep" / "x.html").is_file()
    assert capsys.readouterr().out.splitlines() == ["a/report.html", "comparison.html", "deep/x.html"]


def test_mistake_is_a_limbeck_error(runs):
    with pytest.raises(RunError):
        call("c")
