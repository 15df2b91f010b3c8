"""What a run hands over: the files of transformers with its models, and nothing of it with others."""

from __future__ import annotations

import sys

import pytest
from torch import nn

from limbeck.models.sources.hf import configuration_of
from tests.language_models import tiny


def test_a_model_of_transformers_has_its_configuration():
    assert sorted(configuration_of(tiny("gpt2"), {})) == ["config.json"]


def test_another_has_none_and_does_not_import_transformers(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    assert configuration_of(nn.Linear(2, 2), {}) == {}
    assert "transformers" not in sys.modules
