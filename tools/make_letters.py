"""A tokenizer with a token for every printable character of ASCII, for recipes whose stages read several texts.

    python tools/make_letters.py

It writes recipes/base/letters; all other characters are `<unk>`, and documents end with `<eos>`.
"""

from __future__ import annotations

import string
from pathlib import Path

from limbeck.data.language.vocabulary import of_characters

if __name__ == "__main__":
    letters = [character for character in string.printable if character.isprintable() or character == "\n"]
    of_characters(letters, end=True, mask=True).save_pretrained(Path(__file__).resolve().parents[1] / "recipes" / "base" / "letters")
