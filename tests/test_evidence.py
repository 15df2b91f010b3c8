"""What is kept of the studies of the recipes: read, joined with parity and pages, shown; a claim that fails is shown as failing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli.main import main
from limbeck.evidence import Claimed, entries, place, slug

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


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evidence", "--folder", str(tmp_path / "no")]) == 2
    assert f"found nothing: {tmp_path / 'no'} is no folder, or name one with --folder." in capsys.readouterr().err


def test_the_evidence_of_the_repository_is_whole():
    assert place() == ROOT / "evidence"
    for entry in entries(ROOT / "evidence"):
        assert (ROOT / entry.recipe).is_file(), entry.slug
        assert all(one.verdict in ("holds", "fails", "undecided") for one in entry.claims)
        assert entry.seeds == 0 or entry.seeds >= 5, entry.slug
    held = [json.loads(file.read_text()) for file in (ROOT / "evidence").glob("*.json")]
    for study in [one for one in held if one.get("kind") == "study"]:
        assert study["failed"] == {}
        for arm in study["arms"].values():
            assert all(len(values) == len(study["seeds"]) for model in arm["values"].values() for values in model.values())
