"""A batch in slices: which rows, which memory."""

from __future__ import annotations

import pytest
import torch

from limbeck.ops.slices import in_slices


@pytest.mark.parametrize(
    ("size", "chunk", "expected"),
    [(4, 4, [(0, 4)]), (4, 9, [(0, 4)]), (5, 4, [(0, 4), (4, 5)]), (5, 2, [(0, 2), (2, 4), (4, 5)]), (2, 1, [(0, 1), (1, 2)])],
)
def test_rows(size, chunk, expected):
    seen = []
    in_slices(lambda x, rows: (seen.append((rows.start, rows.stop)), x[rows])[1], torch.arange(9.0), size=size, chunk=chunk)
    assert seen == expected


@pytest.mark.parametrize("chunk", [2, 3, 5, 7])
def test_parts_are_the_whole_and_so_are_their_gradients(chunk):
    x = torch.arange(5.0, requires_grad=True)
    parts = in_slices(lambda x, rows: (x[rows, None] * x).sum(1), x, size=5, chunk=chunk)
    torch.testing.assert_close(torch.cat(parts), torch.outer(x, x).sum(1))
    torch.cat(parts).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((5,), 20.0))


def test_slices_are_computed_again_in_the_backward_pass():
    calls = []

    def part(x, rows):
        calls.append(rows)
        return x[rows].exp()

    x = torch.arange(4.0, requires_grad=True)
    for chunk, expected in ((4, 1), (2, 4)):
        calls.clear()
        torch.cat(in_slices(part, x, size=4, chunk=chunk)).sum().backward()
        assert len(calls) == expected
