"""The README, run: its recipes and its commands in a folder with small data of the described kind, nothing fetched.

A block of YAML is written to the file that its first line names. A line `limbeck ...` is run as it stands; one that trains is shortened by
SHORTER, which is appended to it. The first of each kind runs in a process from scratch, as for a user; the others in one that need not
import torch first. `make ...` must be a real target (continuous integration runs `make test` itself).
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.processes import command
from tests.runs import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SHORTER = ["--set", "train.epochs=1"]
COMMANDS = [line.partition("#")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.strip()]
RECIPES = {text.split("\n")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "yaml"}


def images(folder: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for k, name in enumerate(("cat", "dog", "fox")):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            picture = torch.randint(0, 60, (30 + i % 2, 28, 3), dtype=torch.uint8) + torch.tensor(60 * k, dtype=torch.uint8)
            image.fromarray(picture.numpy()).save(folder / name / f"{i}.png")


def table(file: Path, header: list[str], rows: list[list[object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def language_models(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot"]
    for name, width in (("large", 16), ("small", 8)):
        (folder / name).mkdir(parents=True)
        (folder / name / "vocab.txt").write_text("\n".join(words))
        transformers.BertTokenizerFast(str(folder / name / "vocab.txt")).save_pretrained(folder / name)
        sizes = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.BertConfig(vocab_size=len(words), num_labels=2, **sizes)
        transformers.BertForSequenceClassification(config).save_pretrained(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with everything that the README takes for granted."""
    timm = pytest.importorskip("timm")
    place = tmp_path_factory.mktemp("readme")
    images(place / "photos")
    kinds = ("setosa", "virginica")
    table(
        place / "flowers.csv", ["length", "soil", "species"], [[i % 2 + 0.01 * i, "clay" if i % 3 else "", kinds[i % 2]] for i in range(60)]
    )
    table(place / "prices.csv", ["area", "city", "price"], [[i, "ab"[i % 2], 1000 * i] for i in range(60)])
    table(place / "reviews.csv", ["review", "label"], [[f"{('good', 'bad')[i % 2]} film", ("yes", "no")[i % 2]] for i in range(40)])
    language_models(place / "models")
    weights = timm.create_model("resnet18", num_classes=3).state_dict()
    torch.save({f"module.{name}": value for name, value in weights.items()}, place / "teacher.pt")
    for name, text in RECIPES.items():
        (place / name).write_text(text)
    return place


def run(words: list[str], folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_recipes_are_short_and_named():
    assert set(RECIPES) == {"photos.yaml", "flowers.yaml", "prices.yaml", "reviews.yaml", "mine.yaml"}
    for name, text in RECIPES.items():
        assert len(text.splitlines()) <= 15, name


@pytest.mark.slow
def test_commands_in_order(folder):
    ran = [line for line in COMMANDS if line.startswith("limbeck ")]
    kinds: set[str] = set()
    for line in ran:
        _, kind, *words = shlex.split(line)
        words = [kind, *words, *(SHORTER if kind == "run" else [])]
        if kind in kinds:
            done = command(*words, cwd=folder)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        else:
            run([sys.executable, "-m", "limbeck", *words], folder)
        kinds.add(kind)
    assert {line.split()[1] for line in ran} >= {"check", "run", "inspect", "report", "losses", "eval", "export"}
    for name in ("photos", "flowers", "prices", "reviews", "mine"):
        assert (folder / "runs" / name / "report.html").is_file()
        assert (folder / "runs" / name / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_python_in_order(folder):
    for text in [text for kind, text in BLOCKS if kind == "python"]:
        run([sys.executable, "-c", text], folder)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {line.split()[1] for line in COMMANDS if line.startswith("make ")} | set(re.findall(r"`make ([a-z-]+)`", README))
    assert {"quickstart", "test", "docs"} <= named
    assert named <= targets
    assert all(line.startswith(("make ", "limbeck ")) for line in COMMANDS)


def test_every_command_is_in_the_table():
    from limbeck.cli.main import commands

    rows = "\n".join(line for line in README.splitlines() if line.startswith("| `limbeck"))
    assert set(re.findall(r"`limbeck ([a-z]+)", rows)) == set(commands())


def test_options_in_the_table_exist():
    row = next(line for line in README.splitlines() if line.startswith("| `limbeck run"))
    source = "".join((ROOT / "src" / "limbeck" / "cli" / name).read_text() for name in ("run.py", "_common.py"))
    for option in re.findall(r"--[a-z-]+", row):
        assert f'"{option}"' in source


def test_extras_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"'limbeck\[(\w+)\]'", README)) <= set(extras)


def test_links_and_the_picture_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    assert (ROOT / "docs" / "assets" / "report.png").stat().st_size < 150_000


def test_parts_in_the_table_of_tasks_exist():
    from limbeck.registry import LOSSES, TASKS

    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", README, flags=re.MULTILINE)
    assert {name for name, _ in rows} == set(TASKS.names())
    for loss in re.findall(r"loss: (\w+)", README):
        assert loss in LOSSES.names()


def test_recipe_of_the_quickstart_says_what_the_readme_says():
    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    assert recipe["data"] == {"source": "sklearn:digits", "label_fraction": 0.05}
    assert recipe["baseline"] is True
