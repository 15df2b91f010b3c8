"""First trials from the evidence of other tasks, and when it is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from limbeck.evidence import place
from limbeck.study.meta import CHANCE, Circumstances, MetaLearner, Observation, _rank_agreement, drawn_from, pooled, read_evidence, usual
from limbeck.study.pipeline import Pipeline
from limbeck.study.space import Choice, Range, Space

SPACE = Space(
    {
        "logits": Choice(("kd", "dkd", "dist")),
        "temperature": Range(1.0, 10.0, log=True),
        "mix": Choice(("given", "mixup")),
        "rate": Range(0.3, 3.0, log=True),
        "average": Choice(("given", "ema")),
    },
    {},
)
WHERE = Circumstances("classification", parameters=9.0, ratio=2.0)


def observations(*, carried_over: bool) -> list[Observation]:
    """Six recipes in which `dist` with mixup is best everywhere, or in every other one worst."""
    found = []
    for number in range(6):
        sign = 1.0 if carried_over or number % 2 else -1.0
        for loss in ("kd", "dkd", "dist"):
            for mix in ("given", "mixup"):
                gain = sign * (0.05 * (loss == "dist") + 0.03 * (mix == "mixup"))
                found.append(Observation(f"r{number}", WHERE, Pipeline(loss, mix=mix), 0.5 + 0.05 * number + gain))
    return found


def test_what_is_best_everywhere_is_proposed_first() -> None:
    learner = MetaLearner(observations(carried_over=True))
    assert learner.trusted
    assert learner.reason.startswith("First trials come from a forest fitted on 36 pipelines (rank correlation ")
    found = learner.propose(WHERE, SPACE, Pipeline("kd"), 3, seed=0)
    assert (found[0].logits, found[0].mix) == ("dist", "mixup")
    assert len({(p.logits, p.features, p.mix) for p in found}) == 3


def test_what_does_not_carry_over_is_not_believed() -> None:
    learner = MetaLearner(observations(carried_over=False))
    assert not learner.trusted
    assert "does not rank others" in learner.reason
    assert "each of 6 situations" in learner.reason


def test_of_one_situation_a_fifth_is_left_out() -> None:
    found = [
        Observation("one", WHERE, item.pipeline, item.ratio - 0.05 * int(item.situation[1])) for item in observations(carried_over=True)
    ]
    learner = MetaLearner(found)
    assert learner.trusted
    assert "a fifth of them left out" in learner.reason


def test_thin_evidence_is_not_believed() -> None:
    learner = MetaLearner(observations(carried_over=True)[:12])
    assert not learner.trusted
    assert learner.reason == ("The evidence is too thin to learn from (12 pipelines; 24 are needed), so a fixed order is tried first.")


def test_agreements_count_by_what_they_know() -> None:
    """By hand, and against what chance does: of unrelated orders one in twenty is believed."""
    assert pooled([]) == pooled([(1.0, 1)]) == (0.0, 1.0)
    assert pooled([(0.5, 5), (-1.0, 2)]) == pytest.approx((0.2, norm.sf(0.2 * 5**0.5)))
    assert pooled([(0.04, 30)])[1] > CHANCE > pooled([(0.55, 113), (-0.4, 4)])[1]
    draw = np.random.default_rng(0)
    believed = 0
    for _ in range(2000):
        turns = [(np.corrcoef(draw.permutation(n), np.arange(n))[0, 1], n) for n in (40, 12, 5)]
        believed += pooled(turns)[1] < CHANCE
    assert 0.035 < believed / 2000 < 0.065


def test_the_evidence_that_comes_along_is_believed() -> None:
    learner = MetaLearner(read_evidence(place()))
    assert learner.trusted, learner.reason


@pytest.mark.parametrize(
    ("said", "true", "value"), [([1, 2, 3], [2, 4, 9], 1.0), ([3, 2, 1], [2, 4, 9], -1.0), ([1, 1, 1], [1, 2, 3], 0.0)]
)
def test_rank_agreement(said: list[float], true: list[float], value: float) -> None:
    assert _rank_agreement(np.array(said), np.array(true)) == pytest.approx(value)


def test_the_fixed_order_keeps_to_the_space() -> None:
    found = usual(SPACE, Pipeline("kd"))
    assert found[0] == Pipeline("kd", mix="mixup", rate=2.0)
    assert found[1] == Pipeline("kd", average="ema", rate=2.0)
    assert all(p.features == "none" and p.augment == "given" for p in found)


def test_draws_are_those_of_a_seed_and_within_bounds() -> None:
    found = drawn_from(SPACE, Pipeline("kd"), 50, seed=3)
    assert found == drawn_from(SPACE, Pipeline("kd"), 50, seed=3)
    assert {p.logits for p in found} == {"kd", "dkd", "dist"}
    assert all(1 <= p.temperature <= 10 and 0.3 <= p.rate <= 3 for p in found)


def test_studies_are_read_and_all_else_is_passed_over(tmp_path: Path) -> None:
    recipe = {
        "task": "classification",
        "data": {"source": "sklearn:iris", "label_fraction": 0.5, "mix": "mixup"},
        "teacher": {"model": "mlp", "weights": "random"},
        "student": {"model": "mlp"},
        "objective": {"labels": {"loss": "cross_entropy", "weight": 0.2}, "logits": {"loss": "kd", "temperature": 3, "weight": 0.8}},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.yaml").write_text(json.dumps(recipe))
    values = {"student": {"accuracy": [0.8, 0.6], "parameters": [10, 10]}, "teacher": {"accuracy": [1.0, 1.0], "parameters": [100, 100]}}
    study = {
        "kind": "study",
        "slug": "a",
        "recipe": "recipes/a.yaml",
        "primary": "accuracy",
        "better": "higher",
        "arms": {
            "distilled": {"set": {}, "values": values},
            "sharp": {"set": {"objective.logits.temperature": 1.0}, "values": values},
            "alone": {"set": {"objective.logits": None}, "values": values},
            "broken": {"set": {"objective.logits.loss": "nothing"}, "values": values},
        },
    }
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(study))
    (folder / "b.json").write_text("{")
    (folder / "c.json").write_text('{"kind": "run"}')
    first, second = read_evidence(folder)
    assert (first.situation, first.ratio) == (second.situation, pytest.approx(0.7))
    assert (first.pipeline.logits, first.pipeline.temperature, first.pipeline.share, first.pipeline.mix) == ("kd", 3.0, 0.8, "mixup")
    assert second.pipeline.temperature == 1.0
    assert (first.where.labelled, first.where.ratio) == (0.5, pytest.approx(2.302585))
    assert read_evidence(None) == []
