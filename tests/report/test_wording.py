"""The headline must be honest in every case; numbers, recipes and curves must be read right."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from limbeck.report import summary, summary_table
from limbeck.report.curves import curves, wants_log
from limbeck.report.figures import _stage_role
from limbeck.report.headline import headline
from limbeck.report.matrices import confusion
from limbeck.report.numbers import amount, metric, milliseconds, plain, signed, size
from limbeck.report.recipes import differences, flatten
from limbeck.report.rundir import LogLine


def results(task="classification", key="accuracy", test=10_000, **values):
    roles = {"teacher": "teacher", "alone": "alone", "student": "distilled"}
    costs = {"teacher": (1000, 2.0), "alone": (100, 4.0), "student": (100, 4.0)}
    models = {
        name: {"role": roles[name], "metrics": {key: value}, "cost": {"parameters": costs[name][0], "latency_ms": costs[name][1]}}
        for name, value in values.items()
    }
    return {"task": task, "models": models, "data": {"test": test}, "status": "finished"}


def test_better_student_says_how_much_of_the_gap_is_closed():
    said = headline(results(teacher=0.9, alone=0.8, student=0.85))
    assert said.verdict == "better"
    assert said.title == "Distillation helps: +5.0 points of accuracy"
    assert "closes 50% of the gap" in said.text


def test_worse_student_is_called_worse():
    said = headline(results(teacher=0.9, alone=0.85, student=0.80))
    assert said.verdict == "worse"
    assert "did not help" in said.title
    assert "gap" not in said.text


def test_a_difference_that_the_test_set_cannot_resolve_is_no_gain():
    said = headline(results(teacher=0.95, alone=0.90, student=0.91, test=100))
    assert said.verdict == "equal"
    assert headline(results(teacher=0.95, alone=0.90, student=0.91, test=100_000)).verdict == "better"
    assert headline(results(teacher=0.95, alone=0.90, student=0.90)).verdict == "equal"


def test_without_alone_it_asks_for_the_baseline():
    said = headline(results(teacher=0.9, student=0.85))
    assert said.verdict == "unknown"
    assert "baseline: true" in said.text
    assert "helps" not in said.title


def test_teacher_behind_and_teacher_absent():
    assert "no gap to close" in headline(results(teacher=0.7, alone=0.8, student=0.85)).text
    assert "which it surpasses" in headline(results(teacher=0.84, alone=0.8, student=0.85)).text
    assert "teacher" not in headline(results(alone=0.8, student=0.85)).text


def test_lower_is_better_for_errors():
    said = headline(results("regression", "rmse", teacher=10.0, alone=20.0, student=15.0))
    assert said.verdict == "better"
    assert "50% of the gap" in said.text
    assert headline(results("regression", "rmse", teacher=10.0, alone=15.0, student=20.0)).verdict == "worse"


def test_slower_student_is_called_slower():
    tiles = headline(results(teacher=0.9, alone=0.8, student=0.85)).tiles
    assert ("10×", "smaller than the teacher") in [(t.value, t.label) for t in tiles]  # noqa: RUF001
    assert ("2.0×", "slower than the teacher") in [(t.value, t.label) for t in tiles]  # noqa: RUF001


def test_unfinished_and_nan():
    assert any("not finished" in note for note in headline({**results(student=0.5), "status": "stopped"}).notes)
    assert "no number" in headline(results(alone=0.5, student=float("nan"))).title


def test_summary_table_marks_the_better_student_only():
    table = summary_table(results(teacher=0.99, alone=0.8, student=0.85))
    assert table.titles == ("Teacher", "Alone", "Distilled")
    assert table.rows[0].values == ("99.0%", "80.0%", "85.0%")
    assert table.rows[0].best == (False, False, True)


def test_several_teachers_keep_their_names():
    models = results(teacher=0.9, student=0.8)["models"]
    models["second"] = {"role": "teacher", "metrics": {"accuracy": 0.91}}
    assert summary_table({"models": models}).titles == ("Teacher", "second", "Distilled")


def test_terminal_table():
    out = io.StringIO()
    data = {**results(teacher=0.99, alone=0.8, student=0.85), "about": {"title": "A [bold]title[/] of one's own"}}
    Console(file=out, width=100).print(summary(data))
    text = out.getvalue()
    assert "A [bold]title[/] of one's own" in text  # shown as written
    assert "85.0%" in text
    Console(file=io.StringIO()).print(summary({}))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (amount(1210), "1,210"),
        (amount(21_386_000), "21.4 M"),
        (amount(None), "–"),  # noqa: RUF001
        (amount(float("nan")), "–"),  # noqa: RUF001
        (size(4840), "4.84 kB"),
        (milliseconds(0.0421), "42.1 µs"),
        (milliseconds(12.34), "12.3 ms"),
        (plain(0.00001), "1.00e−05"),  # noqa: RUF001
        (signed(-0.04, 1), "±0.0"),
        (signed(-1.25, 1), "−1.2"),  # noqa: RUF001
        (metric("mAP").text(0.5), "50.0%"),
        (metric("mAP").noun, "mAP"),
        (metric("rmse").noun, "RMSE"),
        (metric("my_metric").text(3), "3.000"),
        (metric("my_metric").title, "My metric"),
    ],
)
def test_numbers(text, wanted):
    assert text == wanted


def test_flatten_reads_a_resolved_recipe():
    text = """\
about: {title: "a # b"}   # file.yaml:1:1
data:
  source: 'csv:x # y.csv'    # here
  transforms:
  - flip
  - crop:
      padding: 4   # deep
  list: [1, 2]
train:
  lr: 1e-3
"""
    assert flatten(text) == {
        "about": '{title: "a # b"}',
        "data.source": "'csv:x # y.csv'",
        "data.transforms.0": "flip",
        "data.transforms.1.crop.padding": "4",
        "data.list": "[1, 2]",
        "train.lr": "1e-3",
    }


def test_differences_name_added_and_removed_keys_and_ignore_comments():
    rows = differences(["a: 1 # x\nb: 2\nc: 3", "a: 1 # y\nb: 4"])
    assert rows == [("b", ("2", "4")), ("c", ("3", ""))]


def line(step, value, *, stage="s", part=0, kind="train"):
    return LogLine(stage, part, kind, step, {"total": value})


def test_rounds_follow_one_another():
    found = curves([line(0, 1.0), line(10, 2.0), line(0, 3.0, part=1), line(10, 4.0, part=1)], "s", "train")
    assert found["total"].x == (0, 10, 20) or found["total"].x == (0, 10, 10, 20)
    assert found["total"].y[-1] == 4.0


def test_a_resumed_log_keeps_the_last_value_of_a_step():
    found = curves([line(0, 1.0), line(10, 2.0), line(10, 7.0)], "s", "train")
    assert found["total"].y == (1.0, 7.0)


def test_log_axis_only_for_positive_values_that_span_much():
    assert wants_log(list(curves([line(0, 100.0), line(1, 1.0)], "s", "train").values()))
    assert not wants_log(list(curves([line(0, 100.0), line(1, 0.0)], "s", "train").values()))
    assert not wants_log(list(curves([line(0, 2.0), line(1, 1.0)], "s", "train").values()))


def test_confusion_difference_and_pairs():
    found = confusion([[8, 2], [1, 9]], [[9, 1], [3, 7]], ["cat"])
    assert found is not None
    assert found.grid is not None
    assert found.difference is not None
    assert found.grid.rows == ("cat", "1")
    assert [cell.text for cell in found.difference.cells[0]] == ["−1", "+1"]  # noqa: RUF001
    assert [cell.tone for cell in found.difference.cells[0]] == ["bad", "bad"]
    assert [cell.tone for cell in found.difference.cells[1]] == ["good", "good"]
    assert [(pair.truth, pair.count, pair.share) for pair in found.pairs] == [("cat", 2, "20.0%"), ("1", 1, "10.0%")]


@pytest.mark.parametrize("matrix", [None, [], [[1, 2]], "text", [[1], [2]]])
def test_confusion_that_is_none(matrix):
    assert confusion(matrix, None, []) is None


def test_stages_wear_the_colours_of_their_learners():
    stages = [{"name": "one", "learner": "teacher"}, {"name": "alone", "learner": "alone"}, {"name": "two", "learner": "student"}]
    assert [_stage_role(stage["name"], stages) for stage in stages] == ["teacher", "alone", "distilled"]
    assert [_stage_role(name, []) for name in ("teacher", "alone", "distil")] == ["teacher", "alone", "distilled"]


def test_every_metric_of_a_classifier_is_known_with_its_direction():
    from limbeck.tasks._classifier import MAXIMIZE

    assert {key: metric(key).better for key in MAXIMIZE} == {key: "higher" if more else "lower" for key, more in MAXIMIZE.items()}
