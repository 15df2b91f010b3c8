"""The hooks behind `Tapped`: what happens at a tapped layer while the model runs."""

# ruff: noqa: SLF001  (torch's version counter of a tensor, `_version`, has no public name)

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import TapError
from .path import Tap, key_examples, pick, summary


class Stop(BaseException):
    """Ends a forward whose taps are all read; no `Exception`, so that no model swallows it."""

    def __init__(self, capture: Capture) -> None:
        super().__init__("the forward ended after its last tap")
        self.capture = capture


class Capture:
    """What the hooks of one `Tapped` share during a forward; slot i belongs to tap i."""

    __slots__ = ("active", "calls", "clone", "left", "originals", "stop", "values", "versions")

    def __init__(self) -> None:
        self.active = False
        self.end()

    def begin(self, clone: list[bool], *, learn: bool, stop: bool) -> None:
        """Makes ready for a forward.

        Args:
            clone: for each slot, whether a later in-place operation is known to overwrite it.
            learn: keep the original beside the clone, to see later which were overwritten.
            stop: end the forward as soon as every slot is filled.
        """
        count = len(clone)
        self.values: list[Any] = [None] * count
        self.versions: list[int | None] = [None] * count
        self.calls = [0] * count
        self.originals: list[tuple[Tensor, int] | None] | None = list(self.values) if learn else None
        self.clone, self.left, self.stop, self.active = clone, count, stop, True

    def end(self) -> None:
        """Lets go of everything, so that no tensor outlives its step here."""
        self.active = self.stop = False
        self.values, self.versions, self.calls, self.clone, self.originals, self.left = [], [], [], [], None, 0

    def overwritten(self) -> list[int]:
        """Slots whose value an in-place operation changed after it was read, and which hold no copy."""
        found = []
        for slot, version in enumerate(self.versions):
            if version is not None and self.values[slot]._version != version:
                found.append(slot)
        return found

    def learned(self) -> list[bool]:
        """For each slot, whether it must be copied; where it need not be, the original takes the place of the copy."""
        must = []
        for slot, kept in enumerate(self.originals or []):
            changed = kept is not None and (kept[1] < 0 or kept[0]._version != kept[1])
            if kept is not None and not changed:
                self.values[slot] = kept[0]
            must.append(changed)
        return must


class Hook:
    """Reads one tap. Copying or pickling the model leaves an inert function in its place."""

    __slots__ = ("call", "capture", "keys", "simple", "slot", "tap", "text")

    def __init__(self, capture: Capture, slot: int, tap: Tap, text: str) -> None:
        self.capture, self.slot, self.tap, self.text = capture, slot, tap, text
        self.call, self.keys = tap.call or 0, tap.keys
        self.simple = not self.call and not self.keys

    def __reduce__(self) -> tuple[Any, ...]:
        return (_inert, ())

    def take(self, value: Any) -> None:
        """Keeps `value`, if this is the call to read."""
        capture, slot = self.capture, self.slot
        call = capture.calls[slot]
        capture.calls[slot] = call + 1
        if call != self.call:
            return
        if self.keys:
            value = pick(value, self.keys, self.text)
        if not isinstance(value, Tensor):
            raise self._no_tensor(value)
        if capture.clone[slot]:
            if capture.originals is not None:
                # inference tensors carry no version: they are always copied
                capture.originals[slot] = (value, version_of(value))
            value = value.clone()
        else:
            capture.versions[slot] = value._version
        capture.values[slot] = value
        capture.left -= 1
        if not capture.left and capture.stop:
            raise Stop(capture)

    def _no_tensor(self, value: Any) -> TapError:
        examples = key_examples(value, self.tap)
        hint = f" Write one of {', '.join(examples[:6])}." if examples else " Tap a layer inside or after it."
        return TapError(f"tap {self.text!r}: expected a tensor, the layer's {self.tap.side} is {summary(value)}.{hint}")


class OutputHook(Hook):
    """Called after the layer."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """What torch calls. The usual case is written out here, because it runs at every layer of every step."""
        capture, slot = self.capture, self.slot
        if not capture.active:
            return
        if self.simple and not capture.clone[slot] and not capture.calls[slot] and isinstance(output, Tensor):
            capture.calls[slot] = 1
            capture.values[slot] = output
            capture.versions[slot] = output._version
            capture.left -= 1
            if not capture.left and capture.stop:
                raise Stop(capture)
        else:
            self.take(output)


class InputHook(Hook):
    """Called before the layer."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What torch calls."""
        if self.capture.active:
            if not args and not kwargs:
                raise TapError(f"tap {self.text!r}: the layer is called without arguments, so it has no input.")
            self.take(args[0] if args else next(iter(kwargs.values())))


def version_of(tensor: Tensor) -> int:
    """How often `tensor` was changed in place; -1 where torch does not count it."""
    return -1 if tensor.is_inference() else tensor._version


def _nothing(*_: Any) -> None:
    """A hook that does nothing."""


def _inert() -> Any:
    return _nothing
