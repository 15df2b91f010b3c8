"""Which layers a star stands for, and how they are paired."""

from __future__ import annotations

import pytest

from limbeck.errors import TapError
from limbeck.taps.layers import expand_layers, layer_pairs, numbered, starred

BERT = ["", "embeddings", *(f"encoder.layer.{i}{part}" for i in range(12) for part in ("", ".query", ".key")), "pooler.1"]
SMALL = ["embeddings", *(f"h.{i}{part}" for i in range(4) for part in ("", ".query", ".key"))]


@pytest.mark.parametrize(
    ("how", "students", "teachers", "expected"),
    [
        ("uniform", 4, 12, [(0, 2), (1, 5), (2, 8), (3, 11)]),  # TinyBERT: 3, 6, 9, 12
        ("uniform", 4, 6, [(0, 0), (1, 2), (2, 3), (3, 5)]),
        ("uniform", 3, 3, [(0, 0), (1, 1), (2, 2)]),
        ("skip", 6, 12, [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9)]),  # PKD: {2, 4, 6, 8, 10}
        ("skip", 3, 12, [(0, 3), (1, 7)]),
        ("last", 6, 12, [(0, 6), (1, 7), (2, 8), (3, 9), (4, 10)]),  # PKD: {7, 8, 9, 10, 11}
        ("last", 3, 12, [(0, 9), (1, 10)]),
        ("top", 4, 12, [(3, 11)]),
        ("top", 1, 1, [(0, 0)]),
        ([2, None, -1], 3, 12, [(0, 2), (2, 11)]),
        ([0, -12, 11], 3, 12, [(0, 0), (1, 0), (2, 11)]),
        ("uniform", 3, None, [(0, 0), (1, 1), (2, 2)]),
        ("skip", 3, None, [(0, 0), (1, 1)]),
        ("top", 3, None, [(2, 0)]),
        ([7, None, 9], 3, None, [(0, 0), (2, 1)]),
    ],
)
def test_pairs(how, students, teachers, expected):
    assert layer_pairs(how, students, teachers) == expected


@pytest.mark.parametrize(
    ("how", "students", "teachers", "message"),
    [
        ("uniform", 4, 3, "layers: uniform: the student has 4 layers and the teacher 3; give a list of the teacher's layers."),
        ("skip", 1, 3, "layers: skip leaves the student's last layer out, and it has no other; use uniform or top."),
        ([0, 1], 3, 4, "layers: expected a teacher's layer (or null) for each of the student's 3 layers, found 2."),
        ([0, 4], 2, 4, "layers: the teacher's 4 layers are 0 to 3 (or -1 to -4), found 4."),
        ([-5, 0], 2, 4, "layers: the teacher's 4 layers are 0 to 3 (or -1 to -4), found -5."),
        ([None], 1, 4, "layers: expected at least one layer of the teacher, found null for every layer of the student."),
    ],
)
def test_pairs_that_do_not_fit(how, students, teachers, message):
    with pytest.raises(TapError) as error:
        layer_pairs(how, students, teachers)
    assert str(error.value) == message


def test_numbers_of_layers():
    assert numbered("encoder.layer.*", BERT) == [str(i) for i in range(12)]  # in the order of numbers, 10 after 9
    assert numbered("encoder.layer.*.query:output.0", BERT) == [str(i) for i in range(12)]
    assert numbered("h.*", ["h.3", "h.7", "h.x", "gh.4", "h.3.a"]) == ["3", "7"]
    assert numbered("stage*", ["stage1", "stage10", "stage2", "last_stage"]) == ["1", "2", "10"]
    assert starred("h.*")
    assert not starred("h.0")


@pytest.mark.parametrize("tap", ["h.*.*", "h:output.*", "h.*:output.*"])
def test_there_is_one_star_in_a_path(tap):
    with pytest.raises(TapError) as error:
        numbered(tap, SMALL)
    assert str(error.value) == (f"tap {tap!r}: one star stands for the number of the layer in the path, as in encoder.layer.* or stage*.")


def test_no_such_layers():
    with pytest.raises(
        TapError, match=r"tap 'layers\.\*': no layer of the model has such a path, with a number in the place of the star\."
    ):
        numbered("layers.*", SMALL)


def test_taps_that_stand_together_are_written_out_layer_by_layer():
    ours, theirs = ["embeddings", "h.*.query", "h.*.key:output.0"], ["embeddings", "encoder.layer.*.query", "encoder.layer.*.key"]
    student, teacher = expand_layers(ours, theirs, "skip", SMALL, BERT)
    assert student == ("embeddings", *(f"h.{i}.{part}" for i in range(3) for part in ("query", "key:output.0")))
    assert teacher == ("embeddings", *(f"encoder.layer.{i}.{part}" for i in (2, 5, 8) for part in ("query", "key")))
    student, _ = expand_layers(["h.*", "embeddings", "h.*"], ["encoder.layer.*", "embeddings", "encoder.layer.*"], "top", SMALL, BERT)
    assert student == ("h.3", "embeddings", "h.3")


def test_sides_must_agree():
    with pytest.raises(TapError) as error:
        expand_layers(["h.*"], ["encoder.layer.3"], "top", SMALL, BERT)
    assert str(error.value) == "student 'h.*' and teacher 'encoder.layer.3': a star stands for layers on both sides or on neither."
    with pytest.raises(TapError) as error:
        expand_layers(["h.*", "g.*"], ["h.*", "h.*"], "top", [*SMALL, "g.0"], SMALL)
    assert str(error.value) == (
        "taps 'h.*' and 'g.*' stand together and have layers ['0', '1', '2', '3'] and ['0']; name them in two terms."
    )


def test_a_store_holds_only_the_layers_of_the_map():
    stored = ["encoder.layer.2", "encoder.layer.5", "encoder.layer.8"]
    _, teacher = expand_layers(["h.*"], ["encoder.layer.*"], "skip", SMALL, stored, partial=True)
    assert teacher == tuple(stored)
    with pytest.raises(TapError) as error:
        expand_layers(["h.*"], ["encoder.layer.*"], "uniform", SMALL, stored, partial=True)
    assert str(error.value) == "the map of the layers has 4 pairs, and the store holds 3 such layers of the teacher."
