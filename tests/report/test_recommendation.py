"""The page of a search, rendered from what a search writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_page import Page

from limbeck.errors import RunError
from limbeck.report.recommendation import history, write_page

EVIL = '<script>alert("x")</script>'


def trial(number: int, score: float | None, note: str = "") -> dict[str, Any]:
    state = "complete" if score is not None else "stopped"
    return {"number": number, "summary": f"kd{EVIL}", "role": "plain", "state": state, "score": score, "seconds": 2.0, "note": note}


def contents(**more: Any) -> dict[str, Any]:
    return {
        "limbeck": "0.1.0",
        "recipe": "recipes/quickstart.yaml",
        "task": "classification",
        "primary": "accuracy",
        "better": "higher",
        "budget": 120.0,
        "seconds": 61.0,
        "data": {"test": 359},
        "first": "A fixed order is tried first.",
        "rejected": {},
        "chosen": {"summary": f"dkd{EVIL}"},
        "reasons": {"temperature": "3.7"},
        "importance": {"losses": 0.3, "temperature": 0.7},
        "finalists": [{"number": 1, "summary": "dkd", "role": "sampled", "scores": [0.5, 0.75], "mean": 0.625}],
        "test": {
            "arms": {"recommended": {"accuracy": [0.5, 0.7]}, "plain": {"accuracy": [0.4, 0.4]}},
            "teacher": {"accuracy": 0.9},
            "differences": [
                {"mean": 0.1, "low": -0.2, "high": 0.4, "confidence": 0.95, "than": "plain"},
                {"mean": 0.3, "low": 0.1, "high": 0.5, "confidence": 0.95, "than": "alone"},
                {"mean": 0.3, "low": None, "high": None, "confidence": 0.95, "than": "plain"},
            ],
        },
        "trials": [trial(0, 0.5), trial(1, 0.75), trial(2, None, "stopped after a quarter")],
        **more,
    }


def rendered(found: dict[str, Any], out: Path) -> tuple[str, Page, str]:
    text = write_page(found, out).read_text()
    page = Page(text)
    assert "<script" not in text
    assert page.tags.count("table") == page.tags.count("caption"), "a table without a caption"
    assert page.tags.count("h1") == 1
    return text, page, re.sub(r"\s+", " ", " ".join(page.text))


def test_what_is_recommended_and_how_sure_that_is(tmp_path: Path):
    text, _, words = rendered(contents(), tmp_path / "r.html")
    assert '<header class="top">' in text
    assert "Recommendation for quickstart" in words
    assert "3 trials budget 2 min 0 s took 1 min 1 s" in words
    assert "Recommended 0.6000 0.5000, 0.7000" in words
    assert "Teacher 0.9000" in words
    assert "+0.1000 better than plain distillation, 95% interval -0.2000 to +0.4000: these seeds do not decide it" in words
    assert "+0.3000 better than no distillation, 95% interval +0.1000 to +0.5000" in words
    assert "+0.3000 better than plain distillation; one seed, so no interval" in words
    assert words.index("temperature 70%") < words.index("losses 30%")
    assert "trial 1, sampled 0.6250 0.5000, 0.7500" in words
    assert words.index("1: kd") < words.index("0: kd") < words.index("2: kd")
    assert "plain; stopped after a quarter stopped 2.0" in words
    assert "Losses that do not fit" not in words


def test_what_is_missing_is_said_or_left_out(tmp_path: Path):
    found = contents(test={}, importance={}, trials=[trial(0, 0.5)], rejected={"fsp": "needs two layers"}, reasons={})
    text, _, words = rendered(found, tmp_path / "r.html")
    assert "The budget left no time for a comparison on the test split." in words
    assert "What mattered" not in words
    assert "<svg" not in text
    assert "1 trial budget" in words
    assert "Losses that do not fit this pair (1)" in words
    with pytest.raises(RunError, match=r"is a directory\. Expected the name of a file"):
        write_page(found, tmp_path)


def test_the_scores_in_their_order():
    found = history([trial(0, 0.5), trial(2, 0.75), trial(3, None), trial(4, 0.6)])
    assert 'aria-label="Score of 3 trials in their order, from 0.5000 of the first to 0.7500 of the best"' in found
    assert [float(x) for x in re.findall(r'cx="([\d.]+)"', found)] == [34.0, 172.5, 311.0]
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', found)]
    assert heights[0] == 216 - 34
    assert heights[1] == 34
    assert 34 < heights[2] < 182
    (line,) = re.findall(r'points="([^"]+)"', found)
    assert line.split() == ["34.0,182.0", "34.0,182.0", "172.5,182.0", "172.5,34.0", "311.0,34.0", "311.0,34.0"]
    assert "trial 4" in found
    assert history([trial(0, 0.5), trial(1, None)]) == ""
