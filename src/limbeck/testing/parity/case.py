"""A stored case of an official implementation, as an adapter sees it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import LimbeckError
from ...types import Signals

Adapter = Callable[["Case"], "Tensor | Mapping[str, Tensor]"]
"""Runs ours on a case: the loss, or several outputs by name (`loss` among them)."""

_ADAPTERS: dict[str, Adapter] = {}


def adapter(*methods: str) -> Callable[[Adapter], Adapter]:
    """Makes a function the adapter of the methods of these names."""

    def register(function: Adapter) -> Adapter:
        for method in methods:
            if _ADAPTERS.setdefault(method, function) is not function:
                raise LimbeckError(f"two adapters for {method!r}: {_ADAPTERS[method].__qualname__} and {function.__qualname__}.")
        return function

    return register


@cache
def find_adapters() -> Mapping[str, Adapter]:
    """Every adapter by method."""
    from . import adapters

    for module in pkgutil.iter_modules(adapters.__path__):
        importlib.import_module(f"{adapters.__name__}.{module.name}")
    return dict(_ADAPTERS)


@dataclass
class Case:
    """One stored case. Tensors whose gradient is expected collect it."""

    method: str
    name: str
    hp: Mapping[str, Any]
    """Hyper-parameters as the official function takes them."""
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]
    """Outputs by name, `loss`, `grad_student_logits`, ..."""
    rtol: float
    atol: float
    parameters: dict[str, Tensor] = field(default_factory=dict)
    """Parameters of ours that stand for an input, by the name of the input; filled by `load`."""

    def __getitem__(self, name: str) -> Tensor:
        return self.inputs[name]

    def series(self, prefix: str) -> list[Tensor]:
        """`prefix_0`, `prefix_1`, ... in order; or the one called `prefix`."""
        if prefix in self.inputs:
            return [self.inputs[prefix]]
        found = {int(m[1]): name for name in self.inputs if (m := re.fullmatch(rf"{re.escape(prefix)}_(\d+)", name))}
        return [self.inputs[found[number]] for number in sorted(found)]

    def signals(self, who: str) -> Signals:
        """The logits and features whose names begin with `who`."""
        features = {str(i): value for i, value in enumerate(self.series(f"{who}_features"))}
        logits: Any = self.inputs.get(f"{who}_logits")
        return Signals(logits, features)

    @property
    def student(self) -> Signals:
        """The student's logits and features."""
        return self.signals("student")

    @property
    def teacher(self) -> Signals:
        """The teacher's logits and features."""
        return self.signals("teacher")

    @property
    def labels(self) -> Tensor | None:
        """The labels, where there are any."""
        return self.inputs.get("labels")

    def load(self, module: nn.Module, names: Mapping[str, str]) -> None:
        """Gives parameters of `module` (by their paths) the values of inputs (by their names); their gradients count as the inputs'."""
        for path, name in names.items():
            parameter, value = module.get_parameter(path), self.inputs[name].detach()
            if parameter.shape != value.shape and parameter.numel() == value.numel():
                value = value.reshape(parameter.shape)
            if parameter.shape != value.shape:
                raise LimbeckError(f"{name} has the shape {list(value.shape)}, our parameter {path} {list(parameter.shape)}.")
            parameter.data = value.clone()
            self.parameters[name] = parameter


def read_case(path: Path) -> Case:
    """The case whose description is the JSON file at `path`.

    Raises:
        LimbeckError: where it or its arrays cannot be read.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        with path.with_suffix(".npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(np.array(file[name])) for name in file.files}
        expected = {name.removeprefix("out_"): value for name, value in arrays.items() if name.startswith("out_")}
        inputs = {name: value for name, value in arrays.items() if not name.startswith("out_")}
        for name, value in inputs.items():
            value.requires_grad_(f"grad_{name}" in expected and value.is_floating_point())
        return Case(about["method"], about["case"], about["hyperparameters"], inputs, expected, about["rtol"], about["atol"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        text = f"expected a golden case (JSON with method, case, hyperparameters, rtol, atol; arrays in {path.with_suffix('.npz').name})"
        raise LimbeckError(f"{path}: {text}, found: {type(error).__name__}: {error}") from error
