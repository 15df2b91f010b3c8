"""The one trainable module: model, adapters and learnable losses, wrapped once and saved together."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from ..errors import RunError, UnknownName
from ..objective import Counts, Objective
from ..objective.gathering import Gather
from ..taps.aliases import aliases, expanded
from ..taps.suggest import layer_paths
from ..taps.tapped import Tapped
from ..teachers.base import Call
from ..types import Batch, Signals

_LOOKED_AT = 4096
"""Values of each weight that a checksum is taken of, about."""


class Learner(nn.Module):
    """A model that learns, together with the objective that it is trained on.

    Its forward runs the model, reads its taps and evaluates the objective, so that everything that learns is used
    inside the one wrapped forward, as data-parallel wrappers require.

    Args:
        model: the model that learns.
        objective: what it learns from.
        call: how the model is run on a batch.
        compile_model: compile it with torch.compile.
        taps: layers that its peers read, beside those of its own objective.
        logits: whether its peers read its logits.
        frozen: names of the model's parameters that never learn.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        call: Call,
        *,
        compile_model: bool = False,
        taps: Sequence[str] = (),
        logits: bool = False,
        frozen: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        every = list(dict.fromkeys([*objective.student_taps(), *taps]))
        self.stops_early = bool(every) and not (logits or objective.needs_student_logits())
        self._call, self._frozen = call, frozenset(frozen)
        self._tapped = Tapped(model, every, stop_early=self.stops_early) if every else None
        # Not by plain assignment, which would register the model (or its compiled form) a second time.
        self.__dict__["_run"] = self._tapped or (_compiled(model) if compile_model else model)

    _run: Any
    stops_early: bool
    """Whether the end of the model is not run, because no term reads it."""

    def signals(self, batch: Batch) -> Signals:
        """What the model says about `batch`."""
        return self._call(self._run, batch)

    def forward(
        self, batch: Batch, teachers: Mapping[str, Signals], counts: Counts, gather: Gather | None = None
    ) -> tuple[Tensor, Tensor, Signals]:
        """The total to run backward on, each term's value, and the model's signals."""
        signals = self._call(self._run, batch)
        total, values = self.objective(signals, teachers, batch.labels, counts, gather, batch.mixed)
        return total, values, signals

    def still(self) -> frozenset[str]:
        """Names, in the model's state, of what never changes: the weights beside low-rank adapters."""
        if not self._frozen:
            return frozenset()
        own = dict(self.model.named_parameters())
        same = {id(own[name]) for name in self._frozen}  # a tied weight has several names
        return frozenset(name for name, value in self.model.state_dict(keep_vars=True).items() if id(value) in same)

    def changing(self) -> dict[str, Tensor]:
        """Its state without what never changes, for checkpoints: of a model with adapters the adapters."""
        still = {f"model.{name}" for name in self.still()}
        return {name: value for name, value in self.state_dict().items() if name not in still}

    def mark(self) -> int:
        """A checksum of some values of each weight that never changes, which tells other weights; 0 where all may change."""
        found = 0
        state = self.model.state_dict()
        for name in sorted(self.still()):
            flat = state[name].detach().reshape(-1)
            some = flat[:: max(len(flat) // _LOOKED_AT, 1)].float().cpu().numpy()
            found = zlib.crc32(some.tobytes(), zlib.crc32(name.encode(), found))
        return found

    def restore(self, state: Mapping[str, Tensor], mark: int) -> None:
        """Goes back to what `changing` gave.

        Args:
            state: the tensors.
            mark: what `mark` gave then.

        Raises:
            RunError: where the weights beside the adapters are others now, or a tensor is missing.
        """
        if mark and mark != self.mark():
            raise RunError(
                "the weights beside the adapters are not those that the run began with: the model's files have changed since. Put them "
                "back, or start the run again without --resume."
            )
        lost = self.load_state_dict(state, strict=False)
        missing = set(lost.missing_keys) - {f"model.{name}" for name in self.still()}
        if wrong := sorted(missing | set(lost.unexpected_keys)):
            raise RunError(f"the checkpoint is of another model: {', '.join(wrong[:3])}. Start the run again without --resume.")

    def train_only(self, patterns: Sequence[str]) -> None:
        """Freezes the model's parameters that match none of `patterns`; adapters and losses always learn.

        What never learns (the weights beside low-rank adapters) is frozen in any case.

        Raises:
            UnknownName: for a pattern that matches no parameter. A pattern may begin with a common name, such as `stage1.*`.
        """
        names = [name for name, _ in self.model.named_parameters() if name not in self._frozen]
        common = aliases(self.model, layer_paths(self.model))
        own = [expanded(pattern, common) for pattern in patterns]
        for pattern, path in zip(patterns, own, strict=True):
            if not any(_matches(name, path) for name in names):
                raise UnknownName("parameter", pattern, names, "`trainable` takes patterns such as 'layer4.*'.")
        for name, parameter in self.model.named_parameters():
            wanted = not own or any(_matches(name, path) for path in own)
            parameter.requires_grad_(wanted and name not in self._frozen)

    def close(self) -> None:
        """Releases the hooks on the model."""
        if self._tapped is not None:
            self._tapped.close()


def _compiled(model: nn.Module) -> Any:
    import torch

    return torch.compile(model)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith(pattern.rstrip(".") + ".")
