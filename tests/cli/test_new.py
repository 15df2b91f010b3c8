"""`limbeck new loss`: what it writes works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.cli.main import main


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout of Limbeck, and a place deep inside it."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "limbeck"\n')
    (tmp_path / "src" / "limbeck" / "losses").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "src" / "limbeck")
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_elsewhere_the_test_passes_as_written(elsewhere, capsys):
    assert main(["new", "loss", "my_first"]) == 0
    out = capsys.readouterr().out
    assert sorted(f.name for f in elsewhere.iterdir()) == ["my_first.py", "my_first.yaml", "test_my_first.py"]
    assert "pytest test_my_first.py" in out
    assert "limbeck run my_first.yaml --allow-code" in out
    assert "my_first:MyFirst" in (elsewhere / "my_first.yaml").read_text()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-k", "not contract", "test_my_first.py"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_elsewhere_the_recipe_runs(elsewhere, capsys):
    assert main(["new", "loss", "my_third"]) == 0
    assert main(["check", "my_third.yaml"]) == 0
    short = ["--set", "train.steps=2", "--set", "baseline=false"]
    assert main(["run", "my_third.yaml", *short, "--out", "refused"]) == 2
    assert "'my_third:MyThird' is code of your own; add --allow-code" in capsys.readouterr().err
    assert main(["run", "my_third.yaml", "--allow-code", *short, "--out", "done"]) == 0
    assert '"my_third"' in (elsewhere / "done" / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_elsewhere_the_loss_keeps_the_contract(elsewhere, monkeypatch):
    from limbeck.registry import LOSSES
    from limbeck.testing import check_loss

    assert main(["new", "loss", "my_second"]) == 0
    monkeypatch.syspath_prepend(str(elsewhere))
    check_loss(LOSSES.get("my_second:MySecond", allow_code=True))


def test_in_a_checkout_it_writes_a_built_in(checkout, capsys):
    assert main(["new", "loss", "wave2_gap"]) == 0
    loss = checkout / "src" / "limbeck" / "losses" / "wave2_gap.py"
    test = checkout / "tests" / "losses" / "test_wave2_gap.py"
    recipe = checkout / "recipes" / "classification" / "wave2_gap.yaml"
    assert "from ..types import" in loss.read_text()
    assert "class Wave2Gap(Loss)" in loss.read_text()
    assert "from limbeck.losses.wave2_gap import Wave2Gap, wave2_gap_value" in test.read_text()
    assert "check_loss" not in test.read_text()
    assert 'loss: "wave2_gap"' in recipe.read_text()
    shown = "pytest -k wave2_gap ../../tests/losses/test_wave2_gap.py ../../tests/test_contract.py ../../tests/test_recipes.py\n"
    assert shown in capsys.readouterr().out
    assert not any("$" in f.read_text() for f in (loss, test, recipe))


def test_in_a_copy_of_this_checkout_everything_is_found(root, tmp_path, monkeypatch):
    """The built-in loss is listed, passes the contract and its own test, and keeps the style."""
    import shutil

    copy = tmp_path / "limbeck"
    shutil.copytree(root / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("losses", "ops"):
        shutil.copytree(root / "tests" / folder, copy / "tests" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/test_contract.py", "tests/conftest.py"):
        shutil.copy(root / name, copy / name)
    monkeypatch.chdir(copy)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, "-m", *command], cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("limbeck", "new", "loss", "wave_gap")
    assert "wave_gap" in run("limbeck", "losses")
    out = run("pytest", "-p", "no:cacheprovider", "-k", "wave_gap and not compile", "tests/losses", "tests/test_contract.py")
    assert "27 passed" in out, out
    run("ruff", "check", "src/limbeck/losses/wave_gap.py", "tests/losses/test_wave_gap.py")
    run("ruff", "format", "--check", "src/limbeck/losses/wave_gap.py", "tests/losses/test_wave_gap.py")


@pytest.mark.parametrize("name", ["MyLoss", "2fast", "a-b", "a__b", "_a", "a_", "class", "base", ""])
def test_bad_names(elsewhere, capsys, name):
    assert main(["new", "loss", name]) == 2
    err = capsys.readouterr().err
    assert f"must be in snake_case (letters, digits, underscores), found {name!r}." in err
    assert list(elsewhere.iterdir()) == []


def test_a_suggestion(elsewhere, capsys):
    main(["new", "loss", "MyLoss-Two"])
    assert "Try 'my_loss_two'." in capsys.readouterr().err


def test_taken_names(elsewhere, capsys):
    assert main(["new", "loss", "dkd"]) == 2
    assert "there is a loss called 'dkd' already" in capsys.readouterr().err
    assert main(["new", "loss", "json"]) == 2
    assert "'json' is the name of an installed Python module" in capsys.readouterr().err


@pytest.mark.parametrize("existing", ["ripple.py", "test_ripple.py", "ripple.yaml"])
def test_nothing_is_overwritten(elsewhere, capsys, existing):
    (elsewhere / existing).write_text("mine")
    assert main(["new", "loss", "ripple"]) == 2
    assert f"{existing} exist already and are not overwritten; nothing was written" in capsys.readouterr().err
    assert [f.name for f in elsewhere.iterdir()] == [existing]
    assert Path(existing).read_text() == "mine"


def test_another_project_is_not_a_checkout(elsewhere):
    (elsewhere / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert main(["new", "loss", "ripple"]) == 0
    assert (elsewhere / "ripple.py").is_file()


def test_an_unwritable_folder_is_said(elsewhere, capsys, monkeypatch):
    ordinary = Path.open

    def refuse(self, mode="r", *args, **kwargs):
        if mode == "x":
            raise PermissionError(13, "Permission denied")
        return ordinary(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["new", "loss", "ripple"]) == 2
    assert "ripple.py cannot be written: Permission denied." in capsys.readouterr().err
