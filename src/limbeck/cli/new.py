"""Start a new method: write a working loss, its test and its recipe.

`limbeck new loss NAME` writes three files that run as they are, to be changed into your method. Inside a checkout of Limbeck they
go where built-in losses live; anywhere else they go into the current folder and a recipe names the loss as `NAME:Class`.
Existing files are never overwritten.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    kinds = parser.add_subparsers(dest="what", metavar="KIND", required=True)
    loss = kinds.add_parser("loss", help="a loss, its test and its recipe", description=__doc__.partition("\n\n")[2] if __doc__ else "")
    loss.add_argument("name", metavar="NAME", help="its name in recipes, in snake_case")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    root = _checkout(Path.cwd())
    _check_name(args.name, inside=root is not None)
    files = _built_in(root, args.name) if root else _local(args.name)
    _write(files)
    for file in files:
        print(f"wrote {_shown(file)}")
    test, recipe = (_shown(file) for file in list(files)[1:])
    run = f"pytest {test}"
    if root:  # without files pytest would read all tests of Limbeck first
        run = " ".join(
            [f"pytest -k {args.name}", test, *(_shown(root / "tests" / f"test_{suite}.py") for suite in ("contract", "recipes"))]
        )
    print(f"\nAll three work as they are. Now put your method's formula into them, and see that they still do:\n\n  {run}")
    print(f"  limbeck run {recipe}" + ("" if root else " --allow-code"))
    return 0


def _checkout(folder: Path) -> Path | None:
    """The checkout of Limbeck that holds `folder`, if it lies in one."""
    import tomllib

    for parent in (folder, *folder.parents):
        project = parent / "pyproject.toml"
        if project.is_file():
            try:
                name = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                name = None
            return parent if name == "limbeck" and (parent / "src" / "limbeck" / "losses").is_dir() else None
    return None


def _check_name(name: str, *, inside: bool) -> None:
    import importlib.util
    import keyword
    import re

    from ..errors import LimbeckError
    from ..registry import LOSSES

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name) or name == "base":
        suggestion = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        hint = f" Try {suggestion!r}." if re.fullmatch(r"[a-z]\w*", suggestion) and suggestion not in (name, "base") else ""
        raise LimbeckError(f"the name of a loss must be in snake_case (letters, digits, underscores), found {name!r}.{hint}")
    if name in LOSSES.names():
        raise LimbeckError(f"there is a loss called {name!r} already; see it with 'limbeck losses show {name}', or pick another name.")
    if not inside and not Path(f"{name}.py").exists() and importlib.util.find_spec(name) is not None:
        raise LimbeckError(f"{name!r} is the name of an installed Python module, which the file {name}.py would hide; pick another name.")


def _built_in(root: Path, name: str) -> dict[Path, str]:
    class_name = _class_name(name)
    imports = f"from limbeck.losses.{name} import {class_name}, {_function(name)}\nfrom limbeck.types import Signals"
    return {
        root / "src" / "limbeck" / "losses" / f"{name}.py": _fill("loss", name, imports=_BUILT_IN_IMPORTS),
        root / "tests" / "losses" / f"test_{name}.py": _fill("test", name, imports=_TEST_IMPORTS + imports, contract_title=""),
        root / "recipes" / "classification" / f"{name}.yaml": _fill("recipe", name, reference=name),
    }


def _local(name: str) -> dict[Path, str]:
    class_name = _class_name(name)
    imports = (
        f"from limbeck.testing import check_loss\nfrom limbeck.types import Signals\nfrom {name} import {class_name}, {_function(name)}"
    )
    contract = f"\n\ndef test_contract():\n    check_loss({class_name})\n"
    folder = Path.cwd()
    return {
        folder / f"{name}.py": _fill("loss", name, imports=_LOCAL_IMPORTS),
        folder / f"test_{name}.py": _fill("test", name, imports=_TEST_IMPORTS + imports, contract_title=", contract") + contract,
        folder / f"{name}.yaml": _fill("recipe", name, reference=f"{name}:{class_name}"),
    }


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _function(name: str) -> str:
    return f"{name}_value"


def _fill(template: str, name: str, **values: str) -> str:
    from string import Template

    text = (Path(__file__).parent / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    title = name.replace("_", " ").capitalize()
    return Template(text).substitute(title=title, label=name, class_name=_class_name(name), function=_function(name), **values)


def _write(files: dict[Path, str]) -> None:
    from ..errors import LimbeckError

    taken = [_shown(file) for file in files if file.exists()]
    if taken:
        raise LimbeckError(
            f"{' and '.join(taken)} exist already and are not overwritten; nothing was written. Pick another name or move them."
        )
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            raise LimbeckError(f"{_shown(file)} cannot be written: {error.strerror}.") from error


def _shown(file: Path) -> str:
    return os.path.relpath(file)


_BUILT_IN_IMPORTS = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..ops.precision import widen
from ..types import Needs, Positive, Signals
from .base import Loss, logit_pair"""

_LOCAL_IMPORTS = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import final

from limbeck.losses.base import Loss, logit_pair
from limbeck.ops.precision import widen
from limbeck.types import Needs, Positive, Signals
from torch import Tensor"""

_TEST_IMPORTS = """\
from __future__ import annotations

import math

import pytest
import torch

"""
