"""The models of a recipe on the meta device: whether they can be built, run, and read at their layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..assemble import model_request
from ..config.model_schema import ModelSpec
from ..errors import LimbeckError
from ..models.base import BuiltModel
from ..models.build import build_model
from ..objective.equip import Asked, equip
from ..taps.tapped import Tapped
from ..tasks.base import Task
from ..types import Batch, DataInfo, Signals
from .found import Desk

META = torch.device("meta")
NOTHING = Asked()


class Models:
    """The models of a recipe, on the meta device.

    Attributes:
        built: those that can run, by name.
        learners: names of teachers and further models that some stage trains.
    """

    def __init__(self, desk: Desk, task: Task, info: DataInfo, learners: set[str]) -> None:
        self.desk, self.task, self.info, self.learners = desk, task, info, learners
        self.built: dict[str, BuiltModel] = {}
        self._seen: dict[tuple[nn.Module, str | None, tuple[str, ...], Asked], Signals] = {}
        self._all()

    def _all(self) -> None:
        specs: dict[str, tuple[str, ModelSpec]] = {"student": ("student", self.desk.recipe.student)}
        for name, spec in self.desk.own.items():
            specs[name] = ("teacher" if spec is self.desk.recipe.teacher else f"teachers.{name}", spec)
        for name, spec in self.desk.recipe.models.items():
            specs[name] = (f"models.{name}", spec)
        for name, (key, spec) in specs.items():
            built = self.build(key, spec)
            if built is not None:
                before = len(self.desk.found.problems)
                if name not in self.desk.recipe.models or name in self.learners:
                    self._head(key, name, built)
                if len(self.desk.found.problems) == before:  # what cannot run at all is not asked about its layers
                    self.built[name] = built
        weights = [sum(p.numel() * 4 for p in built.module.parameters()) for built in self.built.values()]
        self.desk.found.bytes_needed = 6 * sum(weights) + 2**20

    def build(self, key: str, spec: ModelSpec) -> BuiltModel | None:
        """A model; None, with a problem at its key, where it cannot be built."""
        with self.desk.at(f"{key}.view"):
            if key == "student" and spec.view is not None and self.info.language is not None:
                raise LimbeckError("the student of a language model reads the examples themselves. Give `view` to a teacher.")
        with self.desk.at(f"{key}.model"), META:
            built = build_model(model_request(spec), self.info, allow_code=self.desk.allow_code, load=False)
            count = sum(p.numel() for p in built.module.parameters())
            learn = sum(p.numel() for name, p in built.module.named_parameters() if name not in built.frozen)
            some = f", of which {learn:,} learn" if built.frozen else ""
            self.desk.found.facts.append(f"{key}: {spec.model}, {count:,} parameters{some}")
            return built
        return None

    def _head(self, key: str, name: str, built: BuiltModel) -> None:
        with self.desk.at(f"{key}.model"):
            signals = self.signals(key, built)
            learns = name == "student" or name in self.learners
            if signals is not None and signals.tokens is not None:
                self.task.check_head(signals.tokens, self.info, model=name)
            elif learns and signals is not None and signals.logits is not None:
                self.task.check_head(signals.logits, self.info, model=name)

    def signals(self, key: str, built: BuiltModel, asked: Asked = NOTHING) -> Signals | None:
        """Signals on the meta device; None, with a note, where the model cannot be traced there."""
        return self._once(key, built, (), asked, built.module)

    def _once(self, key: str, built: BuiltModel, taps: tuple[str, ...], asked: Asked, run: Any) -> Signals | None:
        """Signals of a model at some layers, which every stage asks for again; a large one takes a second on the meta device, too."""
        same = (built.module, built.request.view, taps, asked)
        if same not in self._seen:
            found = self._traced(key, run, built, asked)
            if found is None:
                return None
            self._seen[same] = found
        return self._seen[same]

    def _traced(self, key: str, run: Any, built: BuiltModel, asked: Asked) -> Signals | None:
        built.module.eval()

        def plain(model: Any, batch: Batch) -> Signals:
            return self.task.call(model, built.normalization, batch)

        try:
            with torch.no_grad():
                return equip(plain, built.module, asked)(run, self._example(built.request.view))
        except LimbeckError:
            raise
        except Exception as error:  # any model's own code may fail on a device without contents
            first = str(error).strip().split("\n")[0].rstrip(".")
            text = f"{built.request.model} cannot take inputs of shape {self.info.shown(built.request.view).input_shape}: {first}"
            told = isinstance(error, (RuntimeError, ValueError, AssertionError)) and not isinstance(error, NotImplementedError)
            # The mask for pairs that language models get here, which needs no contents, is not one that all of them take.
            if told and first and "meta" not in first.lower() and self.info.language is None:
                raise LimbeckError(text) from None
            note = f"{key}: {text}; its layers were checked by name only."
            if note not in self.desk.found.notes:
                self.desk.found.notes.append(note)
            return None

    def _example(self, view: str | None) -> Batch:
        """A made-up batch of a view; of texts it has the trained tokens of the examples themselves, as every view has."""
        plain = self.task.example(self.info)
        if view is None:
            return plain
        own = self.task.example(self.info.shown(view))
        return own if plain.rows is None else replace(own, rows=plain.rows, labels=plain.labels, extra=plain.extra)

    def tapped(self, key: str, built: BuiltModel, taps: list[str], what: str = "", asked: Asked = NOTHING) -> Signals | None:
        """Signals with the values at some layers; as `signals` where there are none.

        Raises:
            LimbeckError: where a model has no such layer.
        """
        if not taps:
            return self.signals(key, built, asked)
        try:
            tapped = Tapped(built.module, taps)
        except LimbeckError as error:
            raise LimbeckError(f"{what + ' ' if what else ''}{built.request.model}: {error}") from None
        try:
            return self._once(key, built, tuple(taps), asked, tapped)
        finally:
            tapped.close()
