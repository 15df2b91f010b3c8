"""Every stored number of the libraries for language models."""

from __future__ import annotations

import pytest
from tests.losses.parity import GOLDEN, check_parity

METHODS = sorted(folder.name for folder in (GOLDEN / "language").glob("*")) or ["gkd_jsd"]


@pytest.mark.parametrize("method", METHODS)
def test_golden(method: str):
    check_parity(method)
