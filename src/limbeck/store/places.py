"""Where a store lies: in a folder of this machine, or at any address that fsspec knows, such as `s3://bucket/store`.

A file appears under its name only when it is whole, wherever it lies. This is the only file that knows fsspec.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from ..errors import LimbeckError, MissingDependency
from ..files import check_writable, sweep, writing

LOCAL = ("file://", "local://")
READ_ONLY = ("http://", "https://")


class StoreError(LimbeckError):
    """A store is missing, damaged, or does not belong to the recipe."""


class Place(ABC):
    """A folder with files, whose names are relative to it."""

    @abstractmethod
    def __str__(self) -> str:
        """The address, for messages."""

    def at(self, name: str) -> str:
        """Address of a file, for messages."""
        return f"{self}/{name}"

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All of a small file.

        Raises:
            FileNotFoundError: where there is none.
            StoreError: where the place cannot be reached.
        """

    @abstractmethod
    def fetch(self, name: str) -> Path:
        """A file of this machine with the contents of `name`: itself, or a copy that is kept for as long as this object.

        Raises:
            FileNotFoundError, StoreError: as for `read`.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Names of the files in the place or a folder of it, sorted; without those in deeper folders and those under way."""

    @abstractmethod
    def writing(self, name: str) -> Any:
        """A context manager that gives the path of a local file, which becomes `name` as a whole when the block succeeds."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, or a folder with its files; nothing where there is none."""

    @abstractmethod
    def clear(self) -> None:
        """Removes what killed processes left half-written."""

    @abstractmethod
    def check_writable(self, needed: int) -> None:
        """Refuses a place where nothing can be written, before any work.

        Raises:
            LimbeckError: with the reason.
        """

    def write(self, name: str, text: str) -> None:
        """Writes a small file at once."""
        with self.writing(name) as path:
            path.write_text(text, encoding="utf-8")

    def occupied(self) -> bool:
        """Whether anything lies there."""
        return bool(self.names() or self.names("parts"))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.size(name) is not None


def place(address: str | Path | Place) -> Place:
    """The place at an address: a path, or `PROTOCOL://...`.

    Raises:
        MissingDependency: where the address needs fsspec, which is not installed.
        StoreError: where fsspec does not know the protocol, or lacks what it takes.
    """
    if isinstance(address, Place):
        return address
    text = str(address)
    for scheme in LOCAL:
        if text.startswith(scheme):
            return Local(Path(text.removeprefix(scheme)))
    return Remote(text) if is_remote(text) else Local(Path(address))


def is_remote(address: str | Path) -> bool:
    """Whether an address is no path of this machine."""
    return "://" in str(address) and not str(address).startswith(LOCAL)


class Local(Place):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(self.at(name)) from None
        except OSError as error:
            raise StoreError(f"{self.at(name)}: cannot be read: {error}") from None

    def fetch(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(str(path))
        return path

    def size(self, name: str) -> int | None:
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None

    def names(self, folder: str = "") -> list[str]:
        where = self.folder / folder
        if not where.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(where) if entry.is_file() and not entry.name.startswith("."))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with writing(self.folder / name) as path:
            yield path

    def occupied(self) -> bool:
        return self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))

    def remove(self, name: str) -> None:
        path = self.folder / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink(missing_ok=True)
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        sweep(self.folder)

    def check_writable(self, needed: int) -> None:
        check_writable(self.folder, needed)


class Remote(Place):
    """An address of fsspec. Files are written beside under another name and renamed; those that are read lie in a temporary folder."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise MissingDependency("fsspec", "remote", f"the address {address}") from None
        try:
            self._files, self._root = url_to_fs(self.address)
        except ImportError as error:  # a protocol whose own package is not there
            raise StoreError(f"{address}: its protocol needs a package that is not installed: {error}.{_advice(address)}") from None
        except ValueError as error:  # no protocol that fsspec knows
            raise StoreError(f"{address}: cannot be used as the address of a store: {error}") from None
        self._kept = Path(tempfile.mkdtemp(prefix="limbeck-store-"))
        weakref.finalize(self, shutil.rmtree, self._kept, ignore_errors=True)

    def __str__(self) -> str:
        return self.address

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    @contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Whatever a foreign file system says becomes one kind of error, except that a file is not there."""
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(self.at(name)) from None
        except LimbeckError:
            raise
        except Exception as error:  # every file system has exceptions of its own
            raise StoreError(f"{self.at(name)}: cannot be reached: {type(error).__name__}: {error}") from None

    def read(self, name: str) -> bytes:
        with self._asking(name):
            self._files.invalidate_cache()
            return bytes(self._files.cat_file(self._path(name)))

    def fetch(self, name: str) -> Path:
        path = self._kept / name
        if not path.exists():
            with self._asking(name), writing(path) as temporary:
                self._files.get_file(self._path(name), str(temporary))
        return path

    def size(self, name: str) -> int | None:
        try:
            with self._asking(name):
                return int(self._files.info(self._path(name))["size"])
        except FileNotFoundError:
            return None

    def names(self, folder: str = "") -> list[str]:
        try:
            with self._asking(folder):
                self._files.invalidate_cache()
                entries = self._files.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return []
        except StoreError:
            if self.address.startswith(READ_ONLY):  # most servers list no folder
                return []
            raise
        found = [str(entry["name"]).rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"]
        return sorted(name for name in found if not name.startswith("."))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="limbeck-store-") as folder:
            path = Path(folder) / "file"
            yield path
            head, slash, tail = name.rpartition("/")
            under_way = f"{head}{slash}.{tail}.{os.getpid()}.tmp"
            with self._asking(name):
                self._files.makedirs(self._path(head), exist_ok=True)
                self._files.put_file(str(path), self._path(under_way))
                self._files.mv(self._path(under_way), self._path(name))
                self._files.invalidate_cache()

    def remove(self, name: str) -> None:
        with self._asking(name):
            self._files.invalidate_cache()
            if self._files.exists(self._path(name)):
                self._files.rm(self._path(name), recursive=True)

    def clear(self) -> None:
        with self._asking(""):
            self._files.invalidate_cache()
            for file in self._files.glob(self._path(".*.tmp")):
                self._files.rm_file(file)

    def check_writable(self, needed: int) -> None:
        if self.address.startswith(READ_ONLY):
            raise StoreError(f"{self}: stores are read from http addresses, and written to none; write a folder and put it on the server.")
        probe = f".write-test.{os.getpid()}"
        self.write(probe, "x")
        self.remove(probe)


def _advice(address: str) -> str:
    """How to install what a protocol needs, where fsspec has an extra for it."""
    protocol = address.partition("://")[0]
    extra = "http" if protocol == "https" else protocol
    known = metadata("fsspec").get_all("Provides-Extra") or []
    return f" Install it: pip install 'fsspec[{extra}]'" if extra in known else ""
