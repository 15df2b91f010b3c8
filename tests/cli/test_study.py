"""`limbeck study` and what `limbeck check` says of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.study.small import write

from limbeck.cli._study import spread
from limbeck.cli.main import main


def test_check_counts_arms_seeds_and_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = write(tmp_path, {"seeds": 3, "arms": {"a": {}, "b": {"objective.logits": None}}, "claims": "a.ece < b.ece"})
    assert main(["check", str(recipe)]) == 0
    assert "study: 2 arms (a, b), 3 seeds, 1 claims" in capsys.readouterr().out.splitlines()


def test_check_tells_the_problems_of_recipe_and_arms_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = {"arms": {"a": {"train.epochs": -1}, "b": {"objective.logit": None}}}
    recipe = write(tmp_path, study, teacher={"model": "mlp", "args": {"hidden": [16]}, "weights": "nowhere.pt"})
    assert main(["check", str(recipe)]) == 2
    assert "1 problem in the recipe" in capsys.readouterr().err  # of the recipe itself, before any arm is looked at
    assert main(["check", str(write(tmp_path, study))]) == 2
    said = capsys.readouterr().err
    assert "2 problems in the recipe" in said
    assert "study.arms.a: train.epochs: expected a number > 0, found -1." in said
    assert "study.arms.b: objective.logit: there is no term 'logit' to remove. Did you mean 'logits'?" in said


def test_the_command_ends_with_values_and_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    study = {"seeds": 2, "arms": {"a": {}, "b": {}}, "claims": ["a.nll <= b.nll", "a.accuracy > b.accuracy + 9"]}
    recipe = write(tmp_path, study, train={"steps": 2, "batch_size": 32})
    assert main(["study", str(recipe), "--seeds", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 done" in said
    assert "a.nll <= b.nll" in said
    assert said.index("holds") < said.index("fails")
    assert "report   studies/small/report.html" in said
    assert main(["study", "studies/small", "--resume"]) == 0
    assert "4 runs, 4 of them finished already" in capsys.readouterr().out
    assert main(["study", str(recipe), "--workers", "0"]) == 2
    assert "--workers and --seeds must be at least 1, found 0 and None." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "-"),
        ([None, None], "-"),
        ([0.5], "0.5"),
        ([0.5, None, 0.7], "0.6 ± 0.14"),
        ([1442, 1442], "1,442"),
        ([2e6, 4e6], "3,000,000 ± 1.4e+06"),
    ],
)
def test_a_spread_is_a_mean_and_a_deviation(values: list[float | None], text: str):
    assert spread(values) == text
