"""What the models wrote, in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limbeck.files import write_json
from limbeck.report.generations import SHOWN, generations, visible
from limbeck.report.page import write_report
from limbeck.report.table import summary_table

LOSS = {"perplexity": 20.0, "nll": 3.0}
RESULTS: dict[str, Any] = {
    "task": "causal_lm",
    "status": "finished",
    "models": {
        "student": {"role": "distilled", "metrics": LOSS, "recovered": 0.5, "before": {"metrics": {"perplexity": 148.4, "nll": 5.0}}},
        "alone": {"role": "alone", "metrics": {"perplexity": 30.0, "nll": 3.4}, "recovered": 0.4},
        "teacher": {"role": "teacher", "metrics": {"perplexity": 2.718, "nll": 1.0}},
    },
    "generations": {
        "tokens": 4,
        "examples": [
            {
                "prompt": "<b>&\n",
                "reference": "</pre><script>alert(1)</script>",
                "answers": {"student": "\x00\x1b ok", "teacher": "  ", "before": "zzz"},
            }
        ],
    },
}


def test_the_models_stand_in_the_order_of_the_table() -> None:
    (example,) = generations(RESULTS)
    assert example.prompt == "<b>&\n"
    assert [(said.title, said.role) for said in example.texts] == [
        ("Reference", ""),
        ("Teacher", "teacher"),
        ("Before", "before"),
        ("Distilled", "distilled"),
    ]
    assert example.texts[3].text == "\u2400\u241b ok"


def test_nothing_of_what_is_written_is_read_as_html(tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "results.json", RESULTS)
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page
    assert "(nothing)" in page
    assert "Generations" in page


def test_old_runs_and_other_tasks_have_none(tmp_path: Path) -> None:
    for found in ({}, {"generations": None}, {"generations": {"examples": []}}):
        assert generations(found) == ()
    write_json(tmp_path / "run" / "results.json", {**RESULTS, "generations": None})
    assert "Generations" not in write_report([tmp_path / "run"], tmp_path / "report.html").read_text()


def test_of_a_long_prompt_the_end_is_shown() -> None:
    entry = {"prompt": "x" + "y" * SHOWN, "reference": "r", "answers": {}}
    (example,) = generations({"generations": {"examples": [entry]}})
    assert example.prompt == "… " + "y" * SHOWN


def test_signs_that_cannot_be_shown() -> None:
    assert visible("a\tb\nc\r\x7f\x85\ud800é") == "a\tb\nc\u240d\ufffd\ufffd\ufffdé"
    assert visible(None) == ""


def test_the_student_before_is_a_column_and_never_the_best() -> None:
    table = summary_table(RESULTS)
    assert table.titles == ("Teacher", "Before", "Alone", "Distilled")
    rows = {row.title: row for row in table.rows}
    assert rows["Perplexity"].values == ("2.718", "148.4", "30.00", "20.00")
    assert rows["Perplexity"].best == (False, False, False, True)
    assert rows["Gap recovered"].values == ("–", "–", "40.0%", "50.0%")  # noqa: RUF001
    assert rows["Gap recovered"].best == (False, False, False, True)


def test_of_a_long_path_its_end_is_shown() -> None:
    def shown(reference: str) -> str:
        return summary_table({"models": {"student": {"reference": reference}}}).references[0]

    assert shown("llama2c:/data/stories/model.bin") == "llama2c:…/stories/model.bin"
    assert shown("hf:../shared/data/models/small") == "hf:…/models/small"
    assert shown("/data/model") == "…/data/model"
    for short in ("hf:org/name", "hf:models/a/b", "timm:resnet18", "a.b:C", ""):
        assert shown(short) == short
