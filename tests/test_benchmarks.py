"""The benchmark of the losses runs and compares like with like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torchdistill")
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "losses.py"


def test_losses():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", "--only", "kd_standardized", "dkd"], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert list(found) == ["kd_standardized", "dkd", "dkd_100000"]
    for line in found.values():
        assert line.keys() >= {"limbeck_ms", "peer_ms", "ratio", "limbeck_mb", "peer_mb", "peer", "sizes"}
        assert min(line[key] for key in ("limbeck_ms", "peer_ms", "ratio", "limbeck_mb", "peer_mb")) > 0
    assert found["dkd"]["difference"] < 1e-4
    assert found["kd_standardized"]["peer"] == "torchdistill LogitStdKDLoss"


def test_a_control_measures_the_peer_beside_itself():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", "--control", "--only", "at_official"], capture_output=True, check=True
    )
    (line,) = json.loads(done.stdout).values()
    assert line["limbeck_mb"] == line["peer_mb"]
    assert "difference" not in line


def test_unknown_names_are_refused():
    done = subprocess.run([sys.executable, SCRIPT, "--only", "kdd"], capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "no such pair: kdd" in done.stderr


@pytest.mark.slow
def test_store():
    done = subprocess.run([sys.executable, SCRIPT.with_name("store.py"), "--quick", "--json"], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert list(found) == ["x4", "x20", "label_over_inference", "bytes_over_arithmetic", "open_seconds_1m", "peers_over_n"]
    for pair in ("x4", "x20"):
        assert list(found[pair]) == ["stored_over_supervised", "share_of_ideal"]
    assert 1 <= found["bytes_over_arithmetic"] <= 1.05
    assert found["open_seconds_1m"] < 1


@pytest.mark.slow
def test_lm_train():
    pytest.importorskip("trl")
    done = subprocess.run([sys.executable, SCRIPT.with_name("lm_train.py"), "--quick", "--json"], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["largest_loss_difference"] < 1e-5
    for name in ("limbeck", "trl"):
        assert len(found[name]["losses"]) == found["steps"]
        assert found[name]["losses"][-1] < found[name]["losses"][0]
        assert min(found[name]["seconds"], found[name]["over_imports_mb"]) > 0


@pytest.mark.slow
@pytest.mark.shared
def test_field(shared: Path):
    if not (shared / "fashion_mnist").is_dir():
        pytest.skip("needs ../shared/data/fashion_mnist")
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("field.py"), "--quick", "--json", "--data", shared / "fashion_mnist"],
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert list(found) == ["kd", "dkd", "at", "sp"]
    for line in found.values():
        assert line["value_gap"] < 1e-4, "the two losses are the same"
        assert len(line["limbeck"]) == len(line["by_hand"]) == 2
        assert line["low"] <= line["difference"] <= line["high"]
        assert line["seconds_ratio"] > 0


def test_field_asks_for_its_data(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("field.py"), "--data", tmp_path / "none"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 2
    assert "--data names the folder of Fashion-MNIST's four .gz files" in done.stderr
