"""Say what a recipe will cost before anything is trained.

FLOPs of student and teachers, the teachers' share, peak memory, the time of every stage with live teachers and with stored ones, the bytes
of a store in every codec, and the epoch from which storing pays. Times come from a few real updates of each stage on this machine, which
takes some seconds.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ._common import add_recipe

if TYPE_CHECKING:
    from rich.table import Table

    from ..planning import Outlook, StorePlan


WIDTH = 120
"""Columns of the table where the terminal is narrower or there is none."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add_recipe(parser)
    parser.add_argument("--machines", type=int, default=1, metavar="N", help="also say what N machines like this one would take")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="timed updates a stage; more is more precise (default: 1)")
    parser.add_argument("--device", metavar="D", help="cpu, cuda, cuda:N or mps (default: the best that is there)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from dataclasses import asdict

    from rich.console import Console

    from ..engine.watch import Silent
    from ..errors import LimbeckError
    from ..planning import plan
    from ..run import recipe_file
    from ._show import print_json

    if args.machines < 1:
        raise LimbeckError(f"--machines must be at least 1, got {args.machines}.")
    if args.seconds <= 0:
        raise LimbeckError(f"--seconds must be greater than 0, got {args.seconds}.")
    with Console(stderr=True, quiet=args.json).status("reading ...") as status:

        class Telling(Silent):
            def message(self, text: str) -> None:
                status.update(text)

        found = plan(
            recipe_file(args.recipe),
            set=args.set,
            device=args.device,
            allow_code=args.allow_code,
            machines=args.machines,
            budget=args.seconds,
            listener=Telling(),
        )
    if args.json:
        print_json({"recipe": args.recipe, **asdict(found)})
    else:
        _show(found)
    return 0


def _show(found: Outlook) -> None:
    from rich.console import Console

    from ..store.manifest import TOKENS

    console = Console(highlight=False, width=max(Console().width, WIDTH))
    console.print(f"Stages on {found.device}; FLOPs of one example, two a multiply-add", soft_wrap=True)
    console.print(_stages(found))
    for store in found.stores:
        console.print(
            f"\nA store of {store.teacher!r}: {store.examples:,} {'documents' if TOKENS in store.signals else 'examples'}, one view",
            soft_wrap=True,
            markup=False,
        )
        console.print(_store(store))
    for line in [*_totals(found), *(f"note: {note}" for note in found.notes)]:
        console.print(line, soft_wrap=True, markup=False)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table


def _stages(found: Outlook) -> Table:
    table = _table("stage", "updates", "forward", "training", "teachers", "share", "memory", "update", "all", "stored")
    for stage in found.stages:
        table.add_row(
            stage.name + (f" x {stage.rounds}" if stage.rounds > 1 else ""),
            f"{stage.updates:,}",
            _short(stage.flops_forward),
            _short(stage.flops_training),
            _short(sum(stage.flops_teachers.values())) if stage.flops_teachers else "",
            f"{stage.teacher_share_of_time:.0%}" if stage.flops_teachers else "",
            _bytes(stage.peak_memory_bytes),
            f"{1000 * stage.seconds_per_update:.3g} ms",
            _seconds(stage.seconds),
            _seconds(stage.stored_seconds) if stage.stored_seconds is not None else "",
        )
    return table


def _store(store: StorePlan) -> Table:
    rows: dict[str, Any] = {name: about["bytes"] for name, about in store.signals.items()}
    table = _table("codec", *rows)
    shapes = [" x ".join(map(str, about["shape"])) for about in store.signals.values()]
    table.add_row("", *shapes)
    for codec in dict.fromkeys(codec for sizes in rows.values() for codec in sizes):
        table.add_row(codec, *(_bytes(sizes[codec]) if codec in sizes else "" for sizes in rows.values()))
    return table


def _totals(found: Outlook) -> list[str]:
    lines = [
        "",
        f"peak memory of tensors: {_bytes(found.peak_memory_bytes)}",
        f"a run with live teachers: {_seconds(found.total_seconds)}, of which training {_seconds(found.training_seconds)}, "
        f"set-up {_seconds(found.setup_seconds)}, results {_seconds(found.judging_seconds)}",
    ]
    if found.labelling_seconds is not None and found.stored_training_seconds is not None:
        first = f"training the teacher: {_seconds(found.teacher_training_seconds)}; " if found.teacher_training_seconds else ""
        labelled, then = _seconds(found.labelling_seconds), _seconds(found.stored_training_seconds)
        lines.append(f"{first}labelling one view: {labelled}; then training from the store: {then}")
        lines.append(_even(found.break_even_epochs))
    for more in found.machines:
        line = f"on {more.machines} machines: training {_seconds(more.training_seconds)}"
        if more.labelling_seconds is not None and more.stored_training_seconds is not None:
            line += f", labelling {_seconds(more.labelling_seconds)}, then training {_seconds(more.stored_training_seconds)}"
            line += "; " + _even(more.break_even_epochs)
        lines.append(line)
    return lines


def _even(epochs: float | None) -> str:
    return f"storing pays from epoch {epochs:.1f} of the student on" if epochs is not None else "storing never pays: reading costs as much"


def _short(count: int) -> str:
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"


def _seconds(value: float) -> str:
    if value >= 7200:
        return f"{value / 3600:,.1f} h"
    return f"{value / 60:.1f} min" if value >= 120 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
