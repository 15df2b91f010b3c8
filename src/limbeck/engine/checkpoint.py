"""Checkpoints: tensors as safetensors, everything else as JSON; nothing is ever pickled.

A checkpoint is a folder that appears as a whole. `latest.json` names the one to go on from and is replaced last.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import RunError
from ..files import read_json, write_json, writing_folder

Tensors = Mapping[str, Tensor]


def save(folder: Path, name: str, groups: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
    """Writes the checkpoint `name` and then removes the older ones.

    Args:
        folder: where checkpoints lie.
        name: name of this one.
        groups: tensors by group; each group is a file.
        state: what is no tensor.

    A second checkpoint of the same name, as where an epoch ends at an update that was saved already, lies beside the
    first until `latest.json` names it: between removing one and moving the other a killed process would leave none.
    """
    while (folder / name).exists():
        name += "+"
    with writing_folder(folder / name) as target:
        for group, tensors in groups.items():
            save_tensors(target / f"{group}.safetensors", tensors)
        (target / "state.json").write_text(json.dumps(state), encoding="utf-8")
    write_json(folder / "latest.json", {"checkpoint": name})
    for other in folder.iterdir():
        if other.is_dir() and other.name != name:
            shutil.rmtree(other, ignore_errors=True)


def latest(folder: Path) -> Path | None:
    """The checkpoint to go on from."""
    pointer = folder / "latest.json"
    if not pointer.exists():
        return None
    path = folder / str(read_json(pointer)["checkpoint"])
    if not path.is_dir():
        raise RunError(f"{pointer}: names the checkpoint {path.name!r}, which is missing. Start the run again without --resume.")
    return path


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors by group, and the state."""
    return {file.stem: load_tensors(file) for file in sorted(path.glob("*.safetensors"))}, read_json(path / "state.json")


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Writes tensors; shared memory is untied, because the format knows no sharing."""
    save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads tensors.

    Raises:
        RunError: where the file is damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: cannot be read: {error}. Start the run again without --resume.") from None


def split_optimizer(optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors and as plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    groups: list[dict[str, Any]] = []
    for i, group in enumerate(state["param_groups"]):
        tensors |= {f"group{i}.{key}": value for key, value in group.items() if isinstance(value, Tensor)}
        groups.append({key: value for key, value in group.items() if not isinstance(value, Tensor)})
    return tensors, {"state": plain, "groups": groups}


def join_optimizer(optimizer: Any, tensors: Tensors, plain: Mapping[str, Any]) -> None:
    """Restores what `split_optimizer` gave."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain["state"].items()}
    # JSON knows no tuples; every list that an optimizer keeps in its settings, but for the parameters, was one.
    groups = [{key: tuple(v) if isinstance(v, list) and key != "params" else v for key, v in group.items()} for group in plain["groups"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        if index.startswith("group"):
            groups[int(index.removeprefix("group"))][key] = value
        else:
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The random state of this process: Python, NumPy, torch and its devices."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if torch.cuda.is_available():
        tensors |= {f"cuda{i}": value for i, value in enumerate(torch.cuda.get_rng_state_all())}
    plain = {"numpy": [kind, int(position), int(has_gauss), float(cached)], "python": [version, list(internal), gauss]}
    return tensors, plain


def restore_random_state(tensors: Tensors, plain: Mapping[str, Any]) -> None:
    """Restores what `random_state` gave."""
    torch.set_rng_state(tensors["torch"])
    kind, position, has_gauss, cached = plain["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = plain["python"]
    random.setstate((version, tuple(internal), gauss))
    devices = sorted(name for name in tensors if name.startswith("cuda"))
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensors[name] for name in devices])


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
