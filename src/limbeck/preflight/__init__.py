"""Checks a recipe against the real models and data before any weight is read: layer paths, shapes, adapters.

Models are built on the meta device, where tensors have shapes and no contents; nothing is downloaded.
"""

from .check import preflight as preflight
from .found import Preflight as Preflight
