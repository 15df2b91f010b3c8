"""Latency, memory and energy: percentiles against numpy, counters from files, a model that stays as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.evaluate.energy import meter
from limbeck.evaluate.memory import Held
from limbeck.evaluate.speed import percentile, speed

CPU = torch.device("cpu")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_percentiles_equal_numpy(share):
    values = torch.rand(37).tolist()
    assert percentile(values, share) == pytest.approx(np.percentile(values, 100 * share))
    assert percentile([3.0], share) == 3.0


def _rapl(folder, name, joules, span=1000):
    (folder / name).mkdir(parents=True)
    (folder / name / "energy_uj").write_text(str(int(joules * 1e6)))
    (folder / name / "max_energy_range_uj").write_text(str(int(span * 1e6)))


def test_rapl_adds_the_packages_and_leaves_their_parts(tmp_path):
    _rapl(tmp_path, "intel-rapl:0", 5)
    _rapl(tmp_path, "intel-rapl:1", 7)
    _rapl(tmp_path, "intel-rapl:0:0", 100)
    counter = meter(CPU, tmp_path)
    assert (counter.source, counter.reason) == ("RAPL", None)
    before = counter.read()
    assert before == 12
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("9000000")
    assert counter.spent(before) == pytest.approx(2)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("0")  # began anew
    assert counter.spent(before) == pytest.approx(1000 - 7)


def test_where_nobody_counts_there_is_a_reason(tmp_path):
    counter = meter(CPU, tmp_path / "none")
    assert counter.source is None
    assert "no RAPL counter in" in (counter.reason or "")
    assert counter.spent(counter.read()) is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert "RAPL cannot be read" in (meter(CPU, tmp_path).reason or "")


def test_a_profile(tmp_path):
    model = nn.Sequential(nn.Linear(10, 100), nn.Dropout(0.5)).train()
    _rapl(tmp_path, "intel-rapl:0", 5)
    inputs = torch.zeros(4, 10)
    state = torch.get_rng_state()
    found = speed(model, lambda: model(inputs), 4, CPU, meter(CPU, tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in model.modules())
    latency = found["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert 0 < found["throughput"] <= 1000 * 4 / latency["p50"] * 3
    assert found["energy_j"] == 0.0
    weights = 4 * (100 * 10 + 100)
    assert weights + 4 * 4 * 100 <= found["peak_bytes"] <= weights + 3 * 4 * 4 * 100
    assert speed(model, lambda: model(inputs), 4, CPU, meter(CPU, tmp_path / "none"))["energy_j"] is None


def test_held_counts_what_lives():
    weight = torch.zeros(1000)
    with Held([weight]) as held:
        a = weight + 1
        assert held.now == 8000
        del a
        b = weight + 2
    assert held.most == 8000
    assert b.shape == (1000,)
