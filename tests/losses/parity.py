"""Golden numbers in the tests of losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.testing.parity import run

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def check_parity(*methods: str) -> None:
    """Ours must give the stored numbers of the named methods."""
    for method in methods:
        folder = next((folder for room in ("losses", "language", "evidence") if (folder := GOLDEN / room / method).is_dir()), None)
        if folder is None:
            pytest.skip(f"needs the golden numbers of {method} in {GOLDEN}, which are not on this machine")
        found = list(run(folder))
        assert [f"{item.method}/{item.case}: {item.note} ({item.error})" for item in found if item.verdict != "pass"] == []
        assert found
