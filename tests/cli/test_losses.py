"""`limbeck losses` and `limbeck methods`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from limbeck.cli.main import main
from limbeck.describe import FAMILIES
from limbeck.registry import LOSSES, TASKS


def run(capsys, *words):
    status = main(words)
    out = capsys.readouterr()
    return status, out.out, out.err


def test_list(capsys):
    status, out, _ = run(capsys, "losses")
    assert status == 0
    lines = out.splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == LOSSES.names()
    heads = [line.split(":")[0] for line in lines if ": " in line and not line.startswith(" ")]
    assert heads == [family for family in FAMILIES if family in heads]
    logits = lines[lines.index("logits: what both models predict") : lines.index("features: inner layers, example by example")]
    dkd = next(line for line in logits if line.startswith("  dkd "))
    assert "Decoupled knowledge distillation" in dkd
    assert dkd.endswith("Zhao et al. 2022, arXiv:2203.08679")


def test_list_as_json(capsys):
    _, out, _ = run(capsys, "losses", "--json")
    found = json.loads(out)
    assert [entry["name"] for entry in found] == LOSSES.names()
    assert set(found[0]) == {"name", "class", "family", "title", "reference"}
    assert {entry["name"]: entry["family"] for entry in found}["rkd"] == "relations"


def test_show(capsys):
    status, out, _ = run(capsys, "losses", "show", "dkd")
    assert status == 0
    for part in (
        "dkd (loss)",
        r"T^2 \left[ \alpha",
        "where b is the pair",
        "When to use: the teacher is very sure of itself",
        "Cost: ",
        "Reference: Zhao et al.",
        "Reads the logits of student and teacher, and the labels.",
        "beta number >= 0 8.0 Weight of the term on the other classes.",
        "    objective:\n      my_term:\n        loss: dkd\n        weight: 1.0\n        alpha: 1.0",
    ):
        assert part in out or part in " ".join(out.split())
    assert ":math:" not in out


def test_show_has_the_formulas_of_fields_as_they_are_typed(capsys):
    out = run(capsys, "losses", "show", "darkrank")[1]
    assert r"alpha number > 0 3.0 Scale \alpha of the distances." in " ".join(out.split())
    assert ":math:" not in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kd", "Reads the logits of student and teacher."),
        ("bce", "Reads the logits of the student, and the labels."),
        ("mse", "Reads the logits of student and teacher, or one layer of each where the term names it."),
        ("hint", "Reads one layer of student and teacher; shapes must agree, else an adapter is added."),
        ("at", "Reads one or more layers of student and teacher; spatial sizes must agree, else an adapter is added."),
        ("sp", "shapes are free; a quantity of the whole batch"),
    ],
)
def test_show_says_what_it_reads(capsys, name, words):
    assert words in " ".join(run(capsys, "losses", "show", name)[1].split())


@pytest.mark.parametrize("name", LOSSES.names())
def test_example_is_a_valid_objective(capsys, name):
    """What `show` prints can be pasted into a recipe."""
    import yaml

    found = json.loads(run(capsys, "losses", "show", name, "--json")[1])
    term = yaml.safe_load(found["example"])["objective"]["my_term"]
    options = {key: value for key, value in term.items() if key not in ("loss", "weight", "student", "teacher")}
    loss = LOSSES.get(term["loss"])(**options)
    assert {f["name"]: f["default"] for f in found["fields"]} == options
    assert ("student" in term) == (loss.needs.features in ("one", "many"))


def test_unknown_name_exits_2_with_a_suggestion(capsys):
    for command in ("losses", "methods"):
        status, out, err = run(capsys, command, "show", "dkdd")
        assert (status, out) == (2, "")
        assert "is called 'dkdd'. Did you mean 'dkd'" in err


def test_recipes_that_use_a_part_are_listed(capsys, tmp_path, monkeypatch):
    package = tmp_path / "src" / "limbeck" / "cli"
    package.mkdir(parents=True)
    recipes = tmp_path / "recipes" / "classification"
    recipes.mkdir(parents=True)
    (recipes / "a.yaml").write_text("objective: {x: {loss: kd, weight: 1}}\n")
    (recipes / "b.yaml").write_text('objective: {x: {loss: "dkd"}}\ntask: classification\n')
    monkeypatch.setattr("limbeck.cli._show.__file__", str(package / "_show.py"))
    assert "Recipes: recipes/classification/a.yaml" in run(capsys, "losses", "show", "kd")[1].splitlines()
    assert json.loads(run(capsys, "losses", "show", "dkd", "--json")[1])["recipes"] == ["recipes/classification/b.yaml"]
    assert "Recipes: recipes/classification/b.yaml" in run(capsys, "methods", "show", "classification")[1]


def test_quick_and_without_torch():
    """The limit is 0.3 s; processor time of the best of eight, as the machine may be busy."""
    best = 9.0
    for _ in range(8):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "limbeck", "losses"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert best < 0.3
    code = (
        "import sys\nfrom limbeck.cli.main import main\nmain(['methods'])\nmain(['losses', 'show', 'at'])\n"
        "assert not {'torch', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_methods_names_every_part(capsys):
    from limbeck import registry
    from limbeck.data.selection import SELECTIONS

    found = json.loads(run(capsys, "methods", "--json")[1])
    every = (registry.LOSSES, registry.ADAPTERS, registry.TARGETS, registry.TEACHERS, registry.TASKS, registry.STEPS, registry.ACTIONS)
    every = (*every, SELECTIONS)
    assert [(e["kind"], e["name"]) for e in found] == [(r.kind, name) for r in every for name in r.names()]
    assert all(e["title"] for e in found)


def test_methods_of_one_kind(capsys):
    status, out, _ = run(capsys, "methods", "--kind", "task")
    assert status == 0
    assert out.splitlines()[0] == "task:"
    assert [line.split()[0] for line in out.splitlines()[1 : 1 + len(TASKS.names())]] == TASKS.names()
    assert "loss:" not in out


def test_methods_show(capsys):
    status, out, _ = run(capsys, "methods", "show", "frozen")
    assert status == 0
    assert out.startswith("frozen (teacher)\n")
    assert "teacher: {kind: frozen, model: MODEL}" in out
    assert json.loads(run(capsys, "methods", "show", "at", "--json")[1])["kind"] == "loss"


def test_a_name_of_two_kinds_asks_which(capsys, monkeypatch):
    from limbeck.registry import TEACHERS

    files = TEACHERS.files()
    monkeypatch.setattr(TEACHERS, "files", lambda: {**files, "kd": files["frozen"]})
    status, _, err = run(capsys, "methods", "show", "kd")
    assert status == 2
    assert "'kd' is the name of several parts: loss, teacher. Say which: --kind loss." in err
    assert run(capsys, "methods", "show", "kd", "--kind", "teacher")[1].startswith("kd (teacher)")
