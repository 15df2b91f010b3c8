"""Causal language models: every token is predicted from those before it."""

from __future__ import annotations

from typing import ClassVar, final

from ._language import Language


@final
class CausalLm(Language):
    """Texts, completions or chats; each trained position predicts the next token."""

    language: ClassVar = "causal_lm"
