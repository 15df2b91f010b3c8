"""Tiny tokenizers and requests for tests of language data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from limbeck.data.base import DataRequest, Splits
from limbeck.data.language.request import TokenRequest
from limbeck.data.load import load_data
from limbeck.types import LanguageKind

WORDS = [f"w{i}" for i in range(40)]


def save_tokenizer(
    folder: Path, *, bos: bool = True, side: str = "right", chat: str | None = None, bert: bool = False, mask: bool = True
) -> str:
    """A tokenizer of whole words `w0` to `w39` (5 to 44) after `<pad> <s> </s> <unk> <mask>`; the folder that it is saved in."""
    names = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", *WORDS]
    built = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bert:
        built.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B:1 </s>:1", [("<s>", 1), ("</s>", 2)])
    elif bos:
        built.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    special: dict[str, Any] = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    special |= {"mask_token": "<mask>"} if mask else {}
    if bert:
        special["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built, padding_side=side, chat_template=chat, **special)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    """A file of one object a line; its source."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{path}"


def load(
    source: str, tokenizer: str | None, language: LanguageKind = "causal_lm", *, max_length: int = 16, test: float = 0.2, **tokens: Any
) -> Splits:
    """The splits of a language model's data."""
    return load_data(request(source, tokenizer, max_length=max_length, test=test, **tokens), kind="text", labels="token", language=language)


def request(source: str, tokenizer: str | None, *, max_length: int = 16, test: float = 0.2, **tokens: Any) -> DataRequest:
    """A request for texts, with its keys for language models."""
    return DataRequest(source, tokenizer=tokenizer, max_length=max_length, valid=0.2, test=test, tokens=TokenRequest(**tokens))
