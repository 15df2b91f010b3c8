"""Mutation testing: which mistakes are made, and that they are found."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.runs import PATIENCE


@pytest.fixture(scope="module")
def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", root / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def changes(tool: ModuleType, source: str) -> list[str]:
    return [f"{m.before} -> {m.after}" for m in tool.mutants(source)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a + b", ["a + b -> a - b"]),
        ("a @ b", ["a @ b -> a * b"]),
        ("-a", ["-a -> a"]),
        ("a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("a is None", ["a is None -> a is not None"]),
        ("a and b", ["a and b -> a or b"]),
        ("True", ["True -> False"]),
        ("3", ["3 -> 4", "3 -> 2"]),
        ("0.5", ["0.5 -> 1.5"]),
        ("a if b else c", ["a if b else c -> a if not b else c"]),
        ("[x for x in a if x]", ["for x in a if x -> for x in a if not x"]),
        ("widen(a)", ["widen(a) -> a"]),
        ("f(a, b)", ["f(a, b) -> f(b, a)", "f(a, b) -> a"]),
        ("a.sum(-1)", ["a.sum(-1) -> a.mean(-1)", "a.sum(-1) -> a", "-1 -> 1", "1 -> 2"]),
        ("a == 'paper'", ["a == 'paper' -> a != 'paper'", "a == 'paper' -> a == 'XX'"]),
        ("F.mse_loss(a, b, reduction='none')", ["F.mse_loss(a, b, reduction='none') -> F.mse_loss(a, b)"]),
        ("Needs(features='one', kinds=('class',))", ["'one' -> 'many'", "('class',) -> ()"]),
    ],
)
def test_expressions(tool: ModuleType, line: str, expected: list[str]):
    assert changes(tool, f"def f(x):\n    return {line}\n") == expected


def test_statements(tool: ModuleType):
    found = changes(tool, 'def f(x):\n    """Text."""\n    x = g(x)\n    x += y\n    h(x)\n    z = 1\n    raise Error("too long")\n')
    assert found == [
        "x = g(x) -> (nothing)",
        "g(x) -> x",
        "x += y -> x -= y",
        "x += y -> (nothing)",
        "h(x) -> (nothing)",
        "h(x) -> x",
        "1 -> 2",
        "raise Error('too long') -> (nothing)",
        "'too long' -> 'XX'",
    ]


def test_fields(tool: ModuleType):
    source = 'class Own(Loss):\n    """Text."""\n    exempt: ClassVar = {"a": "b"}\n    weight: Positive = 2.0\n    """Text."""\n'
    source += '    variant: Literal["a", "b"] = "a"\n'
    assert changes(tool, source) == [
        "weight: Positive = 2.0 -> weight: NonNegative = 2.0",
        "2.0 -> 3.0",
        "2.0 -> 1.0",
        "variant: Literal['a', 'b'] = 'a' -> variant: Literal['a', 'b'] = 'b'",
    ]


def test_what_says_nothing_of_values_is_left(tool: ModuleType):
    source = '"""Text."""\nfrom a import b\n\n__all__ = ["f"]\nKind = Literal["a", "b"]\n\nif TYPE_CHECKING:\n    import c\n\n\n'
    assert (
        changes(tool, source + "@final\n@dataclass(eq=False)\nclass A(B[1]):\n    def f(self, x: Annotated[int, Ge(1)]) -> A[2]: ...\n")
        == []
    )


def test_places(tool: ModuleType):
    source = "LIMIT = 3\n\n\nclass A:\n    size: int = 1\n\n"
    source += "    def f(self, x=5):\n        def g(y):\n            return y + 1\n        return g\n"
    found = [(m.line, m.function, m.before) for m in tool.mutants(source)]
    assert found == [
        (1, "", "3"),
        (1, "", "3"),
        (5, "", "1"),
        (7, "", "5"),
        (7, "", "5"),
        (9, "A.f", "y + 1"),
        (9, "A.f", "1"),
    ]


def test_marks(tool: ModuleType):
    source = "a\nb  # mutate: equivalent (a reason)\nc  # mutate: equivalent\nd  # mutate: equivalent constant, swapped (why)\n"
    assert tool.marked(source) == {2: set(), 4: {"constant", "swapped"}}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(folder / "tools" / "mutate.py"), *words]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)


OPERATION = '''"""An operation."""

LIMIT = 2


def twice(x, *, plus=0):
    """Twice."""
    if x > LIMIT:
        x = min(x, 10)  # mutate: equivalent constant (no test is so large){mark}
    return 2 * x + plus
'''
TEST = """from limbeck.ops.small import twice


def test_twice():
    assert [twice(x) for x in (0, 1, 2, 3, 11)] == [0, 2, 4, 6, {last}]
    assert twice(1, plus=1) == 3
"""


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A checkout with the tool, the package and one operation."""
    (tmp_path / "tools").mkdir()
    for name in ("mutate.py", "mutants.py"):
        (tmp_path / "tools" / name).write_text((root / "tools" / name).read_text())
    (tmp_path / "src").mkdir()
    for file in (root / "src" / "limbeck").rglob("*.py"):
        place = tmp_path / "src" / file.relative_to(root / "src")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.read_text())
    (tmp_path / "src/limbeck/ops/small.py").write_text(OPERATION.replace("{mark}", ""))
    (tmp_path / "tests" / "ops").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow: slow"]\n')
    return tmp_path


@pytest.mark.slow
def test_who_survives_is_reported(copy: Path):
    test = copy / "tests" / "ops" / "test_small.py"
    test.write_text(TEST.replace("{last}", "20"))
    done = run(copy, "--only", "small", "--json", "--workers", "1")
    (record,) = json.loads(done.stdout)
    survived = {(one["line"], one["before"], one["after"]) for one in record["survived"]}
    assert survived == {
        (3, "2", "3"),
        (3, "2", "1"),
        (8, "x > LIMIT", "x >= LIMIT"),
    }
    assert record["stale"] == [9]
    assert done.returncode == 1
    text = run(copy, "--only", "small").stdout
    assert "src/limbeck/ops/small.py:8: comparison: x > LIMIT  ->  x >= LIMIT" in text
    assert "src/limbeck/ops/small.py:9: marked as equivalent, but no mutant of this line survives" in text


@pytest.mark.slow
def test_tests_that_fail_anyway_prove_nothing(copy: Path):
    (copy / "tests" / "ops" / "test_small.py").write_text(TEST.replace("{last}", "21"))
    done = run(copy, "--only", "small")
    assert "fails without a mutant: tests/ops/test_small.py::test_twice" in done.stdout
    assert done.returncode == 1


def test_folders_within_a_package(root: Path):
    """A file there is tested by its own tests or by those of its folder, later by all there; what it uses counts it as a user."""
    code = "import json, mutate; print(json.dumps({job.module: [job.tests, job.later] for job in mutate.jobs([])}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root / "tools", capture_output=True, text=True, timeout=PATIENCE, check=True)
    jobs = json.loads(done.stdout)
    fused = "tests/losses/fused/test_fused.py"
    others = sorted(str(path.relative_to(root)) for path in (root / "tests/losses/fused").glob("test_*.py") if path.name != "test_fused.py")
    assert "tests/losses/fused/test_fused_teachers.py" in others
    assert jobs["limbeck.losses.fused.chunks"] == [[fused], others]
    assert jobs["limbeck.losses.kd"] == [["tests/losses/test_kd.py"], ["tests/test_contract.py"]]
    own, users = jobs["limbeck.ops.divergence_gradients"]
    assert own == ["tests/ops/test_divergence_gradients.py"]
    assert fused in users


def test_an_unknown_name(root: Path):
    done = run(root, "--only", "nothing_like_it")
    assert done.returncode == 1
    assert "no file is called nothing_like_it" in done.stderr
