"""What must not happen in every update."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck.engine.watch import Silent
from tests.runs import SMALL, distill


class Reads(TorchDispatchMode):
    """Counts how often a value is read from a tensor, which on a GPU stalls the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


class Ledger(Silent):
    """Reads so far at every update."""

    def __init__(self, reads: Reads) -> None:
        self.reads, self.at = reads, {}

    def update(self, update: int) -> None:
        self.at[update] = self.reads.count


PEERS = {
    "models": {"other": {"model": "mlp", "args": {"hidden": [8]}}},
    "peers": {"other": {"objective": {"labels": "cross_entropy", "mutual": {"loss": "kd", "from": "peers"}}}},
    "objective.mutual": {"loss": "kd", "from": "peers"},
}
EXTRAS = {"plain": {}, "average": {"train.ema": 0.9, "train.accumulate": 2}, "clip": {"train.clip": 1.0}, "peers": PEERS}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_nothing_is_read_from_the_device_between_log_lines(tmp_path: Path, extra: Mapping[str, Any]) -> None:
    recipe = {**SMALL, "data": {"source": "sklearn:digits", "limit": 400}}
    recipe["objective"] = {**SMALL["objective"], "hint": {"loss": "hint", "student": "stage1", "teacher": "stage1"}}
    with Reads() as reads:
        ledger = Ledger(reads)
        distill(recipe, set={"train.epochs": 1, "train.log_every": 5, **extra}, out=tmp_path / "run", device="cpu", listener=ledger)
    quiet = [ledger.at[u] - ledger.at[u - 1] for u in ledger.at if u > 1 and (u - 1) % 5]
    assert len(quiet) >= 8
    assert set(quiet) == {0}
