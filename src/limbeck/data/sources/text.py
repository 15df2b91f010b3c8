"""Plain text files for language models."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from ...errors import DataError
from .base import Pool, Source, Wanted, all_train, as_part, existing, joined

_SUFFIXES = (".txt", ".md", ".rst", ".text", ".txt.gz")


@final
@dataclass(frozen=True, kw_only=True)
class Text(Source):
    """A text file (or `.gz`), or a folder of `.txt` and `.md` files; `train.txt`, `valid.txt`, `test.txt` in it are parts of their own."""

    documents: Literal["file", "paragraph", "line"] = "file"
    """What one document is: a whole file, what stands between blank lines, or a line."""
    separator: str | None = None
    """Text that stands between two documents of a file, such as `<|endoftext|>`; it is in neither."""
    charset: str = "utf-8"
    """Encoding of the characters."""

    def read(self, location: str, wanted: Wanted) -> Pool:
        """Documents as the only column, `text`."""
        check_language(wanted, f"text:{location}")
        path = existing(location, "text")
        texts: list[str] = []
        counts: dict[str, int] = {}
        for part, files in self._files(path).items():
            before = len(texts)
            for file in files:
                texts += self._documents(file)
            counts[part] = len(texts) - before
            if counts[part] == 0:
                raise DataError(f"{files[0]} has no text.")
        parts = joined(counts) if len(counts) > 1 else all_train(len(texts))
        return Pool("text", [], [], parts, cells={"text": texts})

    def _files(self, path: Path) -> dict[str, list[Path]]:
        if path.is_file():
            return {"train": [path]}
        found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(_SUFFIXES))
        if not found:
            held = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
            raise DataError(f"text: {path} has no file that ends in {', '.join(_SUFFIXES)}. It holds {held}.")
        named = {file: as_part(file.name.split(".")[0]) for file in found if file.parent == path}
        if "train" not in named.values():
            return {"train": found}
        return {part: [file for file, own in named.items() if own == part] for part in ("train", "valid", "test") if part in named.values()}

    def _documents(self, path: Path) -> list[str]:
        charset = "utf-8-sig" if self.charset.lower().replace("_", "-") in ("utf-8", "utf8") else self.charset
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            text = raw.decode(charset).replace("\r\n", "\n")
        except (UnicodeError, LookupError, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is not {self.charset} text ({error}). Set args.charset, such as latin-1.") from error
        if self.separator is not None and not self.separator:
            raise DataError(f"{path}: args.separator is empty; leave it out, or name the text between two documents.")
        documents = [text] if self.separator is None else text.split(self.separator)
        if self.documents == "line":
            documents = [line for document in documents for line in document.split("\n")]
        elif self.documents == "paragraph":
            documents = [part for document in documents for part in _paragraphs(document)]
        return [document for document in documents if document.strip()]


def check_language(wanted: Wanted, where: str) -> None:
    """Refuses tasks that need labels.

    Raises:
        DataError: where the task is none of language.
    """
    if wanted.language is None:
        raise DataError(f"{where} holds texts without labels; it is for language models, such as task: causal_lm.")


def _paragraphs(text: str) -> list[str]:
    """What stands between lines that are blank, without the line break at its end."""
    parts: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            parts[-1].append(line)
        elif parts[-1]:
            parts.append([])
    return ["\n".join(lines) for lines in parts if lines]
