"""Training-time augmentation by name; one file a transform."""

from __future__ import annotations

from ...registry import Registry

TRANSFORMS = Registry("transform", "limbeck.data.transforms", "Transform")
