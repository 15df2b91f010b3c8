"""Golden numbers in the tests of losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.testing.parity import run

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "losses"


def check_parity(*methods: str) -> None:
    """Ours must give the stored numbers of the named methods."""
    for method in methods:
        if not (GOLDEN / method).is_dir():
            pytest.skip(f"needs the golden numbers in {GOLDEN / method}, which are not on this machine")
        found = list(run(GOLDEN / method))
        assert [f"{item.method}/{item.case}: {item.note} ({item.error})" for item in found if item.verdict != "pass"] == []
        assert found
