"""What `pip install limbeck` brings: the package, its recipes, and what is known of them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of this checkout is unpacked."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def said(installed: Path, cwd: Path, *words: str) -> str:
    """What a command of the wheel prints, far from any checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_recipes_and_evidence_are_in_it(installed: Path) -> None:
    for folder, pattern in (("recipes", "*.yaml"), ("recipes", "*.json*"), ("evidence", "*.json")):
        names = {file.relative_to(ROOT) for file in (ROOT / folder).rglob(pattern)}
        assert names == {file.relative_to(installed / "limbeck") for file in (installed / "limbeck" / folder).rglob(pattern)}
    assert not [*(installed / "limbeck" / "evidence").glob("*.py")]
    assert {path.name for path in installed.iterdir()} == {"limbeck", *(path.name for path in installed.glob("limbeck-*.dist-info"))}


def test_the_evidence_is_that_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert said(installed, tmp_path, "-c", "import limbeck; print(limbeck.__file__)").strip() == str(installed / "limbeck" / "__init__.py")
    here = subprocess.run([sys.executable, "-m", "limbeck", "evidence"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said(installed, tmp_path, "-m", "limbeck", "evidence") == here
    assert " holds" in here
