"""Masked language models: hidden tokens are predicted from all others."""

from __future__ import annotations

from typing import ClassVar, final

from ._language import Language


@final
class MaskedLm(Language):
    """Texts of which some tokens are hidden; each of these is predicted."""

    language: ClassVar = "masked_lm"
