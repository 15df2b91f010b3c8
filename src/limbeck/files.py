"""Atomic writes: a reader, or a process killed half-way, never sees half a file."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import RunError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block succeeds.

    Raises:
        RunError: where the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some libraries write files that their owner alone may read
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what killed processes have left in a folder and below: of `writing`, `writing_folder` and safetensors' own writing."""
    for left in [path for path in folder.rglob(".*.tmp") if re.search(r"\.\d+\.tmp$", path.name)]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    for left in [path for path in folder.rglob(".tmp??????") if path.is_file()]:
        left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` at once."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        RunError: where it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file. Is {path.parent} the folder of a run?") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON: {error}") from None


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block succeeds; `path` must not exist yet."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for file in (own for own in temporary.rglob("*") if own.is_file()):
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unwritable(path: Path, error: OSError | SafetensorError) -> RunError:
    """The error for a file or folder that cannot be written, with what to do."""
    number = error.errno if isinstance(error, OSError) else _number(error)
    reason = os.strerror(number) if number is not None else str(error)
    hint = "Free some space" if number == errno.ENOSPC else "Choose another folder with --out"
    return RunError(f"{path}: cannot be written: {reason}. {hint}, then go on with --resume where a run was under way.")


def _number(error: SafetensorError) -> int | None:
    """What the system said, which this library keeps in its text alone."""
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def check_writable(folder: Path, needed: int) -> None:
    """Refuses, before any work, a folder that cannot be written or holds too little space.

    Args:
        folder: the run directory; made if it does not exist.
        needed: bytes that the run will write at least.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test.{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"{folder}: the run needs about {needed / 2**20:,.0f} MiB, only {free / 2**20:,.0f} MiB are free. "
            "Free some space or choose --out."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
