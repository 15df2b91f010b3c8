"""The end of a search: how large it is, who is chosen, and what a difference says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.study.advice import headline, reasons, summary, verdict
from limbeck.study.clock import Clock
from limbeck.study.finals import Ending, Finalist, _difference, choose, confirm, ending
from limbeck.study.pipeline import Pipeline
from limbeck.study.search import PLAIN, SAMPLED, Candidate

PLAIN_ONE = Pipeline("kd")


def finalist(number: int, *scores: float, role: str = SAMPLED) -> Finalist:
    return Finalist(number, Pipeline("dkd"), {}, role, scores)


def test_the_end_takes_at_most_half_of_the_time() -> None:
    assert ending(1000.0, 1.0) == Ending(5, 4, 3)
    assert Ending(5, 4, 3).trainings() == 23
    assert ending(40.0, 1.0) == Ending(5, 3, 2)
    assert ending(45.9, 1.0).trainings() <= 22.95
    assert ending(7.9, 1.0) == Ending(1, 2, 1)
    assert ending(0.0, 1.0) == Ending(0, 2, 1)


def test_the_highest_mean_is_chosen_and_plain_distillation_where_it_is_as_good() -> None:
    assert choose([finalist(1, 0.9, 0.5), finalist(2, 0.8, 0.7), finalist(3, 0.1, 0.1, role=PLAIN)]).number == 2
    assert choose([finalist(1, 0.5, 0.7), finalist(2, 0.6, 0.6, role=PLAIN)]).number == 2


class Trier:
    """Scores by seed, without any training."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.bench = self

    def forget(self, folder: Path) -> None:
        """Nothing is there."""

    def recipe(self, pipeline: Pipeline, place: Path, scales: Any, *, seed: int) -> Any:
        self.asked.append((pipeline.logits, seed))
        return pipeline, seed

    def train(self, loaded: Any, place: Path) -> Any:
        place.mkdir(parents=True)
        self.metrics = {"score": loaded[1] / 10 + (loaded[0].logits == "dkd")}
        return self

    def score(self, metrics: dict[str, float]) -> float:
        return metrics["score"]


def candidates() -> list[Candidate]:
    return [Candidate(i, Pipeline(n), PLAIN, "complete", 0.5, {}, 1.0, "", {}) for i, n in enumerate(("kd", "dkd"))]


def test_finalists_meet_the_same_seeds_and_a_second_session_asks_for_no_more(tmp_path: Path) -> None:
    trier: Any = Trier()
    clock = Clock(1000.0, tmp_path / "clock.json")
    said: list[str] = []
    for _ in range(2):
        found = confirm(trier, tmp_path, candidates(), 3, clock, 0.0, seed=4, say=said.append)
        assert [item.scores for item in found] == [(0.5, 0.5, 0.6), (0.5, 1.5, 1.6)]
    assert trier.asked == [("kd", 5), ("dkd", 5), ("kd", 6), ("dkd", 6)]
    assert said[0] == "finalist 0, seed 5: 0.5000"


def test_no_round_is_begun_that_the_time_does_not_suffice_for(tmp_path: Path) -> None:
    trier: Any = Trier()
    clock = Clock(100.0, tmp_path / "clock.json", time.monotonic() - 90)
    found = confirm(trier, tmp_path, candidates(), 3, clock, 9.0, seed=0, say=lambda text: None)
    assert [item.scores for item in found] == [(0.5,), (0.5,)]
    assert trier.asked == []


def test_a_difference_of_one_seed_has_no_interval() -> None:
    assert _difference("plain", [0.25]) == {"than": "plain", "mean": 0.25, "low": None, "high": None, "confidence": 0.95}
    found = _difference("plain", [0.1, 0.3])
    assert found["mean"] == pytest.approx(0.2)
    assert found["low"] == pytest.approx(0.2 - 12.7062 * 0.1, abs=1e-3)
    assert verdict(found).endswith("not decided by these seeds)")
    assert verdict(_difference("plain", [0.1, 0.11, 0.12])).endswith("+0.1348)")
    assert verdict(_difference("plain", [0.25])) == " (one seed: no interval)"


def test_a_pipeline_in_a_line() -> None:
    assert summary(PLAIN_ONE, PLAIN_ONE) == "kd"
    assert summary(Pipeline("dkd", share=0.51234, features="hint", taps="a > b", mix="mixup"), PLAIN_ONE) == (
        "dkd, + hint at a > b, share 0.512, mix mixup"
    )


def test_reasons_tell_how_the_others_did() -> None:
    def trial(number: int, pipeline: Pipeline, score: float | None) -> Candidate:
        return Candidate(number, pipeline, SAMPLED, "complete" if score else "pruned", score, {}, 1.0, "", {})

    chosen = Pipeline("dkd", temperature=4.5)
    trials = [trial(0, PLAIN_ONE, 0.5), trial(1, chosen, 0.75), trial(2, Pipeline("kd", temperature=9.0), 0.25), trial(3, chosen, None)]
    found = reasons(chosen, PLAIN_ONE, trials, {"logits": 0.6})
    assert found == {
        "logits": "best of 1 with dkd: 0.7500; of 2 without: 0.5000; explains 60% of the differences between trials",
        "temperature": "best of 2 with about this: 0.7500; of 1 without: 0.2500",
    }


def test_the_headline_without_a_comparison() -> None:
    contents = {
        "primary": "accuracy",
        "recipe": "a/b.yaml",
        "test": {},
        "trials": [{"state": "complete"}, {"state": "pruned"}],
        "chosen": {"summary": "kd"},
        "data": {"valid": 7},
        "finalists": [{"scores": [0.5, 0.5]}],
        "seconds": 61.0,
    }
    assert headline(contents) == [
        "Recommended for b.yaml: kd",
        "Chosen on the validation split (7 examples) among 2 trials (1 complete, 1 stopped early, 0 failed)",
        "and 1 finalists with 2 seed(s), in 1 min 1 s.",
        "The budget left no time for a comparison on the test split.",
    ]
