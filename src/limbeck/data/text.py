"""Texts as token sequences, tokenised once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import DataError, MissingDependency
from .language.vocabulary import llama2c_file, of_llama2c
from .stores import TokenStore


def load_tokenizer(reference: str | None) -> Any:
    """A transformers tokenizer from a local folder, by hub id, or from a file of llama2.c; no code of the hub's is run.

    Raises:
        DataError: none was named, or it cannot be loaded.
        MissingDependency: transformers is not installed.
    """
    if reference is None:
        raise DataError("text needs a tokenizer: set data.tokenizer to a hub id or a local folder, such as that of the teacher.")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingDependency("transformers", "text", "texts") from error
    file = llama2c_file(reference)
    if file is not None:
        return of_llama2c(file)
    try:
        return AutoTokenizer.from_pretrained(reference)
    except Exception as error:  # the library raises many kinds, all of which mean the same here
        local = "" if Path(reference).exists() else " There is no such local folder either."
        first = str(error).strip().partition("\n")[0].rstrip()
        if Path(reference).is_dir() and first.endswith(":"):
            held = ", ".join(sorted(path.name for path in Path(reference).iterdir())[:10]) or "nothing"
            first = f"the folder has no tokenizer that transformers reads, such as a tokenizer.json. It holds {held}."
        raise DataError(f"data.tokenizer {reference!r} cannot be loaded: {first}{local}") from error


def tokenise(texts: Sequence[str] | Sequence[tuple[str, str]], reference: str | None, max_length: int) -> TokenStore:
    """Token sequences of texts or of pairs of texts, cut to `max_length` tokens.

    Raises:
        DataError: as `load_tokenizer`.
    """
    tokenizer = load_tokenizer(reference)
    first = [text if isinstance(text, str) else text[0] for text in texts]
    second = [text[1] for text in texts if not isinstance(text, str)] or None
    encoded = tokenizer(first, second, truncation=True, max_length=max_length)
    ids: list[list[int]] = encoded["input_ids"]
    lengths = torch.tensor([len(row) for row in ids])
    if empty := int((lengths == 0).sum()):
        row = int((lengths == 0).nonzero()[0])
        raise DataError(f"{empty} texts have no tokens, such as that of row {row} ({texts[row]!r}). Remove them.")
    columns = {name: torch.tensor([value for row in rows for value in row]) for name, rows in encoded.items()}
    padding = dict.fromkeys(columns, 0)
    padding["input_ids"] = _padding_token(tokenizer)
    if "token_type_ids" in padding:
        padding["token_type_ids"] = tokenizer.pad_token_type_id
    return TokenStore(columns, lengths, padding, max_length=max_length, left=tokenizer.padding_side == "left")


def _padding_token(tokenizer: Any) -> int:
    """The padding token; of decoders without one the end token, which their attention mask hides."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0
