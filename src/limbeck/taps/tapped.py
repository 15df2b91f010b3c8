"""Runs a model and reads the tapped values along the way."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import TapError
from .capture import Capture, InputHook, OutputHook, Stop, version_of
from .path import Tap, parse_tap
from .suggest import explain_missing, with_aliases

_Mode = tuple[bool, bool, bool]  # training, gradients, inference mode: in each, a model may overwrite other values


class Tapped:
    """A model together with the taps that are read at every forward.

    Values are right even where the model overwrites them later (`relu_`, `+=`). The first forward copies every value
    and learns which of them the model overwrites; later forwards copy only those and check the others by their
    version counter. A value that is overwritten all the same is repaired by running the forward again, with the same
    random numbers and without touching the model's buffers twice.

    The hooks are set once. Outside a call of this object they do nothing; `close`, or the end of the object, removes
    them. A deep copy of the model carries no working hook; a deep copy of this object taps the copied model.

    Args:
        module: the model, as it is: any wrapper (distribution, precision) goes around whatever calls this object.
        taps: see `parse_tap`.
        stop_early: end the forward after the last tap; the output is then None. Before the first forward in training and in
            evaluation mode the model is rehearsed once to its end, without a trace, to see what it does with the tapped values.

    Raises:
        TapError: for every tap that cannot be read or names no layer, all at once.
    """

    def __init__(self, module: nn.Module, taps: Sequence[str], *, stop_early: bool = False) -> None:
        self.module, self.taps, self.stop_early = module, tuple(dict.fromkeys(taps)), stop_early
        layers = with_aliases(module)
        self._parsed = _parse(self.taps, layers)
        self._capture = Capture()
        self._modes: dict[_Mode, list[bool]] = {}
        self._all = [True] * len(self.taps)
        self._once = [1] * len(self.taps)
        handles = [self._attach(layers[tap.path], slot, tap) for slot, tap in enumerate(self._parsed)]
        self._remove = weakref.finalize(self, _remove_all, handles)
        self._remove.atexit = False

    def _attach(self, layer: nn.Module, slot: int, tap: Tap) -> RemovableHandle:
        text = self.taps[slot]
        if tap.side == "output":
            return layer.register_forward_hook(OutputHook(self._capture, slot, tap, text))
        return layer.register_forward_pre_hook(InputHook(self._capture, slot, tap, text), with_kwargs=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.module, self.taps, self.stop_early))

    def close(self) -> None:
        """Removes the hooks; the object cannot be called afterwards."""
        self._remove()

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """Calls the model.

        Returns:
            Its output (None where the forward ended early), and the value of each tap by its text, in the order of the taps.

        Raises:
            TapError: where a tapped layer did not run, ran several times without `@CALL`, or gave no tensor.
        """
        if not self.taps:
            return self.module(*args, **kwargs), {}
        if not self._remove.alive:
            raise TapError("this Tapped is closed; make another one.")
        mode = (self.module.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        clone = self._modes.get(mode)
        try:
            if clone is None and self.stop_early:
                clone = self._rehearse(mode, args, kwargs)
            output = self._learn(mode, args, kwargs) if clone is None else self._run(clone, args, kwargs)
            return output, dict(zip(self.taps, self._capture.values, strict=True))
        finally:
            self._capture.end()

    def _learn(self, mode: _Mode, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The first forward in a mode: copies all, and sees what was overwritten."""
        self._capture.begin(self._all, learn=True, stop=False)
        output = self.module(*args, **kwargs)
        self._check_calls()
        self._modes[mode] = self._capture.learned()
        return output

    def _rehearse(self, mode: _Mode, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[bool]:
        """A whole forward that leaves no trace.

        The layers after the last tap never run otherwise; were they run for real once, their buffers and the random numbers
        would depend on where training was interrupted and went on.
        """
        before = _Before(self.module, args, kwargs)
        copies = [_copy(x) for x in args], {name: _copy(x) for name, x in kwargs.items()}
        self._capture.begin(self._all, learn=True, stop=False)
        torch.func.functional_call(self.module, self._buffers(), tuple(copies[0]), copies[1])
        self._check_calls()
        self._modes[mode] = self._capture.learned()
        before.restore_rng()
        return self._modes[mode]

    def _buffers(self) -> dict[str, Tensor]:
        """Copies of the model's buffers, for a forward that must not move them."""
        return {name: buffer.clone() for name, buffer in self.module.named_buffers()}

    def _run(self, clone: list[bool], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Every other forward."""
        capture, before = self._capture, _Before(self.module, args, kwargs)
        capture.begin(clone, learn=False, stop=self.stop_early)
        output = self._forward(self.module, args, kwargs)
        if capture.left or capture.calls != self._once:
            self._check_calls()
        changed = capture.overwritten()
        if not changed:
            return output
        for slot in changed:
            clone[slot] = True
        if before.inputs_changed():
            names = ", ".join(repr(self.taps[slot]) for slot in changed)
            raise TapError(f"the model overwrote the tapped {names} for the first time, and its own input too, so it cannot be run again.")
        return self._repair(before, args, kwargs)

    def _forward(self, module: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return module(*args, **kwargs)
        except Stop as stop:
            if stop.capture is not self._capture:
                raise
            return None

    def _repair(self, before: _Before, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs the same forward again, copying everything; buffers keep what the first run made of them."""
        buffers = self._buffers()
        before.restore_rng()
        self._capture.begin(self._all, learn=False, stop=self.stop_early)

        def again(*a: Any, **k: Any) -> Any:
            return torch.func.functional_call(self.module, buffers, a, k)

        output = self._forward(again, args, kwargs)
        self._check_calls()
        return output

    def _check_calls(self) -> None:
        """Every tap must have been read exactly once, or at the call that it names."""
        for tap, text, calls in zip(self._parsed, self.taps, self._capture.calls, strict=True):
            if calls == 0:
                raise TapError(f"tap {text!r}: the layer did not run in this forward, so there is nothing to read.")
            if tap.call is None and calls > 1:
                raise TapError(f"tap {text!r}: the layer ran {calls} times in one forward; say which: {text}@0 to {text}@{calls - 1}.")
            if tap.call is not None and calls <= tap.call:
                times = "once" if calls == 1 else f"{calls} times"
                raise TapError(f"tap {text!r}: the layer ran {times} in this forward; calls are counted from @0.")


class _Before:
    """What a forward needs to be repeated exactly: the state of the random numbers, and proof that its inputs are unchanged."""

    __slots__ = ("cpu", "cuda", "versions")

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.cpu = self.cuda = None
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        self.versions = [(x, version_of(x)) for x in tensors]
        if module.training:  # in evaluation mode a forward draws no random numbers
            self.cpu = torch.get_rng_state()
            first = tensors[0] if tensors else next(module.parameters(), None)
            if first is not None and first.device.type == "cuda":
                self.cuda = (first.device, torch.cuda.get_rng_state(first.device))

    def inputs_changed(self) -> bool:
        return any(version_of(x) != version for x, version in self.versions)

    def restore_rng(self) -> None:
        if self.cpu is not None:
            torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda[1], self.cuda[0])


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _parse(taps: Sequence[str], layers: Mapping[str, nn.Module]) -> list[Tap]:
    parsed, problems = [], []
    for text in taps:
        try:
            tap = parse_tap(text)
        except TapError as error:
            problems.append(str(error))
            continue
        parsed.append(tap)
        if tap.path not in layers:
            problems.append(f"tap {text!r}: {explain_missing(tap.path, layers)}")
        elif isinstance(layers[tap.path], (nn.ModuleList, nn.ModuleDict)):
            inner = next((name for name, _ in layers[tap.path].named_children()), "0")
            problems.append(
                f"tap {text!r}: a {type(layers[tap.path]).__name__} never runs itself; tap a layer in it, such as {tap.path}.{inner}."
            )
    if problems:
        raise TapError("\n".join(problems))
    return parsed


def _remove_all(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _rebuild(module: nn.Module, taps: Sequence[str], stop_early: bool) -> Tapped:
    return Tapped(module, taps, stop_early=stop_early)


def shapes(module: nn.Module, taps: Sequence[str], call: Callable[[Tapped], Mapping[str, Tensor]]) -> dict[str, torch.Size]:
    """Shape of each tapped value, without a gradient and leaving no hook behind; works on the meta device.

    Args:
        module: the model.
        taps: what to read.
        call: calls the `Tapped` that it is given on example inputs and returns the tapped values by tap.
    """
    tapped = Tapped(module, taps)
    try:
        with torch.no_grad():
            return {tap: value.shape for tap, value in call(tapped).items()}
    finally:
        tapped.close()
