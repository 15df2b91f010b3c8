"""The only file that knows Accelerate: devices, processes, precision, trackers.

A teacher never goes through here: it is no part of what is wrapped, averaged or saved.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn

from ..errors import LimbeckError, MissingDependency

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: str) -> None:
    """Refuses fp16 where there is no hardware for it, before anything is loaded."""
    if precision == "fp16" and device == "cpu":
        raise LimbeckError("fp16 needs a GPU, found the CPU. Use bf16 or fp32.")


def pick_device(wanted: str | None) -> str:
    """The kind of device that will be used: `cpu`, `cuda` or `mps`.

    Raises:
        LimbeckError: where the wanted device is not there.
    """
    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted in (None, "auto"):
        return found
    kind = str(wanted).split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise LimbeckError(f"--device: expected auto, cpu, cuda, cuda:N or mps, found {wanted!r}.")
    if kind not in ("cpu", found):
        raise LimbeckError(f"--device: {wanted!r} was asked for, but this machine offers {found!r} only. `limbeck doctor` tells why.")
    return kind


def keep_memory() -> None:
    """Lets the C library keep the memory that a step frees, for the next step.

    By default glibc hands the top of its heap back to the system as soon as enough of it is free, and the next step pays
    for every page of it again: several per cent of a step that captures features. Only on Linux with glibc; whoever
    set MALLOC_TRIM_THRESHOLD_ has decided otherwise.
    """
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt(trim_threshold, 1 << 30)
    mallopt(mmap_threshold, 1 << 25)  # the largest that glibc allows


class Backend:
    """One process or many behind one interface."""

    def __init__(
        self,
        *,
        precision: Precision = "fp32",
        device: str | None = None,
        trackers: Sequence[str] = (),
    ) -> None:
        kind = pick_device(device)
        check_precision(precision, kind)
        check_trackers(trackers)
        if kind == "cuda" and device and ":" in device:
            torch.cuda.set_device(torch.device(device))
        if kind == "cpu":
            keep_memory()
        self._ddp = DistributedDataParallelKwargs()
        self._accelerator = _fresh_accelerator(precision, kind, trackers, self._ddp)
        self.precision: Precision = precision
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        self.is_main: bool = self._accelerator.is_main_process
        self._clips = precision == "fp16"

    # models and optimizers

    def prepare(self, module: nn.Module, *, find_unused: bool = False) -> nn.Module:
        """Wraps a trainable module for the processes at hand.

        Args:
            find_unused: whether its forward may leave out parameters that learn.
        """
        if self.world == 1:
            return module.to(self.device)
        self._ddp.find_unused_parameters = find_unused
        return self._accelerator.prepare_model(module.to(self.device))

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """Adds loss scaling to an optimizer where the precision asks for it."""
        return self._accelerator.prepare_optimizer(optimizer, device_placement=False) if self._clips else optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision of the learner's forward."""
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype) if dtype else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Backward, scaled under fp16."""
        if self._clips:
            self._accelerator.backward(loss)
        else:
            loss.backward()

    def clip(self, optimizer: Any, parameters: Sequence[Tensor], norm: float) -> None:
        """Clips the gradient's norm, unscaled first under fp16."""
        if self._clips:
            self._accelerator.unscale_gradients(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, norm)

    def step(self, optimizers: Sequence[Any]) -> None:
        """Steps several optimizers whose gradients come from one backward."""
        scaler = self._accelerator.scaler if self._clips else None
        for optimizer in optimizers:
            if scaler is None:
                optimizer.step()
            else:  # Accelerate would change the scale after the first, and the gradients of the others still have the old one
                scaler.step(optimizer.optimizer)
        if scaler is not None:
            scaler.update()

    def no_sync(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Holds back the gradient exchange until the last forward pass of an update."""
        return nullcontext() if last or self.world == 1 else self._accelerator.no_sync(module)

    def scaler_state(self) -> dict[str, Any]:
        """State of the loss scaler, empty without one."""
        scaler = self._accelerator.scaler
        return dict(scaler.state_dict()) if scaler is not None else {}

    def load_scaler(self, state: Mapping[str, Any]) -> None:
        """Restores the loss scaler."""
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(dict(state))

    # processes

    def sum(self, value: Tensor) -> Tensor:
        """Sum over processes."""
        return value if self.world == 1 else self._accelerator.reduce(value, "sum")  # pyright: ignore[reportReturnType]

    def gather(self, value: Tensor) -> Tensor:
        """All processes' values, joined along the batch, which may differ in size; only the own part has a gradient."""
        if self.world == 1:
            return value
        sizes = self._accelerator.gather(torch.tensor([value.shape[0]], device=self.device)).tolist()  # pyright: ignore[reportAttributeAccessIssue]
        padded = value.detach().new_zeros((max(sizes), *value.shape[1:]))
        padded[: value.shape[0]] = value.detach()
        joined: Tensor = self._accelerator.gather(padded.contiguous())  # pyright: ignore[reportAssignmentType]
        parts = [part[:size] for part, size in zip(joined.split(max(sizes)), sizes, strict=True)]
        parts[self.rank] = value
        return torch.cat(parts)

    def gather_objects(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the processes."""
        return [value] if self.world == 1 else gather_object([value])

    def broadcast_object(self, value: Any) -> Any:
        """The main process's value, on every process."""
        return value if self.world == 1 else broadcast_object_list([value])[0]

    def wait(self) -> None:
        """Waits for all processes."""
        self._accelerator.wait_for_everyone()

    # trackers

    @contextmanager
    def tracking(self, folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
        """Opens the trackers for the time of a run; those that write files write below `folder`."""
        if not self._accelerator.log_with:
            yield
            return
        self._accelerator.project_configuration.project_dir = str(folder)
        self._accelerator.project_configuration.logging_dir = str(folder)
        self._accelerator.init_trackers("limbeck", {key: value for key, value in config.items() if value is not None})
        try:
            yield
        finally:
            self._accelerator.end_training()

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Sends values to the trackers."""
        if self._accelerator.trackers:
            self._accelerator.log(dict(values), step=step)


def check_trackers(trackers: Sequence[str]) -> None:
    """Refuses a tracker whose package is missing; Accelerate would leave it out without a word."""
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise MissingDependency(name, "track", f"track: [{name}]")


def _fresh_accelerator(precision: str, kind: str, trackers: Sequence[str], ddp: DistributedDataParallelKwargs) -> Accelerator:
    from accelerate.state import AcceleratorState

    # Accelerate keeps precision and device in process-wide state; without this, a second run in one process would
    # inherit (or refuse) the settings of the first.
    AcceleratorState._reset_state(reset_partial_state=False)  # noqa: SLF001 - there is no public way
    return Accelerator(
        mixed_precision={"fp32": "no"}.get(precision, precision),
        cpu=kind == "cpu",
        log_with=list(trackers) or None,
        # A tracker of files wants to know its folder here, though it is chosen later, once all processes agree on it.
        project_dir="runs" if trackers else None,
        kwargs_handlers=[ddp],
        step_scheduler_with_optimizer=False,
    )
