"""Checks what a recipe refers to: models, data, weights, files and local code. Nothing is imported, opened or fetched."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from ..data.sources import SOURCES
from ..errors import UnknownName, did_you_mean
from ..registry import Registry
from .marks import Node, Parts, Report, found

MODEL_SCHEMES = ("timm", "torchvision", "hf", "llama2c")
"""Libraries whose models a recipe can name, as `timm:NAME`."""
BUILT_IN_MODELS = Registry("built-in model", "limbeck.models.builtin", "Builtin")
NAMED_SCHEMES = ("sklearn", "torchvision", "hf", "python", "arithmetic")
"""Data sources that are asked by name; every other one reads files."""
JOINT = "joint"
"""The source of several data sets that are learnt together."""
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def find_path(text: str, folders: list[Path]) -> Path | None:
    """The first of `folders` (then the working directory) in which a relative path exists."""
    try:
        path = Path(text).expanduser()
        places = [path] if path.is_absolute() else [folder / path for folder in [*folders, Path.cwd()]]
        return next((place for place in places if place.exists()), None)
    except (OSError, ValueError, RuntimeError):
        return None


def folders_of(tree: Node, node: Node) -> list[Path]:
    """Folders against which a path in a recipe is resolved: that of the file which names it, that of the recipe."""
    sources = (node.mark.source, tree.mark.source)
    return list(dict.fromkeys(source.path.parent for source in sources if source.path is not None))


def check_code(report: Report, tree: Node, path: Parts, text: str, schemes: tuple[str, ...]) -> bool:
    """Whether `module:name` can name local code; a problem where its syntax or its module is wrong."""
    prefix, _, rest = text.partition(":")
    close = did_you_mean(prefix, schemes, count=1)
    if close and not _exists(prefix):
        nearest = close.split("'")[1]
        listed = ", ".join(f"{scheme}:" for scheme in schemes)
        report.at_value(tree, path, f"expected {listed} or module:name, found {found(text)}. Did you mean '{nearest}:{rest}'?")
        return False
    if not _CODE.fullmatch(text):
        listed = ", ".join([*(f"{scheme}:NAME" for scheme in schemes), "module:name"])
        report.at_value(tree, path, f"expected {listed}, found {found(text)}.")
        return False
    if not _exists(prefix):
        listed = f"{', '.join(f'{scheme}:' for scheme in schemes)} or " if schemes else ""
        report.at_value(
            tree, path, f"expected {listed}a Python module, found {prefix!r}, which is not installed and not in the working directory."
        )
        return False
    return True


def _exists(module: str) -> bool:
    """Whether a module can be found, without importing anything (of a dotted name: its first part)."""
    top = module.partition(".")[0]
    if not top.isidentifier():
        return False
    if top in sys.modules or Path(f"{top}.py").is_file() or Path(top).is_dir():
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def check_model(report: Report, tree: Node, path: Parts, node: Node) -> str | None:
    """Checks `model` and `weights` of a model; returns the local code that it names."""
    code: str | None = None
    name = node.get("model")
    if name is not None and name.text is not None:
        text, where = name.text, (*path, "model")
        prefix, colon, rest = text.partition(":")
        if not colon:
            known = BUILT_IN_MODELS.names()
            if text not in known:
                hint = "Models of libraries are written timm:NAME, torchvision:NAME or hf:NAME, your own module:callable."
                report.at_value(tree, where, str(UnknownName("built-in model", text, known, hint)))
        elif prefix not in MODEL_SCHEMES:
            code = text if check_code(report, tree, where, text, MODEL_SCHEMES) else None
        elif not rest.strip():
            report.at_value(tree, where, f"expected {prefix}:NAME, found {found(text)}.")
        elif _names_path(prefix, rest) and find_path(rest, folders_of(tree, name)) is None:
            what = "a file of llama2.c" if prefix == "llama2c" else "a folder with a model"
            report.at_value(tree, where, f"expected {what}, found {found(rest)}, which does not exist.")
    weights = node.get("weights")
    if weights is not None and weights.text is not None:
        _check_weights(report, tree, (*path, "weights"), weights, weights.text)
    prompt = node.get("prompt")
    weights = prompt.get("weights") if prompt is not None else None
    if weights is not None and weights.text is not None:
        _check_weights(report, tree, (*path, "prompt", "weights"), weights, weights.text, words=False)
    return code


def _check_weights(report: Report, tree: Node, path: Parts, node: Node, text: str, *, words: bool = True) -> None:
    """Checks where weights come from; with `words` it may also be one of the words that stand for some."""
    if words and (text in ("pretrained", "random") or (text.startswith("hub:") and text != "hub:")):
        return
    place = find_path(text, folders_of(tree, node)) if text else None
    if place is None:
        near = did_you_mean(text, ["pretrained", "random"], count=1) if words else ""
        hint = near or near_files(text, folders_of(tree, node))
        expected = "a weights file, a run directory, 'pretrained', 'random' or hub:ID" if words else "a weights file or a run directory"
        report.at_value(tree, path, f"expected {expected}, found {found(text)}, which does not exist.{hint}")
    elif place.is_file() and place.suffix not in WEIGHT_SUFFIXES:
        report.at_value(tree, path, f"expected a file ending in {', '.join(WEIGHT_SUFFIXES)}, found {found(text)}.")


def near_files(text: str, folders: list[Path]) -> str:
    """A suggestion from the folder in which a missing file was looked for."""
    try:
        wanted = Path(text).expanduser()
        for folder in [*folders, Path.cwd()]:
            place = (folder / wanted).parent
            names = [f.name for f in list(place.iterdir())[:1000]] if place.is_dir() else []
            if close := did_you_mean(wanted.name, names, count=1):
                return close
    except (OSError, ValueError, RuntimeError):
        return ""
    return ""


def check_source(report: Report, tree: Node, path: Parts, node: Node) -> str | None:
    """Checks a data source; returns the local code that it names."""
    text = node.text
    if text is None:
        return None
    scheme, colon, rest = text.partition(":")
    schemes = tuple(SOURCES.names())
    if text == JOINT:  # its data sets are checked one by one
        return None
    if not colon:
        listed = ", ".join(f"{name}:" for name in schemes)
        hint = near_source(text) or did_you_mean(text, schemes, count=1)
        report.at_value(tree, path, f"expected a source that begins with {listed} or module:callable, found {found(text)}.{hint}")
        return None
    if scheme not in schemes:
        return text if check_code(report, tree, path, text, schemes) else None
    if not rest.strip():
        what = "NAME" if scheme in NAMED_SCHEMES else "PATH"
        report.at_value(tree, path, f"expected {scheme}:{what}, found {found(text)}.")
    elif _names_path(scheme, rest) and find_path(rest, folders_of(tree, node)) is None:
        hint = near_files(rest, folders_of(tree, node))
        report.at_value(tree, path, f"expected a path that exists, found {found(rest)}, which does not.{hint}")
    return None


def _names_path(scheme: str, rest: str) -> bool:
    """Whether a source is read from the disk; an `hf:` id only where it looks like a path."""
    named = (*NAMED_SCHEMES, *MODEL_SCHEMES)
    return scheme not in named or scheme == "llama2c" or (scheme == "hf" and rest.startswith((".", "/", "~")))


def near_source(text: str) -> str:
    """A suggestion for a source without a scheme."""
    suffix = Path(text).suffix.lstrip(".") if "\0" not in text else ""
    return f" Did you mean '{suffix}:{text}'?" if suffix in SOURCES.names() else ""
