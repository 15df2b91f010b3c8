"""Blocks of one size, one after the other; the first changes the size."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def stage(block: Callable[[int, int, int], nn.Module], before: int, after: int, blocks: int, stride: int) -> nn.Sequential:
    """So many blocks.

    Args:
        block: makes one, of its channels before, its channels after, and its stride.
        before: channels that the first gets.
        after: channels that all give.
        blocks: how many.
        stride: of the first.
    """
    return nn.Sequential(block(before, after, stride), *[block(after, after, 1) for _ in range(blocks - 1)])
