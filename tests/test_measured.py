"""The numbers of runs, side by side."""

from __future__ import annotations

from limbeck.measured import measured, table

RUN = {
    "models": {
        "student": {
            "metrics": {"accuracy": 0.9, "sure": True, "name": "x"},
            "cost": {"size_bytes": 80, "batches": {"1": {"latency_ms": {"p50": 2.0}}}},
            "agreement": {"top1": 0.8},
            "recovered": 0.5,
            "valid": {"accuracy": 0.7},
            "last": {"metrics": {"accuracy": 0.6}, "valid": {"accuracy": 0.5}},
            "reliability": {"count": 3},
            "confusion": [[1]],
        },
        "broken": None,
    },
    "stages": [{"learner": "student", "seconds": 6.0, "updates": 2}, {"learner": "student", "seconds": 2.0, "updates": 2}, None],
}


def test_every_number_has_a_name():
    found = measured(RUN)
    assert found["values"] == {
        "student": {
            "accuracy": 0.9,
            "bytes": 80,
            "batches.1.latency_ms.p50": 2.0,
            "agreement.top1": 0.8,
            "recovered": 0.5,
            "seconds": 8.0,
            "step_time": 2.0,
        }
    }
    assert found["valid"] == {"student": {"accuracy": 0.7}}
    assert found["last"] == {"student": {"accuracy": 0.6, "valid.accuracy": 0.5}}


def test_what_is_missing_is_left_out():
    assert measured({}) == {"values": {}, "valid": {}, "last": {}}
    assert measured({"models": {"student": {}}, "stages": [{"learner": "teacher"}]}) == {
        "values": {"student": {}},
        "valid": {"student": {}},
        "last": {"student": {}},
    }


def test_runs_side_by_side():
    other = {"models": {"student": {"metrics": {"nll": 1.0}}, "teacher": {"metrics": {"accuracy": 1.0}}}}
    found = table([measured(RUN), None, measured(other)])
    assert found["values"]["student"]["accuracy"] == [0.9, None, None]
    assert found["values"]["student"]["nll"] == [None, None, 1.0]
    assert found["values"]["teacher"] == {"accuracy": [None, None, 1.0]}
    assert found["valid"] == {"student": {"accuracy": [0.7, None, None]}}
