"""Writes a loaded recipe as YAML with the origin of every value.

Stages are written as what differs from the top of the recipe, because that is how they are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .marks import Node, Parts
from .reader import resolve_plain
from .references import NAMED_SCHEMES

if TYPE_CHECKING:
    from .load import LoadedRecipe

_COLUMN = 44
_INHERITED = ("data", "teacher", "objective", "train")
_PATHS = ("weights", "source", "model", "tokenizer", "chat_template")
_PATHS_OF_ARMS = ("recipe", "extends", "stored", "manifest")
_OF_FILES = ("hf", "llama2c")
"""Schemes of models that may lie in files."""
_UNSAFE = set("#:,?[]{}&*!|>'\"%@`\\\n\t")


def render(loaded: LoadedRecipe, folder: Path | None = None, *, defaults: bool = True) -> str:
    """The recipe as YAML text; see `LoadedRecipe.resolved`."""
    values = _without_the_other_cut(_with_terms(loaded.recipe.model_dump(by_alias=True)))
    values |= _study(loaded)
    writer = _Writer(loaded, folder, defaults)
    stages = values.pop("stages")
    lines = list(writer.mapping(values, (), 0))
    if stages:
        lines.append("stages:")
    for name, stage in stages.items():
        student = stage["learner"] == "student"
        shared = {key: values[key] for key in _INHERITED if key != "objective" or student}
        body = list(writer.difference(stage, shared, ("stages", name), 4))
        lines += [f"  {_key(name)}:{'' if body else ' {}'}", *body]
    return "\n".join(lines) + "\n"


def _study(loaded: LoadedRecipe) -> dict[str, Any]:
    """The study with its arms as they are written, where null removes something and is no default."""
    if loaded.recipe.study is None:
        return {}
    written = loaded.tree.get("study", "arms")
    return {"study": {**loaded.recipe.study.model_dump(), "arms": written.plain() if written is not None else {}}}


def _with_terms(values: dict[str, Any]) -> dict[str, Any]:
    """Puts hyper-parameters back beside the other keys of a term."""
    holders = [values, *values["stages"].values()]
    holders += [peer for holder in holders for peer in (holder["peers"] or {}).values()]
    for holder in holders:
        for term in (holder["objective"] or {}).values():
            options, schedules = term.pop("options"), term.pop("schedules")
            term.update({**options, **schedules})
            if term["adapter"] == {"kind": "auto"}:
                del term["adapter"]
            if term["from"] == "teacher":
                del term["from"]
            if not term["targets"]:
                del term["targets"]
    return values


def _without_the_other_cut(values: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what means nothing beside how the data are cut: a fold where there are no folds, a share for the test where there are."""
    for holder in (values, *values["stages"].values()):
        if holder["data"] is not None:
            split = holder["data"]["split"]
            del split["fold" if split["folds"] is None else "test"]
    return values


class _Writer:
    def __init__(self, loaded: LoadedRecipe, folder: Path | None, defaults: bool) -> None:
        self.loaded, self.folder, self.defaults = loaded, folder, defaults
        self.home = (loaded.path or Path("recipe")).absolute().parent

    def mapping(self, values: Mapping[str, Any], path: Parts, indent: int, *, all_: bool = False) -> Iterator[str]:
        """The lines of a mapping without what is empty by default."""
        for key, value in values.items():
            own = (*path, key)
            written = self.node(own) is not None
            if not all_ and value in (None, "", [], {}) and not written:
                continue
            if not self.defaults and not written and not isinstance(value, dict):
                continue
            yield from self.entry(key, value, own, indent)

    def entry(self, key: str, value: Any, path: Parts, indent: int) -> Iterator[str]:
        """The lines of one key."""
        head = f"{' ' * indent}{_key(key)}:"
        if isinstance(value, dict) and value:
            below = list(self.mapping(value, path, indent + 2))
            if below:
                yield head
                yield from below
            elif self.defaults or self.node(path) is not None:
                yield self.comment(f"{head} {{}}", path)
        else:
            yield self.comment(f"{head} {flow(self.rewritten(value, path))}", path)

    def difference(self, values: Mapping[str, Any], shared: Mapping[str, Any], path: Parts, indent: int) -> Iterator[str]:
        """The lines of a mapping that is laid over another: what is new, changed, or removed."""
        for key in [*values, *(key for key in shared if key not in values)]:
            own, new, old = (*path, key), values.get(key), shared.get(key)
            if key not in shared:
                yield from self.mapping({key: new}, path, indent)
            elif isinstance(new, dict) and isinstance(old, dict):
                below = list(self.difference(new, old, own, indent + 2))
                yield from [f"{' ' * indent}{_key(key)}:", *below] if below else []
            elif new != old:
                yield from self.entry(key, new, own, indent)

    def comment(self, line: str, path: Parts) -> str:
        """A line with the origin of its value."""
        return f"{line:<{_COLUMN}}  # {self.origin(path)}"

    def node(self, path: Parts) -> Node | None:
        """What was written for a value; a null that removed something only stands in the tree before stages were completed."""
        node = self.loaded.tree.get(*path)
        return node if node is not None or self.loaded.base is None else self.loaded.base.get(*path)

    def origin(self, path: Parts) -> str:
        """`quickstart.yaml:7`, `--set`, `default` or `inferred`."""
        node = self.node(path)
        if node is None:
            return "default"
        source = node.mark.source
        if source.kind != "file" or source.path is None:
            return {"set": "--set", "mapping": "given", "inferred": "inferred"}.get(source.kind, source.name)
        try:
            name = Path(os.path.relpath(source.path, self.home)).as_posix()
        except ValueError:
            name = source.name
        return f"{name}:{node.mark.line}"

    def rewritten(self, value: Any, path: Parts) -> Any:
        """A path in the recipe as it is written from another folder."""
        arm = path[0] == "study"  # its changes are written by dotted key
        key = str(path[-1]).rpartition(".")[2] if arm else path[-1]
        if arm and isinstance(value, list) and key == "extends":
            return [self.rewritten(item, path) for item in value]
        if self.folder is None or not isinstance(value, str) or key not in (*_PATHS, *(_PATHS_OF_ARMS if arm else ())):
            return value
        scheme, colon, rest = value.partition(":")
        text, prefix = value, ""
        if key in ("source", "model"):
            if not colon or (scheme not in _OF_FILES and (key == "model" or scheme in NAMED_SCHEMES)):
                return value
            text, prefix = rest, f"{scheme}:"
        place = self.loaded.find(text, path)
        if place is None or Path(text).is_absolute():
            return value
        from .load import relative_to

        return f"{prefix}{relative_to(place, self.folder)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", key) else quote(key)


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else quote(value)
    text = repr(value)
    return {"None": "null", "True": "true", "False": "false", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, text)


def _is_plain(text: str) -> bool:
    """Whether a text reads back as itself without quotes."""
    if not text or text.strip() != text or not text.isprintable() or not isinstance(resolve_plain(text), str):
        return False
    loose = text.replace(":", "") if ": " not in text and not text.endswith(":") else text
    return not (_UNSAFE & set(loose)) and text[0] not in "-?:<=~"


def quote(text: str) -> str:
    """A text between double quotes, with YAML's escapes."""
    out = ""
    for c in text:
        if c in '"\\':
            out += "\\" + c
        elif c.isprintable() and c != "\ufeff":
            out += c
        else:
            out += f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
    return f'"{out}"'
