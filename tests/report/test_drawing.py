"""Axes with round numbers, and marks where their values lie."""

from __future__ import annotations

import re

import pytest

from limbeck.report.curves import Curve
from limbeck.report.drawing import Panel, linear, logarithmic, room_beside, svg
from limbeck.report.plots import line_figure, reliability_figure
from limbeck.report.svg import COLOUR


@pytest.mark.parametrize(
    ("low", "high", "options", "labels"),
    [
        (0.0, 1.0, {"margin": 0.0}, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 1.0, {"margin": 0.0, "percent": True}, ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (0.0, 0.3, {"margin": 0.0, "percent": True, "most": 3}, ["0%", "10%", "20%", "30%"]),
        (0.83, 0.835, {"percent": True}, ["83.0%", "83.1%", "83.2%", "83.3%", "83.4%", "83.5%"]),
        (1, 300, {"margin": 0.02, "whole": True}, ["0", "50", "100", "150", "200", "250", "300"]),
        (5, 5, {"whole": True}, ["5"]),
        (1, 3, {"margin": 0.02, "whole": True}, ["1", "2", "3"]),
        (0, 0, {}, ["-0.04", "-0.02", "0.00", "0.02", "0.04"]),
        (-2.5, 2.5, {"margin": 0.0}, ["-2", "-1", "0", "1", "2"]),
        (0, 1e-5, {"margin": 0.0}, ["0", "2e-06", "4e-06", "6e-06", "8e-06", "1e-05"]),
        (0, 4e7, {"margin": 0.0}, ["0", "1e+07", "2e+07", "3e+07", "4e+07"]),
        (0, 1e-13, {"margin": 0.0, "percent": True, "most": 2}, ["0%", "5e-12%", "1e-11%"]),
    ],
)
def test_round_numbers(low, high, options, labels):
    assert list(linear(low, high, **options).labels) == labels


def test_room_at_both_ends():
    axis = linear(2.0, 4.0, margin=0.1)
    assert (axis.low, axis.high) == pytest.approx((1.8, 4.2))
    assert axis.share(1.8) == pytest.approx(0)
    assert axis.share(3.0) == pytest.approx(0.5)
    flat = linear(-2.0, -2.0)
    assert (flat.low, flat.high) == pytest.approx((-2.1, -1.9))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.01, 1.0, ["0.01", "0.03", "0.1", "0.3", "1"]),
        (1e-4, 1e2, ["0.0001", "0.001", "0.01", "0.1", "1", "10", "100"]),
        (1e-30, 1e30, ["1e-33", "1e-23", "1e-13", "0.001", "1e+07", "1e+17", "1e+27"]),
    ],
)
def test_powers_of_ten(low, high, labels):
    axis = logarithmic(low, high)
    assert list(axis.labels) == labels
    assert axis.share((low * high) ** 0.5) == pytest.approx(0.5)
    assert 0 < axis.share(low) < axis.share(high) < 1


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", text)]


def test_marks_lie_where_their_values_are():
    panel = Panel(10, 20, 100, 50, linear(0, 10, margin=0.0), linear(0, 1, margin=0.0))
    assert panel.point(0, 0) == (10, 70)
    assert panel.point(10, 1) == (110, 20)
    panel.line([0, 5, 10], [0, 1, 0.5], COLOUR["teacher"], style="--")
    panel.dots([5], [1], COLOUR["muted"], 2.0)
    panel.bar(5, 0.5, 2, COLOUR["distilled"], 0.35)
    line, dot, bar = panel.parts
    assert 'd="M10.00 70.00 L60.00 20.00 L110.00 45.00"' in line
    assert 'stroke="var(--teacher)"' in line
    assert 'stroke-dasharray="6 3"' in line
    assert dot == '<circle cx="60.00" cy="20.00" r="2.0" fill="var(--muted)"/>'
    assert bar == '<rect x="50.00" y="45.00" width="20.00" height="25.00" fill="var(--distilled)" fill-opacity="0.35"/>'
    drawn = panel.drawn(below="<update>", beside="share")
    assert "&lt;update&gt;" in drawn
    assert drawn.index("<circle") > drawn.index("var(--line)"), "the grid lies below what is drawn"
    assert re.findall(r">([\d.]+)</text>", drawn) == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "0", "2", "4", "6", "8", "10"]
    assert ">10</text>" not in panel.drawn(below="", numbers=False)


def test_numbers_beside_an_axis_have_room():
    short, long = linear(0, 1, margin=0.0), linear(0, 0.0003, margin=0.0)
    assert room_beside(long, called=False) > room_beside(short, called=False)
    assert room_beside(short, called=True) > room_beside(short, called=False)


def test_the_element():
    text = svg(["<g/>"], 100, 50.5, 'a"b', "<curves>")
    assert text == ('<svg class="plot" id="a&#34;b-figure" role="img" aria-label="&lt;curves&gt;" viewBox="0 0 100 50.5"><g/></svg>')


def curve(*values: float) -> Curve:
    return Curve("c", tuple(float(x) for x in range(1, 1 + len(values))), values)


def test_curves():
    drawing = line_figure([curve(0.5, 0.25, 0.75), curve(0.6, 0.6, 0.6)], "loss", "two curves")
    assert drawing.count("<path d=") - drawing.count("var(--line)") == 2
    assert "var(--series-0)" in drawing
    assert "var(--series-1)" in drawing
    assert "<circle" not in drawing
    assert ">update</text>" in drawing
    assert all(0 <= number <= 345.6 for path in re.findall(r' d="([^"]+)"', drawing) for number in numbers(path))


def test_a_curve_of_one_point_is_a_dot():
    drawing = line_figure([curve(0.5)], "loss", "a point")
    assert drawing.count("<circle") == 1
    assert ">1</text>" in drawing


def test_what_spans_much_is_shown_by_powers_of_ten_but_for_shares():
    wide = [curve(1.0, 0.1, 0.001)]
    assert ">0.01</text>" in line_figure(wide, "loss", "wide")
    assert ">20%</text>" in line_figure(wide, "loss", "wide", scale="percent")
    assert ">20%</text>" not in line_figure(wide, "loss", "wide")


def test_curves_of_one_colour_differ_by_their_dashes():
    drawing = line_figure([curve(1, 2, 3), curve(1, 2, 4)], "loss", "two", colours=[COLOUR["teacher"]] * 2)
    assert drawing.count('stroke="var(--teacher)"') == 2
    assert drawing.count("stroke-dasharray") == 1


def test_a_reliability_diagram():
    bins = {"edges": [0, 0.5, 0.75, 1], "confidence": [None, 0.6, 0.9], "accuracy": [None, 0.5, 1.0], "count": [0, 10, 30]}
    drawing = reliability_figure(bins, "distilled", "calibration", "well calibrated")
    assert drawing is not None
    assert drawing.count("<rect") == 4, "an empty bin has no bar"
    assert drawing.count("<circle") == 2
    assert drawing.count("stroke-dasharray") == 1, "the diagonal"
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', drawing)]
    assert heights[1] / heights[0] == pytest.approx(1.0 / 0.5, rel=1e-3)
    assert heights[3] / heights[2] == pytest.approx(30 / 10, rel=1e-3)
    assert ">confidence</text>" in drawing
    assert reliability_figure({**bins, "count": [0, 0, 0]}, "distilled", "calibration", "") is None


def test_a_band_is_the_area_between_two_lines():
    panel = Panel(0.0, 0.0, 100.0, 100.0, linear(0.0, 1.0, margin=0.0), linear(0.0, 1.0, margin=0.0))
    panel.band([0.0, 1.0], [0.0, 0.25], [0.5, 1.0], COLOUR["teacher"], 0.14)
    path = 'd="M0.00 50.00 L100.00 0.00 L100.00 75.00 L0.00 100.00Z"'
    assert panel.parts == [f'<path {path} fill="var(--teacher)" fill-opacity="0.14"/>']
