"""Damaged recipes end in a valid recipe or in located problems, never in another exception."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from limbeck.config.load import load_recipe
from limbeck.errors import RecipeError

COUNT = 700

PLAIN = """\
about: {title: "Digits", paper: "arXiv:1503.02531"}
task: classification
data: {source: "sklearn:digits", label_fraction: 0.1, transforms: [flip, {crop: {padding: 4}}]}
teacher: {model: convnet, args: {channels: [8, 16]}}
student: {model: mlp, args: {hidden: [8]}}
objective:
  labels: {loss: cross_entropy, weight: 0.1}
  logits: {loss: kd, temperature: 4, weight: {schedule: linear, start: 1, end: 0}, targets: [logit_standardization]}
train: {epochs: 3, optimizer: {name: adamw, lr: 2e-3, betas: [0.9, 0.99]}, schedule: cosine, ema: 0.99}
"""

STAGED = """\
task: classification
seed: 3
data:
  source: sklearn:digits
  split:
    valid: 0.1
    test: 0.2
student: mlp
teachers:
  big: {model: resnet, args: {depth: 20}}
  small: convnet
objective:
  labels: cross_entropy
  one:
    loss: kd
    from: big
    temperature: {schedule: cosine, start: 8, end: 1, until: 0.5}
  two: &two
    loss: kd
    targets: {name: logit_standardization, variant: official}
    from: small
    weight: 0.5
train:
  epochs: 4
  clip: 1.0
  optimizer: {name: sgd, lr: 0.1, momentum: 0.9, nesterov: true}
  schedule: {name: step, milestones: [0.3, 0.6]}
stages:
  warm:
    learner: big
    objective: {labels: cross_entropy}
    train: {epochs: 1}
  distil:
    repeat: 2
    between: refresh_teacher
    train:
      optimizer: adamw
    objective:
      two: null
  last:
    objective: {again: *two}
track: [tensorboard]
baseline: true
"""

VALUES = [
    *(
        "",
        "null",
        "~",
        "yes",
        "no",
        "true",
        "-1",
        "0",
        "1e999",
        "-0.0",
        ".nan",
        ".inf",
        "1e-3",
        "010",
        "0o17",
        "0x1F",
        "1_000",
        "9" * 40,
        "3.0",
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        "{a: b}",
        "[1, x]",
        "{schedule: linear}",
        "{schedule: linear, start: 1, end: .nan}",
        "[null]",
        "{1: 2}",
        "{? [a] : b}",
    ),
    *(
        "!!python/object/apply:os.system [ls]",
        "!x y",
        "&a *a",
        "*nowhere",
        "!!int x",
        "!!str 3",
        "'",
        '"',
        "|",
        ">",
        "- a",
        "@x",
        "`",
        "%",
        "a: b: c",
    ),
    *(
        "timm:",
        "timm:resnet18",
        "tim:resnet18",
        "hf:./nowhere",
        "my_module:Thing",
        ":",
        "::",
        "a:b:c",
        "csv:x.csv",
        "folder:",
        "../x",
        "/",
        "\\0",
        '"\\0"',
    ),
    *(
        "kd",
        "dkd",
        "hint",
        "teacher",
        "student",
        "at",
        "logit_standardization",
        "frozen",
        "big",
        '"\\ud800"',
        '"\\U0001F600"',
        "é" * 200,
        "x" * 5000,
        "日本語",
    ),
]
KEYS = [
    "extends",
    "from",
    "options",
    "schedules",
    "adapter",
    "targets",
    "teacher",
    "student",
    "loss",
    "<<",
    "",
    "self",
    "name",
    "weight",
    "on",
    "1",
    "a.b",
]

Mutation = Callable[[random.Random, str], str | bytes]


def _edit(rng: random.Random, text: str) -> str:
    """A typo: one character dropped, doubled, exchanged or added."""
    at = rng.randrange(len(text))
    letter = rng.choice("abcxyz019:,[]{}#&*!|>'\"%@`?- \t\n.~\\é")
    return rng.choice(
        [text[:at] + text[at + 1 :], text[:at] + text[at] + text[at:], text[:at] + letter + text[at + 1 :], text[:at] + letter + text[at:]]
    )


def _typos(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 4)):
        text = _edit(rng, text)
    return text


def _value(rng: random.Random, text: str) -> str:
    """Another value for some key."""
    places = list(re.finditer(r"(?<=: )[^,{}\[\]\n]+", text))
    place = rng.choice(places)
    return text[: place.start()] + rng.choice(VALUES) + text[place.end() :]


def _block(rng: random.Random, text: str) -> str:
    """Another value for a whole section."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = lines[at].split(":")[0] + ": " + rng.choice(VALUES)
    return "\n".join(lines)


def _key(rng: random.Random, text: str) -> str:
    """Another key."""
    places = list(re.finditer(r"\w+(?=:)", text))
    place = rng.choice(places)
    name = rng.choice([rng.choice(KEYS), rng.choice(places).group(), _edit(rng, place.group())])
    return text[: place.start()] + name + text[place.end() :]


def _lines(rng: random.Random, text: str) -> str:
    """A line deleted, doubled, moved or indented otherwise."""
    lines = text.splitlines()
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = rng.choice(["\t", " ", "   ", "      "]) + lines[at].lstrip()
    return "\n".join(lines)


def _bytes(rng: random.Random, text: str) -> bytes:
    """Bytes that are no text."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _deep(rng: random.Random, text: str) -> str:
    """Very deep nesting."""
    depth = rng.choice([20, 60, 400, 5000])
    left, right = rng.choice([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")])
    return f"{text}extra: {left * depth}x{right * depth}\n" if left in "[{a: " else f"{text}extra:\n  {left * depth}x\n"


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


MUTATIONS: list[Mutation] = [_typos, _value, _value, _block, _key, _key, _lines, _lines, _bytes, _deep, _cut]


def damaged(rng: random.Random) -> bytes:
    """A recipe with one to three kinds of damage."""
    text: str | bytes = rng.choice([PLAIN, STAGED])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if isinstance(text, bytes) or len(text) > 20_000 or ":" not in text:
            break
        try:
            text = rng.choice(MUTATIONS)(rng, text)
        except (IndexError, ValueError):  # nothing left to damage in this way
            break
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def check(path: Path) -> bool:
    """Whether the recipe is valid; fails where it ends in anything but located problems."""
    try:
        loaded = load_recipe(path)
    except RecipeError as error:
        problems = error.problems
    else:
        again = path.with_name("again.yaml")
        again.write_text(loaded.resolved(), encoding="utf-8")
        assert load_recipe(again).recipe == loaded.recipe, loaded.resolved()
        again.write_text(loaded.resolved(defaults=False), encoding="utf-8")
        assert load_recipe(again).recipe == loaded.recipe, loaded.resolved(defaults=False)
        return True
    assert problems
    for problem in problems:
        assert re.match(r".+\.yaml:[1-9]\d*:[1-9]\d*$", problem.where), problem
        assert problem.message, problem
        str(problem).encode()
    return False


@pytest.mark.parametrize("text", [PLAIN, STAGED])
def test_undamaged(tmp_path, text):
    (tmp_path / "fine.yaml").write_text(text)
    assert check(tmp_path / "fine.yaml")


def test_damaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(2024)
    path = tmp_path / "damaged.yaml"
    outcomes = []
    for number in range(COUNT):
        data = damaged(rng)
        path.write_bytes(data)
        try:
            outcomes.append(check(path))
        except Exception as error:
            raise AssertionError(f"recipe {number} ended in {type(error).__name__}: {error}\n{data!r}") from error
    assert outcomes.count(False) > COUNT // 2
    assert outcomes.count(True) > 10


def test_damaged_base(tmp_path, monkeypatch):
    """Problems of a base are reported at the base."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(7)
    (tmp_path / "child.yaml").write_text("extends: base.yaml\ntrain: {epochs: 2}\nobjective: {labels: {weight: 0.5}}\n")
    for _ in range(60):
        data = damaged(rng)
        (tmp_path / "base.yaml").write_bytes(data)
        check(tmp_path / "child.yaml")


def test_damaged_override(tmp_path, monkeypatch):
    """Any value for any key on the command line."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(5)
    (tmp_path / "fine.yaml").write_text(PLAIN)
    keys = [
        "train.epochs",
        "train",
        "objective.logits.weight",
        "objective.new",
        "teacher",
        "data.transforms",
        "student.args.x",
        "a.b.c",
        "",
        "..",
        "task.x",
    ]
    for _ in range(150):
        text = f"{rng.choice(keys)}={rng.choice(VALUES)}"
        try:
            load_recipe(tmp_path / "fine.yaml", set=[text])
        except RecipeError as error:
            for problem in error.problems:
                assert problem.where.startswith(("--set ", str(tmp_path))), problem
