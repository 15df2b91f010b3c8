"""Every registered loss keeps the contract; and the contract bites."""

from __future__ import annotations

import importlib

import pytest

from limbeck.registry import LOSSES
from limbeck.testing import CHECKS, ContractError, check_loss, check_name, run_check
from limbeck.testing.robustness import check_compile

NAMES = LOSSES.names()


def traced(loss_class):
    """The check of compilation without the compiler, which takes ten times as long: the graph, forward and backward."""
    check_compile(loss_class, backend="aot_eager")


@pytest.mark.parametrize(
    "check",
    [
        *(pytest.param(check, id=check_name(check)) for check in CHECKS if check is not check_compile),
        pytest.param(traced, id="traced"),
        pytest.param(check_compile, id="compile", marks=pytest.mark.inductor),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_contract(name, check):
    loss_class = LOSSES.get(name)
    if check is traced:
        if "compile" not in loss_class.exempt:
            traced(loss_class)
        return
    if (reason := run_check(check, loss_class)) is None:
        return
    # An exemption must be needed: the day the check would pass, it is stale.
    with pytest.raises(ContractError):
        check(loss_class)
    assert len(reason) > 10


@pytest.mark.parametrize("name", NAMES)
def test_exemptions_name_checks(name):
    assert set(LOSSES.get(name).exempt) <= {check_name(check) for check in CHECKS}


SOUND = '''r"""Test loss.

.. math:: KL

Reference: nobody, 2026.
"""
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from limbeck.losses.base import Loss, logit_pair, logits_of, pairs, required
from limbeck.ops.divergence import kl
from limbeck.types import Needs, Positive, PositiveInt


@final
@dataclass(eq=False, repr=False, kw_only=True)
class Own(Loss):
    """A loss."""

    temperature: Positive = 1.0
    """Temperature."""

    @property
    def needs(self):
        return Needs(logits=True, label_kinds=("class",))

    def forward(self, student, teacher, labels=None):
        s, t = logit_pair(student, teacher)
        return kl(t / self.temperature, s / self.temperature)
'''
RETURN = "return kl(t / self.temperature, s / self.temperature)"
NEEDS = 'Needs(logits=True, label_kinds=("class",))'
BY_CHECK = {check_name(check): check for check in CHECKS}

# The checks that must fail, and what is done to the sound loss (old text, new text).
WRONG = {
    "no_formula": ("docs", ".. math:: KL", ""),
    "no_reference": ("docs", "Reference:", "See"),
    "undocumented_field": ("docs", '    """Temperature."""\n', ""),
    "long_title": ("docs", "Test loss.", "Test loss. " * 9),
    "two_losses": ("name", "@final", "class Other(Loss):\n    pass\n\n\n@final"),
    "not_final": ("dataclass", "@final\n", ""),
    "compared_by_value": ("dataclass", "eq=False, ", ""),
    "positional_fields": ("dataclass", ", kw_only=True", ""),
    "bad_default": ("dataclass", "Positive = 1.0", "Positive = 0.0"),
    "unchecked_bounds": ("bounds", "    @property", "    def __post_init__(self):\n        pass\n\n    @property"),
    "teacher_unused": ("needs", RETURN, "return kl(s.roll(1, -1), s)"),
    "labels_undeclared": ("needs", RETURN, "return F.cross_entropy(s, labels, reduction='none')"),
    "labels_unused": ("needs", "Needs(logits", "Needs(labels=True, logits"),
    "crash_without_logits": ("missing", "logit_pair(student, teacher)", "student.logits, teacher.logits"),
    "reduced": ("shape", RETURN, f"{RETURN}.mean()"),
    "batch_quantity_with_values": ("shape", "Needs(logits", "Needs(global_batch=True, logits"),
    "centred_over_the_batch": ("independence", RETURN, "return kl(t - t.mean(0), s - s.mean(0))"),
    "detached": ("gradient", RETURN, "return kl(t, s.detach())"),
    "hard_student": ("gradient", RETURN, "return kl(t, F.one_hot(s.argmax(-1), 7).to(s) + 0 * s)"),
    "in_place": ("purity", RETURN, "return kl(t, s.detach().div_(2) + s)"),
    "random": ("purity", RETURN, "return kl(t, s + torch.randn_like(s))"),
    "order": ("permutation", RETURN, "return kl(t, s) * torch.arange(1, 1 + len(s))"),
    "cross_entropy_of_teacher": ("equality", RETURN, "return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1)"),
    "negative": ("equality", RETURN, "return -kl(t, s)"),
    "rooted": ("equality", RETURN, "return kl(t, s).abs().sqrt()"),
    "raw_logits_as_probabilities": (
        "shift",
        RETURN,
        "return (F.kl_div(s.abs().add(1).log(), t.abs().add(1), reduction='none')).sum(-1).abs()",
    ),
    "squared_logits": ("shift", RETURN, "return (s - t).square().sum(-1)"),
    "half_precision": (
        "precision",
        RETURN,
        "return F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction='none', log_target=True).sum(-1)",
    ),
    "spread_of_one": ("single", RETURN, "return kl(t, s) + s.std(0).mean() + t.std(0).mean()"),
    "pairs_of_examples": (
        "chunk",
        f"{NEEDS}\n\n    def forward(self, student, teacher, labels=None):\n        s, t = logit_pair(student, teacher)\n        {RETURN}",
        'Needs(logits=True, global_batch=True, label_kinds=("class",))\n\n    def forward(self, student, teacher, labels=None):\n'
        "        s, t = logit_pair(student, teacher)\n        return (s @ s.mT - t @ t.mT).square().mean()",
    ),
    "copies_of_all_classes": ("classes", RETURN, "return kl(t, s) + 0 * s.repeat(1, 100).sum(-1)"),
    "small_beside_large": ("classes", RETURN, "return kl(t, s) + ((s + 1e4).sum(-1) - 1e4 * s.shape[1] - s.sum(-1)).abs()"),
    "log_of_a_softmax": ("precision", RETURN, "return (t.softmax(-1) * (t.softmax(-1).log() - s.softmax(-1).log())).sum(-1)"),
    "wrong_gradient": ("gradcheck", RETURN, "return kl(t, 2 * s - s.detach())"),
    "state_outside_fields": ("copies", RETURN, f"self.calls = getattr(self, 'calls', 0) + 1\n        {RETURN} * self.calls"),
}


def load(tmp_path, monkeypatch, text):
    """The class `Own` of a module with `text`."""
    name = f"own_{abs(hash(text)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(name).Own


def test_sound_loss_passes_all(tmp_path, monkeypatch):
    for check in CHECKS:
        if check_name(check) != "compile":
            assert run_check(check, load(tmp_path, monkeypatch, SOUND)) is None


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_loss_fails_its_check(tmp_path, monkeypatch, fault):
    name, old, new = WRONG[fault]
    assert old in SOUND
    own = load(tmp_path, monkeypatch, SOUND.replace(old, new))
    with pytest.raises(ContractError):
        run_check(BY_CHECK[name], own)


def test_unlabelled_example_that_spoils_its_value(tmp_path, monkeypatch):
    text = SOUND.replace(NEEDS, 'Needs(logits=True, labels=True, teacher=False, label_kinds=("class",))')
    text = text.replace("logit_pair(student, teacher)", "logits_of(student), required(labels)")
    own = load(tmp_path, monkeypatch, text.replace(RETURN, "return F.cross_entropy(s, t.clamp_min(0), reduction='none')"))
    with pytest.raises(ContractError, match="without a label has a gradient"):
        run_check(BY_CHECK["unlabelled"], own)


@pytest.mark.slow
def test_branch_on_a_value_does_not_compile(tmp_path, monkeypatch):
    own = load(tmp_path, monkeypatch, SOUND.replace(RETURN, "value = kl(t, s)\n        return value if value.max() > 1 else 2 * value"))
    with pytest.raises(ContractError, match="fullgraph=True\\) fails"):
        run_check(BY_CHECK["compile"], own)


def test_exemption_needs_a_reason_and_a_known_check(tmp_path, monkeypatch):
    squared = SOUND.replace(RETURN, "return (s - t).square().sum(-1).float()")
    own = load(tmp_path, monkeypatch, squared.replace("    temperature", '    exempt = {"shift": " "}\n    temperature', 1))
    with pytest.raises(ContractError, match=r"Own\.exempt\['shift'\] must give the reason"):
        run_check(BY_CHECK["shift"], own)
    own = load(tmp_path, monkeypatch, squared.replace("    temperature", '    exempt = {"shift": "levels matter"}\n    temperature', 1))
    assert run_check(BY_CHECK["shift"], own) == "levels matter"


def test_check_loss_reports_every_failure_at_once(tmp_path, monkeypatch):
    text = SOUND.replace("Reference:", "See").replace(RETURN, "return (s - t).square().sum()")
    text = text.replace("    temperature", '    exempt = {"shape": "scalar", "compile": "slow", "colour": "none"}\n    temperature', 1)
    with pytest.raises(ContractError) as caught:
        check_loss(load(tmp_path, monkeypatch, text))
    lines = str(caught.value).splitlines()
    assert lines[0] == "Own breaks the contract:"
    assert lines[1].startswith("exempt: no check is called 'colour'; there are ['bounds'")
    checks = {line.split(":")[0] for line in lines[2:]}
    assert {"docs", "shift", "gradient"} - checks == {"gradient"}
    assert any("logits changes the loss" in line for line in lines)
