"""Reads and writes weights; never runs code that a file holds."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251 - only for the name of its error
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MissingDependency, ModelError, RunError, did_you_mean
from .base import Normalization
from .names import rename, suggest_prefix

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_NESTED = ("state_dict", "model", "model_state_dict", "module", "net")
_IN_RUN = ("student/model.safetensors", "model.safetensors")


def find_weights(weights: str) -> Path:
    """The file behind a `weights` entry: the file itself, a run directory's student, or a download for `hub:ID`.

    Raises:
        ModelError: where there is none.
    """
    if weights.startswith("hub:"):
        return _from_hub(weights[len("hub:") :])
    path = Path(weights).expanduser()
    if path.is_dir():
        for name in _IN_RUN:
            if (path / name).is_file():
                return path / name
        raise ModelError(f"{path} is a folder without weights: expected {' or '.join(_IN_RUN)} in it. Has the run finished?")
    if not path.exists():
        beside = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(str(path), beside)
        raise ModelError(f"weights {weights!r}: there is no such file or folder (looked in {path.absolute().parent}).{hint}")
    return path


def _from_hub(reference: str) -> Path:
    """Downloads `OWNER/NAME` (its model.safetensors) or `OWNER/NAME/FILE.safetensors`."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependency("huggingface_hub", "text", "hub:ID") from error
    parts = reference.split("/")
    repository, name = "/".join(parts[:2]), "/".join(parts[2:]) or "model.safetensors"
    if not name.endswith(".safetensors"):
        raise ModelError(f"hub:{reference}: only .safetensors files are taken from a hub, got {name!r}.")
    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:
        raise fetch_error(f"hub:{reference}", error) from error


def fetch_error(reference: str, error: Exception) -> ModelError:
    """The error for weights or a configuration that a library could not fetch."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return ModelError(
        f"{reference} could not be fetched: {type(error).__name__}: {first} "
        "Check the name and the connection; without one, download it elsewhere and give the local file or folder."
    )


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Names and tensors of a `.safetensors` file, of a `.pt`/`.pth` file, or of a run directory; on the CPU.

    A state dict nested under `state_dict` or `model` is found. A file whose reading would run code is refused.

    Raises:
        ModelError: where the file cannot be read or holds no state dict.
    """
    path = find_weights(str(path))
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in _TORCH_SUFFIXES:
        raise ModelError(f"{path}: expected a .safetensors or {', '.join(_TORCH_SUFFIXES)} file of weights.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors: reading it would run code from the file, which is refused. Convert it where you trust it: "
            "torch.save(model.state_dict(), 'weights.pt'), or safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except Exception as error:
        raise ModelError(f"{path} cannot be read: {type(error).__name__}: {_first_line(error)} Is the file complete?") from error
    return _tensors(content, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {_first_line(error)} Is the file complete?") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what `torch.load` gave."""
    if isinstance(content, Mapping):
        found = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        nested = [k for k in _NESTED if isinstance(content.get(k), Mapping)]
        if nested and not found:
            return _tensors(content[nested[0]], path)
        if found:
            return found
        keys = ", ".join(repr(k) for k in list(content)[:10])
        raise ModelError(f"{path} holds no state dict: its keys are {keys}; expected tensors by name, or one of {', '.join(_NESTED)}.")
    raise ModelError(f"{path} holds a {type(content).__name__}, expected a state dict (tensors by name).")


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], *, prefix: Mapping[str, str] | None = None, source: str, fresh_head: bool = False
) -> list[str]:
    """Copies `state` into `module`; every name and shape must agree.

    Args:
        module: takes the weights, in place.
        state: tensors by name.
        prefix: renames beginnings of names first; the longest that fits counts.
        source: where the weights come from, for messages.
        fresh_head: leave parameters as they are whose first dimension alone differs (the head, for another number of classes).

    Returns:
        The names that were left as they are.

    Raises:
        ModelError: with all names that are missing, left over or of another shape, and the `prefix` that would help.
    """
    renamed = rename(state, prefix or {}, source)
    own = module.state_dict()
    mismatched = [k for k in renamed if k in own and renamed[k].shape != own[k].shape]
    fresh = [k for k in mismatched if fresh_head and _only_first_differs(renamed[k], own[k])]
    missing = [k for k in own if k not in renamed and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in renamed if k not in own]
    problems = _problems(own, renamed, missing, unexpected, [k for k in mismatched if k not in fresh])
    if problems:
        hint = suggest_prefix(list(own), list(state)) if missing or unexpected else ""
        raise ModelError("\n".join([f"the weights in {source} do not fit {type(module).__name__}:", *problems, *([hint] if hint else [])]))
    module.load_state_dict({k: v for k, v in renamed.items() if k not in fresh}, strict=False)
    return fresh


def _only_first_differs(a: Tensor, b: Tensor) -> bool:
    return a.ndim == b.ndim and a.ndim > 0 and a.shape[1:] == b.shape[1:]


def _problems(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], missing: list[str], unexpected: list[str], mismatched: list[str]
) -> list[str]:
    lines = []
    if missing:
        lines.append(f"  {len(missing)} of the model's {len(own)} names are missing: {_some(missing)}")
    if unexpected:
        near = did_you_mean(unexpected[0], missing, count=1) if missing else ""
        lines.append(f"  {len(unexpected)} names are not in the model: {_some(unexpected)}{near and f' ({unexpected[0]}:{near})'}")
    for name in mismatched[:5]:
        line = f"  {name}: the file has shape {tuple(given[name].shape)}, the model {tuple(own[name].shape)}"
        if _only_first_differs(given[name], own[name]):
            line += "; another number of outputs? Give the model the number of classes of the weights (args), or other weights"
        lines.append(line)
    if len(mismatched) > 5:
        lines.append(f"  and {len(mismatched) - 5} more shapes differ")
    return lines


def _some(names: list[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (f", and {len(names) - count} more" if len(names) > count else "")


def save_weights(module_or_state: nn.Module | Mapping[str, Tensor], path: Path | str) -> None:
    """Writes a safetensors file, whole or not at all. Tensors that share memory are written once each.

    Raises:
        RunError: where the file cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    state = module_or_state.state_dict() if isinstance(module_or_state, nn.Module) else module_or_state
    data = save({k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, metadata={"format": "pt"})
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {error.strerror or error}. Is there space, and may you write there?") from error


def saved_normalization(weights: str) -> Normalization | None:
    """The normalisation that a run directory states beside its student; None for other weights."""
    if weights.startswith("hub:"):
        return None
    path = Path(weights).expanduser()
    for card in (path / "student" / "model.json", path / "model.json", path.parent / "model.json"):
        if card.is_file() and (path.is_dir() or path.name == "model.safetensors"):
            try:
                stated = json.loads(card.read_text(encoding="utf-8")).get("normalization")
                return Normalization(tuple(stated["mean"]), tuple(stated["std"])) if stated else None
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise ModelError(f"{card} cannot be read as a model card: {_first_line(error)}") from error
    return None
