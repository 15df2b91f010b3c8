"""Where examples come from; one file a source, found by its name."""

from __future__ import annotations

from ...registry import Registry

SOURCES = Registry("data source", "limbeck.data.sources", "Source")
