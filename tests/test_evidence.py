"""What is kept of the studies of the recipes: read, joined with parity and pages, shown; a claim that fails is shown as failing."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli.main import main
from limbeck.evidence import Claimed, entries, need, needs, place, slug

ROOT = Path(__file__).resolve().parents[1]


def claim(text: str, verdict: str) -> dict[str, Any]:
    return {"text": text, "verdict": verdict, "estimate": -0.1, "low": -0.2, "high": 0.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Evidence of one recipe of three."""
    (tmp_path / "evidence").mkdir()
    (tmp_path / "recipes" / "base").mkdir(parents=True)
    (tmp_path / "recipes" / "text").mkdir()
    for name, loss in (("one", "dkd"), ("two", "cross_entropy"), ("base/digits", "kd"), ("text/one", "pkt")):
        (tmp_path / "recipes" / f"{name}.yaml").write_text(f"objective: {{logits: {loss}}}\n")
    methods = {"dkd": {"verdict": "pass"}, "dkd_zoo": {"verdict": "differs"}, "pkt": {"verdict": "pass"}}
    (tmp_path / "evidence" / "parity.json").write_text(json.dumps({"methods": {"dkd": methods["dkd"], "pkt": methods["pkt"]}}))
    (tmp_path / "evidence" / "pages.json").write_text(json.dumps({"pages": {"two": 7}}))
    held = {"kind": "study", "recipe": "recipes/two.yaml", "seeds": [0, 1, 2], "claims": [claim("a.b > c.d", "fails")]}
    (tmp_path / "evidence" / "two.json").write_text(json.dumps(held))
    return tmp_path / "evidence"


def test_names_are_those_of_files_and_folders_where_they_are_shared(folder: Path):
    recipes = folder.parent / "recipes"
    assert slug(recipes / "two.yaml") == "two"
    assert slug(recipes / "text" / "one.yaml") == "text-one"
    assert slug(recipes / "one.yaml") == "one"
    assert slug(Path("elsewhere") / "mine.yaml") == "mine"
    assert slug(None) == "study"


def test_every_recipe_has_an_entry(folder: Path):
    one, text, two = entries(folder)
    assert [(entry.slug, entry.recipe, entry.page, entry.parity, entry.seeds) for entry in (one, text, two)] == [
        ("one", "recipes/one.yaml", None, "pass", 0),
        ("text-one", "recipes/text/one.yaml", None, "pass", 0),
        ("two", "recipes/two.yaml", 7, None, 3),
    ]
    assert one.claims == ()
    assert two.claims == (Claimed("a.b > c.d", "fails", -0.1, -0.2, 0.0),)


def test_the_command_shows_what_fails(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evidence", "--folder", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recipe", "page", "parity", "verdict", "claim"]
    assert [line.split() for line in lines[1:4]] == [
        ["one", "pass", "not", "run"],
        ["text-one", "pass", "not", "run"],
        ["two", "7", "-", "fails", "a.b", ">", "c.d"],
    ]
    assert lines[-1] == "1 of 3 recipes have evidence: 0 holds, 1 fails, 0 undecided."


def test_json_has_four_keys(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evidence", "--json", "--folder", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[2] == {"slug": "two", "page": 7, "parity": None, "claims": [{"text": "a.b > c.d", "verdict": "fails"}]}
    assert found[0] == {"slug": "one", "page": None, "parity": "pass", "claims": []}


def test_what_asks_for_data_of_ones_own_is_not_missing_without_a_word(folder: Path, capsys: pytest.CaptureFixture[str]):
    asks = {"needs": {"text": "data and a GPU", "two": "your data", "on": "nothing"}}
    (folder / "needs.json").write_text(json.dumps(asks))
    assert [entry.needs for entry in entries(folder)] == [None, "data and a GPU", None]
    assert need(Path("recipes/two.yaml"), asks["needs"]) == "your data"
    assert main(["evidence", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["text-one", "pass", "needs", "data", "and", "a", "GPU"]
    assert main(["evidence", "--json", "--folder", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[1] == {"slug": "text-one", "page": None, "parity": "pass", "claims": [], "needs": "data and a GPU"}
    assert "needs" not in found[0]


def test_what_was_shortened_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    held = json.loads((folder / "two.json").read_text())
    (folder / "two.json").write_text(json.dumps({**held, "over": {"train.steps": 5, "data.only": ["a", "b"]}}))
    assert entries(folder)[2].over == {"train.steps": 5, "data.only": ["a", "b"]}
    assert main(["evidence", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'two was shortened: train.steps=5, data.only=["a", "b"]'
    assert main(["evidence", "--json", "--folder", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)[2]["over"] == {"train.steps": 5, "data.only": ["a", "b"]}


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evidence", "--folder", str(tmp_path / "no")]) == 2
    assert f"found nothing: {tmp_path / 'no'} is no folder, or name one with --folder." in capsys.readouterr().err


def test_the_evidence_of_the_repository_is_whole():
    assert place() == ROOT / "evidence"
    for entry in entries(ROOT / "evidence"):
        assert (ROOT / entry.recipe).is_file(), entry.slug
        assert all(one.verdict in ("holds", "fails", "undecided") for one in entry.claims)
        assert entry.seeds == 0 or entry.seeds >= 5, entry.slug
    assert all((ROOT / "recipes" / name).is_dir() or (ROOT / "recipes" / f"{name}.yaml").is_file() for name in needs(ROOT / "evidence"))
    held = [json.loads(file.read_text()) for file in (ROOT / "evidence").glob("*.json")]
    for study in [one for one in held if one.get("kind") == "study"]:
        assert study["failed"] == {}
        for arm in study["arms"].values():
            assert all(len(values) == len(study["seeds"]) for model in arm["values"].values() for values in model.values())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """evidence/run.py as a module."""
    spec = importlib.util.spec_from_file_location("evidence_run", ROOT / "evidence" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evidence_run", module)
    spec.loader.exec_module(module)
    return module


def test_the_time_of_a_stopped_study_is_kept(script: Any, tmp_path: Path):
    file = tmp_path / "clock.json"
    file.write_text(json.dumps({"elapsed": 100.0, "processor": 50.0}))
    clock = script.Clock(file)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    clock.ended(None, None)
    first = json.loads(file.read_text())
    assert 100.04 < first["elapsed"] < 200
    assert 50.05 < first["processor"] < 60
    clock.keep()
    assert first["processor"] - 1e-9 <= clock.spent["processor"] < first["processor"] + 1
    assert script.Clock(tmp_path / "new.json").spent == {"elapsed": 0.0, "processor": 0.0}


def test_what_is_laid_over_a_recipe_is_a_part_of_what_its_evidence_is_of(script: Any, monkeypatch: pytest.MonkeyPatch):
    recipe = ROOT / "recipes" / "quickstart.yaml"
    whole = script.key(recipe)
    assert whole == json.loads((ROOT / "evidence" / "quickstart.json").read_text())["key"]
    monkeypatch.setitem(script.SHORTER, "quickstart", {"train.epochs": 1})
    assert script.key(recipe) != whole


def test_every_recipe_that_is_shortened_or_given_data_is_there(script: Any):
    slugs = {slug(path) for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "base"}
    assert {*script.SHORTER, *script.MADE, *script.TIMED} <= slugs
