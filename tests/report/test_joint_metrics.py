"""Metrics of several data sets, as a report writes them."""

from __future__ import annotations

from limbeck.report.numbers import metric, primary_metric


def test_the_metric_of_a_data_set_is_known_by_its_own_name():
    own = metric("stroke.rmse")
    assert (own.key, own.title, own.better) == ("stroke.rmse", "RMSE (stroke)", "lower")
    assert metric("digit.accuracy").text(0.5) == "50.0%"
    assert metric("accuracy").title == "Accuracy"
    assert metric("odd.thing").better == "neither"


def test_the_score_is_the_headline():
    models = {"student": {"metrics": {"digit.accuracy": 0.5, "stroke.rmse": 1.0, "score": 0.25}}}
    found = primary_metric(models)
    assert found is not None
    assert (found.key, found.better) == ("score", "higher")
