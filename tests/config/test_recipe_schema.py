"""The JSON Schema accepts what the loader accepts, and points out what it can."""

from __future__ import annotations

import argparse
import json

import pytest
from json_check import Checker
from recipe_problems import recipe

from limbeck.cli import schema as command
from limbeck.config.json_schema import recipe_schema
from limbeck.config.marks import Source
from limbeck.config.reader import read_file, read_text
from limbeck.registry import LOSSES


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker(recipe_schema())


def fits(checker: Checker, text: str) -> bool:
    return checker.fits(read_text(text, Source("x")).plain())


def test_shipped_recipes(checker, root):
    files = sorted((root / "recipes").rglob("*.yaml"))
    assert files
    for file in files:
        assert checker.fits(read_file(file).plain()), file


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train": "{epochs: 3, optimizer: sgd, schedule: cosine, ema: 0.9, early_stop: 2, mixture: 9, clip: null}"},
        {"train": "{optimizer: {name: adamw, lr: 2e-3, betas: [0.9, 0.99]}, schedule: {name: step, warmup: 0.1}}"},
        {"objective": "{labels: {loss: cross_entropy, weight: {schedule: linear, start: 1, end: 0}}, logits: {loss: kd, from: big}}"},
        {"objective": "{logits: {loss: kd, temperature: {schedule: cosine, start: 8, end: 1}}, mine: {loss: 'my_mod:Mine', anything: 3}}"},
        {"objective": "{hint: {loss: hint, student: a, teacher: [b], adapter: conv1x1}, two: {loss: at, student: [a]}}"},
        {"objective": "{logits: {loss: kd, targets: logit_standardization}, two: {loss: dkd, targets: {name: 'my_mod:Mine', a: 1}}}"},
        {"objective": "{logits: {loss: kd, targets: [logit_standardization, {name: logit_standardization, variant: official}]}}"},
        {"data": "{source: 'sklearn:digits', views: {moved: [flip, {noise: 0.1}], plain: null, small: {size: 8}}}"},
        {"data": "{source: 'jsonl:x', select: kept.json, pool: 'npz:more', rollouts: written.jsonl}"},
        {
            "data": "{source: 'jsonl:x', rollouts: {again: told}}",
            "evaluate": "{corruptions: true, severities: 2, cost: 8, canaries: 'pin {1}'}",
        },
        {"teachers": "{big: resnet, small: {model: mlp, kind: frozen}}", "track": "wandb"},
        {"stages": "{a: {learner: teacher, objective: {labels: cross_entropy}, trainable: head}, b: {objective: {logits: null}}, c: null}"},
        {
            "student": "{model: mlp, normalize: {mean: [0.5], std: [0.5]}}",
            "data": "{source: sklearn:digits, transforms: [flip, {crop: 3}]}",
        },
    ],
)
def test_good(checker, changes):
    assert fits(checker, recipe(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"trian": "{}"},
        {"student": None},
        {"task": "clasification"},
        {"train": "{epochs: 0}"},
        {"train": "{schedule: cosin}"},
        {"train": "{epoch: 3}"},
        {"objective": "{labels: cros_entropy}"},
        {"objective": "{logits: {loss: kd, temprature: 3}}"},
        {"objective": "{logits: {loss: kd, temperature: 0}}"},
        {"objective": "{logits: {loss: kd, weight: -1}}"},
        {"objective": "{logits: {loss: kd, targets: 3}}"},
        {"objective": "{logits: {loss: kd, targets: {name: logit_standardisation}}}"},
        {"objective": "{logits: {loss: kd, weight: {schedule: liner, start: 1, end: 0}}}"},
        {"stages": "{a: {lerner: teacher}}"},
        {"stages": "{a: {objective: {logits: {loss: kd, x: 1}}}}"},
    ],
)
def test_bad(checker, changes):
    assert not fits(checker, recipe(changes))


def test_a_recipe_that_extends_may_leave_keys_to_its_base(checker):
    assert fits(checker, "extends: base.yaml\nobjective: {logits: {temperature: 2}}\n")
    assert not fits(checker, "seed: 3\n")


def test_every_loss_and_field_is_described():
    definitions = recipe_schema()["$defs"]
    for name in LOSSES.names():
        loss = definitions[f"Loss-{name}"]
        assert loss["description"], name
        for key, value in loss["properties"].items():
            assert key == "loss" or value.get("description"), (name, key)


def test_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.main(parser.parse_args([])) == 0
    printed = json.loads(capsys.readouterr().out)
    assert command.main(parser.parse_args(["--out", str(tmp_path / "deep" / "s.json")])) == 0
    assert json.loads((tmp_path / "deep" / "s.json").read_text()) == printed
    assert printed["properties"]["extends"]
