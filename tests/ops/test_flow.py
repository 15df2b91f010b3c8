"""Paths from data to noise."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.ops.flow import flow_pair


def test_points_by_hand():
    data, noise, times = torch.tensor([[2.0], [2.0]]), torch.tensor([[6.0], [6.0]]), torch.tensor([0.25, 0.5])
    point, velocity = flow_pair(data, noise, times, path="linear")
    assert point.tolist() == [[3.0], [4.0]]
    assert velocity.tolist() == [[4.0], [4.0]]
    point, velocity = flow_pair(data, noise, times, path="cosine")
    assert point[1].item() == pytest.approx(8 * math.sqrt(0.5))
    assert velocity[1].item() == pytest.approx(math.pi / 2 * 4 * math.sqrt(0.5))


@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_it_leads_from_data_to_noise_at_its_velocity(path):
    data, noise = torch.randn(2, 3, 2, 2, 2, dtype=torch.float64).unbind()
    ends = [flow_pair(data, noise, torch.full((3,), t), path=path)[0] for t in (0.0, 1.0)]
    torch.testing.assert_close(ends, [data, noise])
    times = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    velocity = flow_pair(data, noise, times, path=path)[1]
    after, before = (flow_pair(data, noise, times + step, path=path)[0] for step in (1e-6, -1e-6))
    torch.testing.assert_close((after - before) / 2e-6, velocity.expand_as(data), rtol=1e-6, atol=1e-7)


def test_half_precision_is_widened():
    data, noise, times = torch.randn(3, 2, 5).bfloat16().unbind()
    times = times[:, 0].sigmoid()
    for path in ("linear", "cosine"):
        got = flow_pair(data, noise, times, path=path)
        assert [x.dtype for x in got] == [torch.float32] * 2
        assert all(map(torch.equal, got, flow_pair(data.float(), noise.float(), times.float(), path=path)))
    assert flow_pair(data.double(), noise.double(), times, path="cosine")[0].dtype == torch.float64
