"""Products are those of torch, whatever the routine, and blocks cover every row once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from limbeck.ops import products
from limbeck.ops.products import blocks, product

DRAW = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width", "columns"), [(1, 1, 1), (3, 5, 7), (40, 33, 70)])
def test_by_hand(rows: int, width: int, columns: int, dtype: torch.dtype) -> None:
    x, weight = (torch.randn(n, width, dtype=torch.float64, generator=DRAW).to(dtype) for n in (rows, columns))
    expected = (x.double()[:, None] * weight.double()).sum(2)
    found = product(x, weight)
    assert found.dtype == dtype
    precision = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=precision, atol=precision * width**0.5)


def test_matrices_that_lie_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """By columns, or as a part of a larger one: values are the same, and what is slow in oneDNN is left to the other routine."""
    left: list[torch.Size] = []
    plain = F.linear
    monkeypatch.setattr(products.F, "linear", lambda x, weight: left.append(weight.shape) or plain(x, weight))
    large = torch.randn(60, 80, generator=DRAW)
    x = torch.randn(80, 4, generator=DRAW)
    torch.testing.assert_close(product(x.T, large), x.T @ large.T)
    torch.testing.assert_close(product(x[:60].T, large.T), x[:60].T @ large)
    torch.testing.assert_close(product(x[:30].T, large[:30].T), x[:30].T @ large[:30])
    torch.testing.assert_close(product(x[:50].T, large.T[:, 10:]), x[:50].T @ large[10:])
    assert left == [] or not torch.backends.mkldnn.is_available()
    torch.testing.assert_close(product(x[:30].T, large[:, :30]), x[:30].T @ large[:, :30].T)
    assert left[-1] == (60, 30)


def test_without_onednn_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    plain = F.linear
    monkeypatch.setattr(products.F, "linear", lambda x, weight: left.append(x.device.type) or plain(x, weight))
    x, weight = torch.randn(3, 5, generator=DRAW), torch.randn(4, 5, generator=DRAW)
    assert product(x.to("meta"), weight.to("meta")).shape == (3, 4)
    assert left == ["meta"]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    torch.testing.assert_close(product(x, weight), x @ weight.T)
    assert left == ["meta", "cpu"]


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 9])
def test_blocks_cover_every_row_once(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "BLOCK", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    matrix = torch.arange(rows).unsqueeze(1)
    parts = [matrix[block] for block in blocks(matrix)]
    assert [len(part) for part in parts] == [4] * (rows // 4) + [rows % 4] * (rows % 4 > 0)
    assert torch.equal(torch.cat([matrix[:0], *parts]), matrix)


def test_other_devices_have_one_block() -> None:
    tall = torch.empty(2 * products.BLOCK * torch.get_num_threads() + 5, 1, device="meta")
    assert list(blocks(tall)) == [slice(0, len(tall))]
