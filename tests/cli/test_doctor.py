"""`limbeck doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys

import pytest

from limbeck.cli import doctor


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.configure(parser)
    return doctor.main(parser.parse_args(words))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A handful of packages, so that the test does not import everything there is."""
    groups = {"core": {"numpy": "1.26", "scikit-learn": "1.4"}, "track": {"no-such-package": "1.0"}, "vision": {"pillow": ""}}
    monkeypatch.setattr(doctor, "requirements", lambda: groups)
    return groups


def test_json_is_one_object(capsys):
    assert call("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["core"]["numpy"]["version"]
    assert found["core"]["scikit-learn"]["problem"] == ""  # its module has another name
    assert found["devices"][0]["cores"] == os.cpu_count()
    assert found["directory"]["free_bytes"] > 0


def test_a_missing_optional_package_is_no_failure_but_comes_with_a_command(capsys):
    assert call() == 0
    out = capsys.readouterr().out
    assert "no-such-package: not installed" in out
    assert "pip install 'limbeck[track]'" in out
    assert "broken" not in out


def test_a_broken_core_package_is_a_failure(few, tmp_path, monkeypatch, capsys):
    few["core"]["numpy"] = "999.0"
    assert call() == 2
    out = capsys.readouterr().out
    assert "is older than 999.0" in out
    assert "install --upgrade 'numpy>=999.0'" in out
    few["core"] = {"iniconfig": ""}
    (tmp_path / "iniconfig.py").write_text("raise RuntimeError('half installed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "iniconfig", raising=False)
    assert call() == 2
    assert "half installed" in capsys.readouterr().out


def test_unwritable_directory(monkeypatch, capsys):
    def refuse(**_):
        raise PermissionError("no")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    assert call() == 0
    assert "not writable" in capsys.readouterr().out


def test_requirements_are_those_of_the_package(monkeypatch):
    monkeypatch.undo()
    declared = [
        "torch>=2.6",
        "pyyaml>=6.0",
        'torchvision>=0.21; extra == "vision"',
        "limbeck[vision]; extra == 'all'",
        "Onnx>=1.17 ; extra == 'export'",
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: declared)
    groups = doctor.requirements()
    assert groups["core"] == {"torch": "2.6", "pyyaml": "6.0"}
    assert groups["vision"] == {"torchvision": "0.21"}
    assert groups["export"] == {"onnx": "1.17"}
