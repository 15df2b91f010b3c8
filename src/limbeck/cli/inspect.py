"""Show the layers of a model: what a tap can name.

Prints path, type, output shape, parameters and FLOPs of every layer. No weights are read; nothing is downloaded.

  limbeck inspect timm:resnet18                    with its usual input, 3 x 224 x 224
  limbeck inspect convnet --input 1,8,8 --classes 10 --arg channels=[32,64]
  limbeck inspect --recipe recipes/quickstart.yaml the models of a recipe, with its data
  limbeck inspect teacher --recipe recipe.yaml     one of them
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table
    from torch import nn

    from ..models.base import ModelRequest
    from ..models.inspect import LayerRow
    from ..types import DataInfo

KINDS = ("image", "tabular", "text")
USUAL_INPUT = {"timm": (3, 224, 224), "torchvision": (3, 224, 224), "hf": (32,), "mlp": (64,)}
"""Input of a model whose user gives none; 3 x 32 x 32 for any other."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="timm:NAME, torchvision:NAME, hf:ID_OR_FOLDER, convnet, module:callable, ..."
    )
    parser.add_argument("--recipe", metavar="RECIPE", help="show the models of a recipe; MODEL is then student, teacher, ...")
    parser.add_argument("--input", metavar="SHAPE", help="shape of one input, such as 3,32,32 (an image), 20 (columns or tokens)")
    parser.add_argument("--kind", choices=KINDS, help="what the input is; found from SHAPE and MODEL where absent")
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="number of outputs (default: 10)")
    parser.add_argument(
        "--arg", action="append", default=[], metavar="KEY=VALUE", help="an argument of the model, such as depth=56; repeatable"
    )
    parser.add_argument("--depth", type=int, default=2, metavar="N", help="show layers down to this nesting; 0 shows all (default: 2)")
    parser.add_argument("--allow-code", action="store_true", help="run module:callable, which is code of your own")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rich.console import Console
    from rich.measure import Measurement

    from ..models.inspect import layer_table
    from ..taps.aliases import aliases
    from ..taps.suggest import layer_paths

    console = Console()
    for title, module, inputs in _from_recipe(args) if args.recipe else _from_reference(args):
        rows = layer_table(module, inputs)
        table = _table(title, rows, args.depth)
        # as wide as it is: a path that is cut short could not be copied into a recipe
        wide = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console.width = max(console.width, wide)
        console.print(table, highlight=False, markup=False)
        console.print(_totals(rows, args.depth), highlight=False, soft_wrap=True)
        common = aliases(module, layer_paths(module))
        text = "names that mean the same in every model: " + ", ".join(f"{name} = {path}" for name, path in common.items())
        console.print(f"{text if common else ''}\n", highlight=False, markup=False, soft_wrap=True)
    console.print(
        "A recipe taps a layer by its path: student: [PATH]. PATH:input is what goes in, PATH:output.0 a part of a tuple,\n"
        "PATH@1 the second call of a layer that runs several times.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def _from_reference(args: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Any]]:
    from ..errors import LimbeckError
    from ..models.base import ModelRequest
    from ..types import DataInfo

    if not args.model:
        raise LimbeckError("name a model, such as `limbeck inspect convnet`, or give --recipe RECIPE.")
    shape = _shape(args.input, args.model)
    kind = args.kind or ("image" if len(shape) > 1 else "text" if args.model.startswith("hf:") else "tabular")
    info = DataInfo(kind, "class", args.classes, shape)
    yield args.model, *_built(ModelRequest(args.model, args=_arguments(args.arg)), info, allow_code=args.allow_code)


def _from_recipe(args: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Any]]:
    from .. import assemble
    from ..config.load import load_recipe
    from ..data.load import data_info
    from ..errors import UnknownName
    from ..run import recipe_file

    recipe = assemble.located(load_recipe(recipe_file(args.recipe), allow_code=args.allow_code))
    task = assemble.build_task(recipe, allow_code=args.allow_code)
    request = assemble.data_request(recipe.data, recipe)
    info = data_info(request, kind=task.data_kind, labels=task.labels, language=task.language, allow_code=args.allow_code)
    specs = {"student": recipe.student, **assemble.teacher_models(recipe, allow_code=args.allow_code), **recipe.models}
    if args.model and args.model not in specs:
        raise UnknownName("model of the recipe", args.model, specs)
    for name in [args.model] if args.model else specs:
        built = _built(assemble.model_request(specs[name]), info, allow_code=args.allow_code)
        yield f"{name}: {specs[name].model}", *built


def _built(request: ModelRequest, info: DataInfo, *, allow_code: bool) -> tuple[nn.Module, Any]:
    """The model and one example input, both without contents."""
    import torch

    from ..models.build import build_model

    with torch.device("meta"):
        module = build_model(request, info, allow_code=allow_code, load=False).module
        text = info.kind == "text"
        example = torch.zeros((1, *info.input_shape), dtype=torch.long if text else torch.float32)
    return module, {"input_ids": example} if text else example


def _shape(text: str | None, model: str) -> tuple[int, ...]:
    from ..errors import LimbeckError

    if text is None:
        return USUAL_INPUT.get(model.partition(":")[0], (3, 32, 32))
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise LimbeckError(f"--input is the shape of one input without the batch, such as 3,32,32; got {text!r}.")
    return tuple(int(part) for part in parts)


def _arguments(texts: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts, with values as in a recipe."""
    import yaml

    from ..errors import LimbeckError

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise LimbeckError(f"--arg is written KEY=VALUE, such as depth=56; got {text!r}.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise LimbeckError(f"--arg {text!r}: the value cannot be read; write it as in a recipe.") from error
    return found


def _table(title: str, rows: list[LayerRow], depth: int) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for name in ("type", "output (without batch)"):
        table.add_column(name, no_wrap=True)
    for name in ("parameters", "FLOPs", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    total = rows[0].flops
    for row in rows:
        if row.path and (not depth or row.depth <= depth):
            share = f"{row.flops / total:.0%}" if total and row.flops else ""
            table.add_row(row.path, row.type, _outputs(row), f"{row.parameters:,}", _short(row.flops), share)
    return table


def _outputs(row: LayerRow) -> str:
    if not row.calls:
        return "runs only through its layers" if row.parameters else "does not run"
    shapes: Mapping[str, tuple[int, ...]] = row.outputs
    texts = [(tap.partition(":output")[2] + " " if ":output" in tap else "") + " x ".join(map(str, s[1:])) for tap, s in shapes.items()]
    times = f"  (runs {row.calls} times)" if row.calls > 1 else ""
    return (", ".join(texts[:3]) + (", ..." if len(texts) > 3 else "") or "no tensor") + times


def _totals(rows: list[LayerRow], depth: int) -> str:
    whole = rows[0]
    hidden = sum(1 for row in rows if depth and row.depth > depth)
    more = f"; {hidden} deeper layers are not shown (--depth 0 shows all)" if hidden else ""
    return f"{whole.type}: {whole.parameters:,} parameters, {_short(whole.flops)} FLOPs for one example{more}"


def _short(count: int) -> str:
    """`1.82 G`; empty for zero."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count) if count else ""
