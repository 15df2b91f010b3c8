"""Shared fixtures."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

# Before torch is there, and also for the processes that tests start: workers that share two cores must not each want both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)
gc.disable()  # until all is collected: nearly all that importing the tests makes, stays

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, then those with many, so that no worker is left with a long file when the others are done.

    The order within a file stays, and xdist hands out whole files (see the Makefile), so that what a file prepares is made once.
    """
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: (item.path not in slow, -count[item.path], str(item.path)))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, so the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real data sets that lie beside a developer's checkout; the test is skipped without them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}, which are not on this machine")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
