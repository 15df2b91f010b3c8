"""Scalars, keys and marks of the YAML reader."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.config.marks import Mark, Source, locate, parse_path, show_path
from limbeck.config.reader import read_file, read_text
from limbeck.config.render import flow
from limbeck.errors import RecipeError


def read(text: str):
    return read_text(text, Source("x", lines=tuple(text.split("\n")))).plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2E5", 2e5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("010", 10),
        ("+3", 3),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ('"no"', "no"),
        ("!!str 3", "3"),
        ("! 3", "3"),
        ("!!float 3", 3),
        ("!!int 3", 3),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        ("0b11", "0b11"),
        ("=", "="),
        ("|\n  a\n  b", "a\nb"),
    ],
)
def test_scalars(text, value):
    found = read(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number():
    assert math.isnan(read("a: .nan")["a"])


def test_keys_are_texts():
    assert read("1: a\nno: b\nnull: c\n'<<': d\n1.0: e") == {"1": "a", "no": "b", "null": "c", "<<": "d", "1.0": "e"}


def test_marks():
    tree = read_text("a: 1\nb:\n  - x\n  - {c: 2}\n", Source("f"))
    assert [(tree.keys[k].line, tree.keys[k].column) for k in "ab"] == [(1, 1), (2, 1)]
    assert tree.get("b", 1, "c").mark.where == "f:4:9"
    assert locate(tree, ("b", 1, "c"), at_key=True).where == "f:4:6"
    assert locate(tree, ("b", 1, "missing", "deeper")).where == "f:4:5"
    assert locate(tree, ("b", 7)).where == "f:2:1"


def test_aliases_share_the_value_and_keep_its_place():
    tree = read_text("a: &x {k: 1}\nb: *x\n", Source("f"))
    assert tree.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert tree.get("b", "k").mark.where == "f:1:11"


def test_byte_order_mark_and_line_endings(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    tree = read_file(path)
    assert tree.plain() == {"a": 1, "b": 2}
    assert tree.keys["b"].column == 1
    assert Mark(tree.mark.source, 2, 4).excerpt() == "    b: 2\n       ^"


def test_paths():
    assert show_path(("data", "transforms", 0, "crop")) == "data.transforms[0].crop"
    assert parse_path("data.transforms[0].crop") == ("data", "transforms", 0, "crop")
    assert parse_path("") == ()


def test_null_character_in_a_name():
    with pytest.raises(RecipeError, match="cannot be read"):
        read_file(Path("a\0b.yaml"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_reads_back(value):
    """The writer of resolved recipes and the reader agree on every value."""
    text = f"a: {flow(value)}\n"
    assert repr(read_text(text, Source("f")).plain()["a"]) == repr(value)
