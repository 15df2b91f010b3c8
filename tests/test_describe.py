"""Documentation read from source, without importing it."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from limbeck.describe import FAMILIES, describe, describe_file
from limbeck.errors import LimbeckError, UnknownName
from limbeck.registry import ACTIONS, ADAPTERS, LOSSES, STEPS, TASKS, TEACHERS

SOURCE = '''r"""Wavelets: compares bands.

.. math::

    \\sum_b \\| W_b s
        - W_b t \\|

where :math:`W` is a wavelet.

- one list item
- another

When to use: bands carry what
:math:`t` says.

Costs: little.

Reference: Somebody, Other, "On Waves", ICCV 2021,
arXiv:2101.00001, equation 3.
"""
from typing import Annotated, ClassVar, Literal
from limbeck import losses
from .bands import Band, unrelated
import dataclasses

Grade = Literal["fine", "coarse"]

class _Hidden(Base):
    pass

class Helper:
    pass

class Wavelet(losses.base.Loss):
    """Summary over
    two lines.

    More words.
    """

    exempt: ClassVar[dict] = {}
    bands: PositiveInt = 3
    """How many
    bands."""
    share: Fraction = 0.5
    size: Annotated[int, Ge(2), Lt(9)]
    kind: Literal["haar", "db", None, 2] = "haar"
    "Which."
    on: bool = True
    name: str | None = None
    empty: str = ""
    tiny: float = 1e-06
    small: tuple[float, ...] = (2.5e-7, 1e-10)
    many: list[str] = dataclasses.field(default_factory=list)
    pair: tuple[float, ...] = (1, 2)
    table: dict[str, int] = dataclasses.field(default_factory=lambda: {"a": 1})
    made: int = dataclasses.field(init=False, default=0)
    given: "NonNegative" = dataclasses.field(default=0.5)
    grade: Grade = "fine"
    label: LabelKind = "class"
    band: Band = "low"
    odd: Some[thing] = other()
    _private: int = 0

    @property
    def needs(self):
        if self.on:
            return Needs(logits=True)
        return Needs(features="many", match=self.kind, label_kinds=("class", "real"))
'''


@pytest.fixture
def doc(tmp_path):
    file = tmp_path / "wavelet.py"
    file.write_text(SOURCE)
    (tmp_path / "bands.py").write_text('Band = Literal["low", "high"]\n')
    return describe_file(file, name="wavelet", kind="loss", base="Loss")


def test_texts(doc):
    assert (doc.name, doc.kind, doc.class_name, doc.title) == ("wavelet", "loss", "Wavelet", "Wavelets: compares bands")
    assert doc.formula == r"\sum_b \| W_b s - W_b t \|"
    assert doc.reference == 'Somebody, Other, "On Waves", ICCV 2021, arXiv:2101.00001, equation 3.'
    assert doc.short_reference == "Somebody, Other 2021, arXiv:2101.00001"
    assert (doc.when_to_use, doc.cost) == ("bands carry what :math:`t` says.", "little.")
    assert doc.summary == "Summary over two lines."
    assert doc.description == "where :math:`W` is a wavelet.\n\n- one list item\n- another\n\nMore words."


def test_fields(doc):
    assert {f.name: (f.type, f.default, f.help) for f in doc.fields} == {
        "bands": ("whole number > 0", "3", "How many bands."),
        "share": ("number from 0 to 1", "0.5", ""),
        "size": ("whole number >= 2 and < 9", None, ""),
        "kind": ("haar | db | null | 2", "haar", "Which."),
        "on": ("true | false", "true", ""),
        "name": ("text | null", "null", ""),
        "empty": ("text", '""', ""),
        "tiny": ("number", "1.0e-06", ""),
        "small": ("list of number", "[2.5e-07, 1.0e-10]", ""),
        "many": ("list of text", "[]", ""),
        "pair": ("list of number", "[1, 2]", ""),
        "table": ("mapping", "{'a': 1}", ""),
        "given": ("number >= 0", "0.5", ""),
        "grade": ("fine | coarse", "fine", ""),
        "band": ("low | high", "low", ""),
        "label": ("class | multilabel | real | joint | token | span", "class", ""),
        "odd": ("Some[thing]", "other()", ""),
    }


def test_needs_are_those_of_the_defaults_and_literal(doc):
    assert doc.needs == {"features": "many", "label_kinds": ("class", "real")}


def test_no_docstring_is_no_error(tmp_path):
    (tmp_path / "bare.py").write_text("class Bare(Loss):\n    pass\n")
    doc = describe_file(tmp_path / "bare.py", name="bare", kind="loss", base="Loss")
    assert (doc.title, doc.formula, doc.reference, doc.short_reference, doc.summary, doc.description, doc.fields) == ("",) * 6 + ((),)
    assert (doc.when_to_use, doc.cost) == ("", "")


def test_formula_on_the_line_itself(tmp_path):
    (tmp_path / "one.py").write_text('"""T.\n\n.. math:: a\n   + b\n\n.. math:: c\n"""\nclass One(Loss):\n    pass\n')
    assert describe_file(tmp_path / "one.py", name="one", kind="loss", base="Loss").formula == "a + b\nc"


@pytest.mark.parametrize(
    ("needs", "family"),
    [
        ("logits=True", "logits"),
        ('logits=True, features="optional"', "logits"),
        ('logits=True, features="one"', "features"),
        ('features="many", global_batch=True', "relations"),
        ("logits=True, global_batch=True", "logits"),
        ('features="one", extra=("mask",)', "dense"),
        ("logits=True, labels=True, teacher=False", "alone"),
    ],
)
def test_family(tmp_path, needs, family):
    (tmp_path / "one.py").write_text(f"class One(Loss):\n    def needs(self):\n        return Needs({needs})\n")
    assert describe_file(tmp_path / "one.py", name="one", kind="loss", base="Loss").family == family
    assert describe_file(tmp_path / "one.py", name="one", kind="task", base="Loss").family == ""
    assert family in FAMILIES


def test_a_loss_for_dense_prediction_says_so(tmp_path):
    for text, family in (("detectors", "dense"), ("dense regression", "dense"), ("condensed", "features")):
        (tmp_path / "one.py").write_text(f'"""T.\n\nWhen to use: {text}.\n"""\nclass One(Loss):\n    x = Needs(features="one")\n')
        assert describe_file(tmp_path / "one.py", name="one", kind="loss", base="Loss").family == family


def test_every_loss_says_when_to_use_it_and_what_it_costs():
    silent = [name for name in LOSSES.files() if not (describe(LOSSES, name).when_to_use and describe(LOSSES, name).cost)]
    assert silent == []


def test_no_class_is_an_error(tmp_path):
    (tmp_path / "none.py").write_text("x = 1\n")
    with pytest.raises(LimbeckError, match=r"none\.py defines no class that extends Loss\."):
        describe_file(tmp_path / "none.py", name="none", kind="loss", base="Loss")


def test_registered_parts_are_all_described():
    for registry in (LOSSES, ADAPTERS, TEACHERS, TASKS, STEPS, ACTIONS):
        for name in registry.names():
            doc = describe(registry, name)
            assert doc.title, name
            assert len(doc.title) <= 140, name
            assert doc.class_name == registry.get(name).__name__


def test_descriptions_agree_with_the_classes():
    import dataclasses

    for name in LOSSES.names():
        loss_class, doc = LOSSES.get(name), describe(LOSSES, name)
        fields = dataclasses.fields(loss_class)
        assert [f.name for f in doc.fields] == [f.name for f in fields]
        expected = [list(f.default) if isinstance(f.default, tuple) else f.default for f in fields]
        assert [yaml.safe_load(f.default) for f in doc.fields] == expected
        needs = loss_class().needs
        assert all(getattr(needs, key) == value for key, value in doc.needs.items())


def test_local_code(tmp_path, monkeypatch):
    (tmp_path / "wavelet.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    assert describe(LOSSES, "wavelet:Wavelet").title == "Wavelets: compares bands"
    with pytest.raises(LimbeckError, match="defines no class Wave"):
        describe(LOSSES, "wavelet:Wave")
    with pytest.raises(LimbeckError, match="the source of the module 'nowhere' was not found"):
        describe(LOSSES, "nowhere:Wave")
    with pytest.raises(UnknownName, match=r"no loss is called 'dkdd'\. Did you mean 'dkd'"):
        describe(LOSSES, "dkdd")


def test_installed_package(tmp_path, monkeypatch):
    from importlib.metadata import EntryPoint

    (tmp_path / "wavelet_package.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("waves", "wavelet_package:Wavelet", LOSSES.package)
    monkeypatch.setattr("limbeck.registry.entry_points", lambda group: [point] if group == LOSSES.package else [])
    doc = describe(LOSSES, "waves")
    assert (doc.name, doc.class_name) == ("waves", "Wavelet")


def test_torch_is_not_imported():
    code = (
        "import sys\nfrom limbeck.describe import describe\nfrom limbeck.registry import LOSSES\n"
        "for name in LOSSES.names(): describe(LOSSES, name)\nassert not {'torch', 'pydantic', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
