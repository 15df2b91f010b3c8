"""What `evaluate` asked for, as the page of a run and that of a study show it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from tests.report.test_page import rendered
from tests.report.test_study_page import part
from tests.report.test_study_page import rendered as study_page

from limbeck.report.audits import Subject, of_run, sections
from limbeck.report.audits.groups import groups
from limbeck.report.audits.latency import latency
from limbeck.report.audits.layers import layers
from limbeck.report.audits.privacy import canaries, membership
from limbeck.report.audits.robustness import robustness
from limbeck.report.numbers import ABSENT, metric
from limbeck.report.tracks import scale

ACCURACY = metric("accuracy")


def audited(shift: float = 0.0) -> dict[str, Any]:
    """The entries of a model that was asked for everything; `shift` tells seeds and models apart."""
    attack = {"auc": 0.6 + shift, "tpr_at_0.01": 0.05 + shift, "tpr_at_0.001": 0.01}
    return {
        "metrics": {
            "accuracy": 0.9 + shift,
            "worst_accuracy": 0.7 + shift,
            "accuracy_gap": 0.25,
            "membership_auc": 0.6 + shift,
            "exposure": 3.0 + shift,
        },
        "robustness": {
            "metric": "accuracy",
            "severities": [1, 5],
            "mean": 0.6 + shift,
            "kinds": {"noise": [0.8 + shift, 0.4 + shift], "blur": [0.7 + shift, 0.5 + shift]},
        },
        "fairness": {
            "column": "sex",
            "groups": {
                "f": {"examples": 30, "metrics": {"accuracy": 0.95 + shift}},
                "m": {"examples": 1200, "metrics": {"accuracy": 0.7 + shift}},
            },
            "gaps": {"accuracy": 0.25},
        },
        "membership": {"members": 40, "others": 360, "loss": dict(attack, auc=0.55), "likelihood_ratio": attack},
        "canaries": [
            {"canary": "pin 1", "exposure": 4.0 + shift, "rank": 2, "fillings": 32},
            {"canary": "pin 2", "exposure": 2.0 + shift, "rank": 8, "fillings": 32},
        ],
        "cost": {
            "parameters": 10,
            "energy_reason": "nobody counts.",
            "batches": {
                "1": {
                    "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 4.0 + shift},
                    "throughput": 1000.0,
                    "peak_bytes": 2e6,
                    "energy_j": None,
                },
                "64": {"latency_ms": {"p50": 8.0, "p90": 9.0, "p99": 10.0}, "throughput": 6400.0, "peak_bytes": 3e6, "energy_j": 0.5},
            },
        },
    }


SIMILAR = {"student": ["a", "b", "c"], "teacher": ["x", "y"], "cka": [[0.9, 0.2], [0.4, 0.8], [0.1, 0.3]]}


def results(*shifts: float) -> list[dict[str, Any]]:
    """A run a shift; the teacher is 0.05 better."""
    return [{"models": {"teacher": audited(shift + 0.05), "student": audited(shift)}, "similarity": SIMILAR} for shift in shifts]


def models(*shifts: float) -> list[Subject]:
    runs = tuple(results(*shifts))
    return [Subject("Teacher", "teacher", "teacher", runs), Subject("Distilled", "student", "distilled", runs)]


def listed(section: Any) -> dict[str, tuple[str, ...]]:
    return dict(section.tables[0].rows)


def test_robustness_by_kind_and_severity():
    found = robustness(models(0.0))
    assert found is not None
    assert listed(found) == {
        "as they are": ("95.0%", "90.0%"),
        "noise": ("65.0%", "60.0%"),
        "blur": ("65.0%", "60.0%"),
        "all of them": ("65.0%", "60.0%"),
    }
    assert found.tables[0].columns == ("Inputs", "Teacher", "Distilled")
    assert found.tables[0].caption == "Accuracy on the test inputs as they are, and corrupted: mean over severities 1, 5."
    (figure,) = found.figures
    assert (figure.title, figure.caption) == ("Accuracy by severity", "mean over the kinds of corruption")
    assert "Teacher from 95.0% to 50.0%; Distilled from 90.0% to 45.0%." in figure.svg
    assert [key.dash for key in figure.legend] == ["solid", "dashed"]
    (chart,) = found.charts
    assert [row.name for row in chart.rows] == ["noise", "blur"]
    axis = scale([0.65, 0.6])
    track = chart.rows[0].track
    assert track is not None
    assert [(spot.at, spot.variable, spot.shape) for spot in track.spots] == [
        (axis.place(0.65), "teacher", "circle"),
        (axis.place(0.6), "distilled", "square"),
    ]
    assert (track.low, track.high) == (axis.place(0.6), axis.place(0.65))
    assert track.text == "noise: Teacher 65.0%, Distilled 60.0%"
    assert [(key.label, key.shape) for key in chart.legend] == [("Teacher", "circle"), ("Distilled", "square")]


def test_seeds_are_means_with_their_spread_and_a_band():
    found = robustness(models(0.0, 0.02))
    assert found is not None
    assert listed(found)["noise"] == ("66.0% ± 1.4", "61.0% ± 1.4")
    assert found.figures[0].caption.endswith("; bands reach from the lowest to the highest seed")
    assert 'fill-opacity="' in found.figures[0].svg or "opacity: 0.14" in found.figures[0].svg
    assert "opacity: 0.14" not in robustness(models(0.0)).figures[0].svg  # type: ignore[union-attr]


def test_a_model_without_some_corruption_has_a_gap():
    runs = results(0.0)
    del runs[0]["models"]["teacher"]["robustness"]["kinds"]["blur"]
    runs[0]["models"]["alone"] = {"metrics": {"accuracy": 0.5}}
    subjects = of_run(runs[0])
    assert [subject.label for subject in subjects] == ["Teacher", "Alone", "Distilled"]
    found = robustness(subjects)
    assert found is not None
    assert listed(found)["blur"] == (ABSENT, "60.0%")
    assert len(found.charts[0].rows[1].track.spots) == 1  # type: ignore[union-attr]
    assert robustness([subjects[1]]) is None


def test_groups_worst_of_the_student_first():
    found = groups(models(0.0), ACCURACY)
    assert found is not None
    (chart,) = found.charts
    assert [(row.name, row.detail) for row in chart.rows] == [("m", "1,200 examples"), ("f", "30 examples")]
    assert (chart.columns, chart.caption) == (("Sex",), "Accuracy within a group")
    assert listed(found) == {
        "f (30 examples)": ("100.0%", "95.0%"),
        "m (1,200 examples)": ("75.0%", "70.0%"),
        "worst group": ("75.0%", "70.0%"),
        "gap": ("25.0%", "25.0%"),
    }
    assert "√(p(1-p)/n)" in found.lead
    assert groups(models(0.0), None) is None
    assert groups([], ACCURACY) is None


def test_groups_where_less_is_better_and_sizes_that_differ():
    runs = results(0.0, 0.0)
    for i, run in enumerate(runs):
        for model in run["models"].values():
            for group in model["fairness"]["groups"].values():
                group["metrics"]["rmse"] = group["metrics"]["accuracy"]
                group["examples"] += i
    subjects = [Subject("Distilled", "student", "distilled", tuple(runs))]
    found = groups(subjects, metric("rmse"))
    assert found is not None
    assert [(row.name, row.detail) for row in found.charts[0].rows] == [("f", "30 to 31 examples"), ("m", "1,200 to 1,201 examples")]
    assert found.lead == "RMSE of each model within groups of test examples (sex)."


def test_of_many_groups_some_are_drawn_and_all_listed():
    runs = results(0.0)
    many = {f"g{i:02d}": {"examples": 5, "metrics": {"accuracy": 1 - i / 20}} for i in range(20)}
    runs[0]["models"]["student"]["fairness"]["groups"] = many
    found = groups([Subject("Distilled", "student", "distilled", tuple(runs))], ACCURACY)
    assert found is not None
    assert [row.name for row in found.charts[0].rows] == [f"g{i:02d}" for i in range(19, 3, -1)]
    assert found.charts[0].caption == "Accuracy within a group; 4 others are in the table"
    assert len(listed(found)) == 22


def test_membership_beside_chance():
    found = membership(models(0.0))
    assert found is not None
    (chart,) = found.charts
    axis = scale([0.5, 0.65, 0.6])
    assert [(row.name, row.text) for row in chart.rows] == [("Teacher", "0.650"), ("Distilled", "0.600")]
    assert [row.track.at for row in chart.rows if row.track] == [axis.place(0.65), axis.place(0.6)]
    assert {row.track.zero for row in chart.rows if row.track} == {axis.place(0.5)}
    error = math.sqrt(401 / (12 * 40 * 360))
    assert f"With 40 training and 360 test examples, chance alone moves the AUC by about {error:.2f}." in found.lead
    assert found.tables[0].columns == (
        *("Model", "AUC by loss", "AUC by likelihood ratio"),
        *("found at 1%, by loss", "found at 0.1%, by loss", "found at 1%, by likelihood ratio", "found at 0.1%, by likelihood ratio"),
    )
    assert listed(found)["Distilled"] == ("0.550", "0.600", "5.0%", "1.0%", "5.0%", "1.0%")
    several = membership(models(0.0, 0.1))
    assert several is not None
    assert several.charts[0].rows[1].text == "0.650 ± 0.071"
    assert len(several.charts[0].rows[1].track.dots) == 2  # type: ignore[union-attr]
    assert membership([]) is None


def test_secrets_beside_a_model_that_never_saw_them():
    found = canaries(models(0.0))
    assert found is not None
    (chart,) = found.charts
    axis = scale([0.0, 5.0])
    track = chart.rows[1].track
    assert track is not None
    assert (chart.rows[1].name, chart.rows[1].text) == ("Distilled", "3.000")
    assert track.dots == (axis.place(4.0), axis.place(2.0))
    assert track.at == axis.place(3.0)
    chance = sum(math.log2(32) - math.log2(rank) for rank in range(1, 33)) / 32
    assert track.zero == axis.place(chance)
    assert "5.0 where none is" in found.lead
    assert listed(found) == {"pin 1": ("4.050, 2 of 32", "4.000, 2 of 32"), "pin 2": ("2.050, 8 of 32", "2.000, 8 of 32")}
    assert found.tables[0].caption == "Exposure of each secret in bits and its rank."
    assert canaries([]) is None


def test_secrets_of_several_seeds_go_by_their_place():
    runs = results(0.0, 1.0)
    runs[1]["models"]["student"]["canaries"][0]["canary"] = "pin 7"
    found = canaries([Subject("Distilled", "student", "distilled", tuple(runs))])
    assert found is not None
    assert listed(found) == {"secret 1": ("4.500 ± 0.707",), "pin 2": ("2.500 ± 0.707",)}
    assert found.tables[0].caption == "Exposure of each secret in bits."


def test_the_most_similar_layer():
    found = layers(models(0.0))
    assert found is not None
    assert listed(found) == {"a": ("0.900, x",), "b": ("0.800, y",), "c": ("0.300, y",)}
    assert found.tables[0].columns == ("Layer", "Distilled")
    assert "Distilled: a 0.90, b 0.80, c 0.30." in found.figures[0].svg
    assert found.figures[0].legend == ()
    several = layers(models(0.0, 0.0))
    assert several is not None
    assert listed(several)["a"] == ("0.900",)
    short = results(0.0)
    short[0]["similarity"] = {"student": ["a"], "teacher": ["x"], "cka": [[0.9]]}
    assert layers([Subject("Distilled", "student", "distilled", tuple(short))]) is None
    other = results(0.0, 0.0)
    other[1]["similarity"] = {**SIMILAR, "student": ["a", "b", "d"]}
    assert layers([Subject("Distilled", "student", "distilled", tuple(other))]) is None


def test_latency_from_the_median_to_the_slowest():
    found = latency(models(0.0))
    assert found is not None
    assert [chart.title for chart in found.charts] == ["Batch of 1", "Batch of 64"]
    row = found.charts[0].rows[1]
    assert row.track is not None
    axis = [100 * value / (1.06 * 4.05) for value in (1.0, 4.0)]
    assert [row.track.at, row.track.low, row.track.high] == pytest.approx([axis[0], *axis], abs=0.01)
    assert row.text == "1.00 ms"
    assert row.track.text == "Distilled: median 1.00 ms, 99th percentile 4.00 ms"
    assert listed(found)["Distilled, batch of 1"] == ("1.00 ms", "2.00 ms", "4.00 ms", "1,000", "2.00 MB", ABSENT)
    assert listed(found)["Teacher, batch of 64"][-1] == "0.50 J"
    assert found.lead.endswith("Energy was not measured: nobody counts.")
    assert latency([]) is None


def test_all_sections_in_their_order():
    names = ["robustness", "groups", "membership", "canaries", "similarity", "latency"]
    assert [section.id for section in sections(models(0.0), ACCURACY)] == names
    assert sections(of_run({"models": {"student": {"metrics": {"accuracy": 0.5}}}}), ACCURACY) == []


@pytest.mark.parametrize("broken", [{"kinds": None}, {"kinds": {"noise": "much"}}, {"severities": None}, {"metric": None}])
def test_what_is_damaged_is_left_out(broken):
    runs = results(0.0)
    for model in runs[0]["models"].values():
        model["robustness"] |= broken
        model["fairness"] = {"groups": {"f": None}}
        model["membership"] = {"loss": None}
        model["canaries"] = [None, {"canary": "x"}]
        model["cost"]["batches"] = {"1": None}
    runs[0]["similarity"] = {"cka": [None]}
    shown = [section.id for section in sections(of_run(runs[0]), ACCURACY)]
    assert "similarity" not in shown
    assert {"groups", "latency"} < set(shown), "what is whole is shown"


def test_the_page_of_a_run_shows_them(run: Path, tmp_path: Path):
    contents = json.loads((run / "results.json").read_text())
    for i, name in enumerate(("student", "teacher")):
        own = audited(i * 0.05)
        contents["models"][name]["metrics"] |= {key: own["metrics"][key] for key in own["metrics"] if key != "accuracy"}
        contents["models"][name] |= {key: own[key] for key in ("robustness", "fairness", "membership", "canaries")}
        contents["models"][name]["cost"]["batches"] = own["cost"]["batches"]
    contents["similarity"] = SIMILAR
    (run / "results.json").write_text(json.dumps(contents))
    text, page, words = rendered([run], tmp_path / "r.html")
    assert len(page.ids) == len(set(page.ids)), "an id is used twice"
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids), "a link leads nowhere"
    assert page.tags.count("table") == page.tags.count("caption"), "a table without a caption"
    for name, title in (("robustness", "Robustness"), ("groups", "Groups"), ("membership", "Membership"), ("canaries", "Secrets")):
        assert f'<a href="#{name}">{title}</a>' in text
        assert "The same in numbers" in part(text, name)
    assert part(text, "groups").count('class="spot square"') == 2 + 1  # a mark in each group, and one in the legend
    assert "All pairs of layers" in part(text, "similarity")
    assert text.count('href="#similarity"') == 1
    assert "stage" not in part(text, "latency")
    assert "Batch of 64" in words


def test_the_page_of_a_study_shows_them(study: Path, tmp_path: Path):
    for place in study.glob("runs/*/seed-*/results.json"):
        contents = json.loads(place.read_text())
        seed = int(place.parent.name[-1]) / 100
        for name in contents["models"]:
            own = audited(seed)
            contents["models"][name] |= {key: own[key] for key in ("robustness", "fairness", "membership")}
            contents["models"][name]["metrics"] |= {"membership_auc": 0.6 + seed}
        place.write_text(json.dumps(contents))
    whole = json.loads((study / "results.json").read_text())
    for arm in whole["arms"].values():
        arm["values"]["student"] |= {
            "fairness.groups.f.metrics.accuracy": [0.123] * 3,
            "worst_accuracy": [0.456] * 3,
            "digits.accuracy": [0.789] * 3,
        }
    (study / "results.json").write_text(json.dumps(whole))
    text, _, words = study_page(study, tmp_path / "r.html")
    assert "12.3%" not in part(text, "values")  # it is among the groups
    assert "45.6%" in part(text, "values")
    assert "78.9%" in part(text, "values")
    assert 'href="#robustness"' in text
    assert "bands reach from the lowest to the highest seed" in words
    assert part(text, "membership").count('class="seed"') == 3 * part(text, "membership").count('class="mean"')
    assert "What others gain in each group" in part(text, "groups")
    assert re.search(r"0\.610 ± 0\.010", part(text, "membership"))
