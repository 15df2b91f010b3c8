"""Recipes are tested in a folder of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Messages show paths as seen from the working directory."""
    monkeypatch.chdir(tmp_path)
