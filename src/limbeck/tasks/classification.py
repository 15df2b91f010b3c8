"""Classification of images or tables: one class an example."""

from __future__ import annotations

from typing import ClassVar, final

from ._classifier import Classifier
from .base import Kind


@final
class Classification(Classifier):
    """Images or tables, one class an example."""

    data_kinds: ClassVar[tuple[Kind, ...]] = ("image", "tabular")
