"""Which training examples are kept; one file a method, found by its name."""

from __future__ import annotations

from ...registry import Registry

SELECTIONS = Registry("selection", "limbeck.data.selection", "Selection")
