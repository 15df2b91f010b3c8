"""limbeck parity: the table, the JSON, the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.golden_cases import write

from limbeck.cli.main import main

LOGITS = {"student_logits": np.array([[0.0, 1.0]]), "teacher_logits": np.array([[np.log(3), 0.0]])}


def kd(folder: Path, name: str, factor: float = 1.0, method: str = "kd") -> Path:
    """A case of kd at temperature 1, whose value is multiplied by `factor`."""
    p, q = np.array([0.75, 0.25]), np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    out = {"out_loss": factor * np.array((p * np.log(p / q)).sum()), "out_grad_student_logits": (q - p)[None]}
    return write(folder, name, method, hyperparameters={"temperature": 1.0}, **LOGITS, labels=None, **out)


def test_all_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kd(tmp_path, "one")
    kd(tmp_path, "two")
    assert main(["parity", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["method", "cases", "largest", "relative", "error", "verdict"]
    assert lines[1].split()[:2] == ["kd", "2"]
    assert float(lines[1].split()[2]) < 1e-6
    assert lines[1].split()[3] == "pass"
    assert lines[-1] == "1 of 1 methods agree, 2 of 2 cases."


def test_a_difference_and_a_missing_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kd(tmp_path, "good")
    kd(tmp_path, "wrong", factor=1.25)
    kd(tmp_path, "x", method="no_such_method")
    assert main(["parity", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()[1:3]]
    assert rows == [["kd", "2", "2.0e-01", "differs"], ["no_such_method", "1", "-", "missing"]]
    assert "\nkd/wrong: differs: loss differs\n" in out
    assert "\nno_such_method/x: missing: no adapter has this name\n" in out
    assert out.endswith("\n0 of 2 methods agree, 1 of 3 cases.\n")


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    kd(tmp_path, "good")
    assert main(["parity", str(tmp_path), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert list(record) == ["method", "case", "verdict", "error", "note"]
    assert (record["method"], record["case"], record["verdict"], record["note"]) == ("kd", "good", "pass", "")
    assert record["error"] < 1e-6
    kd(tmp_path, "infinite", factor=float("inf"))
    kd(tmp_path, "x", method="no_such_method")
    assert main(["parity", str(tmp_path), "--json"]) == 1
    found = {item["case"]: (item["verdict"], item["error"]) for item in json.loads(capsys.readouterr().out)}
    assert found["infinite"] == ("differs", None), "JSON has no infinity"
    assert found["x"] == ("missing", None)


def test_mistakes_end_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LIMBECK_DEBUG", raising=False)
    assert main(["parity", str(tmp_path)]) == 2
    assert "expected golden cases (METHOD/CASE.json with METHOD/CASE.npz), found none." in capsys.readouterr().err
    kd(tmp_path, "bad").with_suffix(".npz").write_bytes(b"")
    assert main(["parity", str(tmp_path), "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "kd/bad.json: expected a golden case" in told.err
