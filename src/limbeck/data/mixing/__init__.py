"""How two examples become one; one file a kind."""

from __future__ import annotations

from ...registry import Registry

MIXINGS = Registry("mixing", "limbeck.data.mixing", "Mixing", helpers=("pairs",))
