"""Reads YAML 1.2 (core schema) and keeps the line and column of every key and value.

Only events of PyYAML's parser are used: no tag is ever executed. Differences from YAML 1.1 are deliberate: `no` and `on`
are text, `1e-3` is a number, `010` is ten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import AliasEvent, MappingEndEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent, StreamEndEvent

from ..errors import RecipeError, did_you_mean
from .marks import MAX_DEPTH, Mark, Node, Report, Source, file_name, found, split_lines

MAX_BYTES = 1_000_000
"""Largest recipe file."""
MAX_NODES = 20_000
"""Most values of a recipe, with every alias counted as what it stands for."""

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + dot: float(sign + "inf") for sign in ("", "+", "-") for dot in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "null": type(None)}


def read_file(path: Path, name: str | None = None) -> Node:
    """The marked tree of a recipe file; its root is a mapping.

    Args:
        path: the file.
        name: how messages call it; the path where absent.

    Raises:
        RecipeError: the file cannot be read, or is no valid YAML mapping.
    """
    bare = Source(name or file_name(path), path=path.absolute())
    start = Mark(bare, 1, 1)
    try:
        data = b"" if path.is_dir() else path.read_bytes()
    except FileNotFoundError:
        _fail(start, f"expected a recipe file, found none.{_neighbours(path)}")
    except OSError as error:
        _fail(start, f"the recipe cannot be read: {error.strerror or error}.")
    except ValueError as error:
        _fail(start, f"the recipe cannot be read: {error}.")
    if path.is_dir():
        _fail(start, "expected a recipe file, found a folder.")
    if len(data) > MAX_BYTES:
        _fail(start, f"expected a recipe of at most {MAX_BYTES} bytes, found {len(data)}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = split_lines(data[: error.start].decode("utf-8-sig", "replace"))
        mark = Mark(bare, len(before), len(before[-1]) + 1)
        _fail(mark, f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}. Save the file as UTF-8.")
    source = Source(bare.name, path=bare.path, lines=split_lines(text))
    root = read_text(text, source)
    if not isinstance(root.value, dict):
        what = "an empty file" if root.value is None else found(root.value)
        _fail(root.mark, f"expected a mapping of keys such as `task: classification`, found {what}.")
    return root


def read_text(text: str, source: Source) -> Node:
    """The marked tree of a text; without any content it is a null at the beginning.

    Raises:
        RecipeError: the text is no valid YAML.
    """
    start = Mark(source, 1, 1) if source.kind == "file" else Mark(source)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        lines = split_lines(text[: error.position])
        mark = Mark(source, len(lines), len(lines[-1]) + 1) if source.kind == "file" else start
        character = error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")
        _fail(mark, f"expected printable text, found the character U+{character:04X}.")
    builder = _Builder(loader, source)
    try:
        root = builder.document()
    except yaml.MarkedYAMLError as error:
        place, message = _syntax(error)
        _fail(builder.mark(place), message)
    except (ValueError, OverflowError):
        _fail(builder.mark(loader.get_mark()), "expected the code of a character after the backslash, found a number that is none.")
    except (yaml.YAMLError, RecursionError, IndexError) as error:
        _fail(builder.mark(loader.get_mark()), f"not valid YAML: {error}.")
    if builder.report.problems:
        raise RecipeError(builder.report.sorted())
    return root if root is not None else Node(None, start)


def _neighbours(path: Path) -> str:
    """A suggestion from the folder of a missing file."""
    try:
        return did_you_mean(path.name, [f.name for f in path.parent.iterdir() if f.suffix in (".yaml", ".yml")])
    except OSError:
        return f" There is no folder {str(path.parent)!r}."


def _fail(mark: Mark, message: str) -> NoReturn:
    report = Report()
    report.add(mark, (), message)
    raise RecipeError(report.problems)


def _syntax(error: yaml.MarkedYAMLError) -> tuple[Any, str]:  # noqa: PLR0911  one line a complaint
    """PyYAML's complaint in plain words, and the place to show."""
    problem, context = error.problem or "cannot be read", error.context or ""
    here, before = error.problem_mark or error.context_mark, error.context_mark
    line = before.line + 1 if before is not None else 1
    if r"'\t'" in problem:
        return here, "expected spaces, found a tab. YAML is indented and spaced with spaces only."
    if problem == "mapping values are not allowed here":
        return here, "expected no further ':' here, found one. Check the indentation, or put text that holds ': ' between quotes."
    if problem == "could not find expected ':'":
        return before or here, "expected `key: value`, found no ':'."
    if token := re.search(r"found character '(.)' that cannot start any token", problem):
        return here, f"expected a value, found {token.group(1)!r}. Text that begins with it must stand between quotes."
    if problem == "found unexpected end of stream":
        return before or here, "expected a closing quote, found the end of the file."
    if problem.startswith("expected <block end>"):
        if problem.endswith(("found ':'", "found '?'")):
            return here, "expected a name as key, found nothing before the ':'."
        return here, f"expected the indentation of the block that begins in line {line}, found another one."
    if "flow" in context and (token := re.search(r"but got '(.*)'", problem)):
        what = "the end of the file" if token.group(1) == "<stream end>" else repr(token.group(1))
        return here, f"expected ',' or the end of what the bracket in line {line} opens, found {what}."
    return here, f"not valid YAML: {context}{': ' if context else ''}{problem}. Check the indentation, brackets and quotes."


class _Builder:
    """Turns the events of one document into nodes."""

    def __init__(self, loader: yaml.SafeLoader, source: Source) -> None:
        self.loader, self.source, self.report = loader, source, Report()
        self.anchors: dict[str, Node | None] = {}
        self.sizes: dict[str, int] = {}
        self.count = 0

    def mark(self, mark: Any) -> Mark:
        """PyYAML's position, which counts from 0, as a mark."""
        if self.source.kind != "file" or mark is None:
            return Mark(self.source)
        return Mark(self.source, mark.line + 1, mark.column + 1)

    def document(self) -> Node | None:
        """The only document of the stream; None where there is none."""
        self.loader.get_event()
        if self.loader.check_event(StreamEndEvent):
            return None
        self.loader.get_event()
        root = self.node((), 0)
        self.loader.get_event()
        if not self.loader.check_event(StreamEndEvent):
            mark = self.mark(self.loader.peek_event().start_mark)
            self.report.add(mark, (), "expected one document, found a second one. Remove the `---` before it.")
        return root

    def node(self, path: tuple[str | int, ...], depth: int) -> Node:
        """The value that begins with the next event."""
        event: Any = self.loader.get_event()
        mark = self.mark(event.start_mark)
        if depth > MAX_DEPTH:
            _fail(mark, f"expected at most {MAX_DEPTH} levels of nesting, found more.")
        if isinstance(event, AliasEvent):
            return self.alias(str(event.anchor), mark, path)
        before = self.count
        self.grow(1, mark)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            node = self.scalar(event, mark, path)
        elif isinstance(event, SequenceStartEvent):
            self.check_tag(event, "seq", mark, path)
            node = self.sequence(mark, path, depth)
        else:
            self.check_tag(event, "map", mark, path)
            node = self.mapping(mark, path, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
            self.sizes[event.anchor] = self.count - before
        return node

    def grow(self, size: int, mark: Mark) -> None:
        """Bounds the size of the whole tree, so that nested aliases cannot fill the memory."""
        self.count += size
        if self.count > MAX_NODES:
            _fail(mark, f"expected at most {MAX_NODES} values (aliases counted in full), found more.")

    def alias(self, name: str, mark: Mark, path: tuple[str | int, ...]) -> Node:
        """The node that an alias stands for; it keeps the marks of its anchor."""
        if name not in self.anchors:
            self.report.add(mark, path, f"expected an alias of an anchor above, found '*{name}', which no '&{name}' defines.")
            return Node(None, mark)
        node = self.anchors[name]
        if node is None:
            self.report.add(mark, path, f"the alias '*{name}' stands inside of its own anchor '&{name}'.")
            return Node(None, mark)
        self.grow(self.sizes[name], mark)
        return node

    def sequence(self, mark: Mark, path: tuple[str | int, ...], depth: int) -> Node:
        """A list."""
        items: list[Node] = []
        while not self.loader.check_event(SequenceEndEvent):
            items.append(self.node((*path, len(items)), depth + 1))
        self.loader.get_event()
        return Node(items, mark)

    def mapping(self, mark: Mark, path: tuple[str | int, ...], depth: int) -> Node:
        """A mapping with unique text keys."""
        items: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        while not self.loader.check_event(MappingEndEvent):
            event: Any = self.loader.peek_event()
            key_mark = self.mark(event.start_mark)
            name = self.key(path, depth)
            child = self.node((*path, name or "?"), depth + 1)
            if name is None:
                continue
            if name in items:
                self.report.add(key_mark, (*path, name), f"duplicate key; it is first given in line {keys[name].line or 1}.")
                continue
            items[name], keys[name] = child, key_mark
        self.loader.get_event()
        return Node(items, mark, keys)

    def key(self, path: tuple[str | int, ...], depth: int) -> str | None:
        """A key as it is written; None after a complaint."""
        event: Any = self.loader.peek_event()
        mark = self.mark(event.start_mark)
        node = self.node(path, depth + 1)
        if not isinstance(event, ScalarEvent):
            self.report.add(
                mark, path, f"expected a name as key, found {'an alias' if isinstance(event, AliasEvent) else found(node.value)}."
            )
            return None
        if event.value == "<<" and event.style is None:
            self.report.add(mark, (*path, "<<"), "merge keys are not part of YAML 1.2. Use `extends: FILE` to build on another recipe.")
            return None
        if not event.value:
            self.report.add(mark, path, "expected a name as key, found nothing before the ':'.")
            return None
        return event.value

    def check_tag(self, event: Any, own: str, mark: Mark, path: tuple[str | int, ...]) -> None:
        """Reports a tag that is not the collection's own."""
        if event.tag not in (None, "!", _TAG + own):
            self.unknown_tag(event.tag, mark, path)

    def unknown_tag(self, tag: str, mark: Mark, path: tuple[str | int, ...]) -> None:
        """Reports a tag, as it is usually written."""
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self.report.add(mark, path, f"expected a plain value, found the tag {shown!r}. Recipes use no tags; remove it.")

    def scalar(self, event: Any, mark: Mark, path: tuple[str | int, ...]) -> Node:
        """A scalar, typed by the core schema if it is not quoted."""
        plain = event.style is None and event.tag is None
        kind = event.tag.removeprefix(_TAG) if event.tag and event.tag.startswith(_TAG) else None
        if event.tag not in (None, "!") and kind not in _TYPES:
            self.unknown_tag(event.tag, mark, path)
            return Node(None, mark)
        text: str = event.value
        value: Any = resolve_plain(text) if plain or kind not in (None, "str") else text
        if kind is not None and (not isinstance(value, _TYPES[kind]) or (kind != "bool" and isinstance(value, bool))):
            self.report.add(mark, path, f"expected what the tag '!!{kind}' says, found {found(text)}.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self.report.add(mark, path, "expected a whole number of at most 64 bits, found a larger one.")
            value = 0
        if any("\ud800" <= c <= "\udfff" for c in text):
            self.report.add(mark, path, "expected valid text, found half of a surrogate pair.")
            value = ""
        return Node(value, mark)


def resolve_plain(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 30 else 2**64
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    return float(text) if _FLOAT.fullmatch(text) else text
