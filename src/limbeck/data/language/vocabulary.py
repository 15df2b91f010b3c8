"""Tokenizers: of a folder or the hub, the characters of a text, the file of llama2.c. All are transformers tokenizers."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...errors import DataError, MissingDependency

CHARACTERS = "characters"
"""The reference of a vocabulary that is made of the characters of the training text."""
UNKNOWN, BEGIN, END, MASK = "<unk>", "<s>", "<eos>", "<mask>"


def size_of(tokenizer: Any) -> int:
    """Number of tokens: one more than the largest, which counts tokens that were added beyond a gap."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))


def of_characters(texts: Iterable[str], *, end: bool, mask: bool = False) -> Any:
    """A tokenizer with a token for every character of `texts`, in the order of their code points, then `<unk>`.

    Args:
        texts: the training texts.
        end: whether there is an end token, `<eos>`, which then comes next.
        mask: whether there is a mask token, `<mask>`, which then comes last.

    Raises:
        DataError: no characters.
    """
    found: set[str] = set()
    for text in texts:
        found.update(text)
    if not found:
        raise DataError("data.tokenizer 'characters': the training texts are empty.")
    library, fast = _libraries()
    vocabulary = {character: number for number, character in enumerate(sorted(found))}
    special = [UNKNOWN, *([END] if end else []), *([MASK] if mask else [])]
    vocabulary |= {token: len(vocabulary) + number for number, token in enumerate(special)}
    built = library.Tokenizer(library.models.WordLevel(vocabulary, unk_token=UNKNOWN))
    built.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(r"[\s\S]"), "isolated")
    built.decoder = library.decoders.Fuse()
    final, hidden = END if end else None, MASK if mask else None
    return fast(tokenizer_object=built, unk_token=UNKNOWN, eos_token=final, mask_token=hidden, clean_up_tokenization_spaces=False)


def of_llama2c(path: Path) -> Any:
    """The tokenizer in a `.bin` file of llama2.c: byte-pair encoding by the best score, bytes for what it does not know.

    `<s>` (1) begins every text and, as in llama2.c, also ends it; `</s>` (2) is in the vocabulary and never used there.

    Raises:
        DataError: the file is something else.
    """
    tokens = _read_llama2c(path)
    library, fast = _libraries()
    names = [UNKNOWN, BEGIN, "</s>", *[text.decode("utf-8").replace(" ", "▁") for _, text in tokens[3:]]]
    numbers = {name: number for number, name in enumerate(names)}
    # What two neighbours make is looked up by its score alone, so every way to divide a token is a merge of the token's rank.
    scored = sorted(range(259, len(names)), key=lambda number: (-tokens[number][0], number))
    merges = [
        (names[number][:cut], names[number][cut:])
        for number in scored
        for cut in range(1, len(names[number]))
        if names[number][:cut] in numbers and names[number][cut:] in numbers
    ]
    built = library.Tokenizer(library.models.BPE(numbers, merges, unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    built.normalizer = library.normalizers.Sequence([library.normalizers.Prepend("▁"), library.normalizers.Replace(" ", "▁")])
    decoders = library.decoders
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    built.post_processor = library.processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return fast(tokenizer_object=built, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=BEGIN, clean_up_tokenization_spaces=False)


def llama2c_file(reference: str) -> Path | None:
    """The file of llama2.c that a reference means: a `.bin` file, or the only `tok*.bin` of a folder."""
    path = Path(reference).expanduser()
    if path.suffix == ".bin" and path.is_file():
        return path
    if not path.is_dir() or (path / "tokenizer.json").is_file():
        return None
    found = sorted(path.glob("tok*.bin"))
    return found[0] if len(found) == 1 else None


def _read_llama2c(path: Path) -> list[tuple[float, bytes]]:
    """Score and bytes of every token."""
    raw = path.read_bytes()
    tokens: list[tuple[float, bytes]] = []
    place = 4
    try:
        while place < len(raw):
            score, length = struct.unpack_from("<fi", raw, place)
            place += 8 + length
            if length < 0 or place > len(raw):
                raise struct.error("a token ends behind the file")
            tokens.append((score, raw[place - length : place]))
    except struct.error as error:
        raise DataError(f"{path}: expected a tokenizer of llama2.c, found another file ({error}).") from error
    if len(tokens) < 260 or tokens[3][1] != b"<0x00>" or tokens[258][1] != b"<0xFF>":
        raise DataError(f"{path}: expected a tokenizer of llama2.c (256 tokens for bytes after the first three), found another file.")
    return tokens


def _libraries() -> tuple[Any, Any]:
    try:
        import tokenizers
        from transformers import PreTrainedTokenizerFast
    except ImportError as error:
        raise MissingDependency("transformers", "text", "language models") from error
    return tokenizers, PreTrainedTokenizerFast


def padding_token(tokenizer: Any) -> int:
    """The token that fills short rows; of tokenizers without one the end token, else 0: the attention mask hides it."""
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)
