"""The command. One file of this package is one subcommand, found by its name."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import Interrupted, LimbeckError, did_you_mean
from ..version import __version__

EPILOG = """\
first steps:
  limbeck run recipes/quickstart.yaml      distil on real data, a minute or so
  limbeck check recipe.yaml                every problem of a recipe at once
  limbeck COMMAND --help                   what a command takes

exit status: 0 fine, 2 a mistake that you can mend, 130 interrupted
LIMBECK_DEBUG=1 shows the traceback behind a message.
"""
ORDER = (
    "run",
    "study",
    "check",
    "plan",
    "recommend",
    "students",
    "teachers",
    "resolve",
    "inspect",
    "methods",
    "losses",
    "new",
    "schema",
    "eval",
    "export",
    "generate",
    "report",
    "compare",
    "label",
    "select",
    "store",
    "evidence",
    "parity",
    "doctor",
)


def commands() -> dict[str, Path]:
    """Name to file of every subcommand; built without importing any."""
    found = {f.stem: f for f in Path(__file__).parent.glob("*.py") if f.stem != "main" and not f.stem.startswith("_")}
    known = [name for name in ORDER if name in found]
    return {name: found[name] for name in [*known, *sorted(found.keys() - set(known))]}


def _doc(file: Path) -> tuple[str, str]:
    """First line and rest of a command's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first, _, rest = text.partition("\n")
    return first, rest.strip()


def _overview() -> str:
    lines = ["usage: limbeck COMMAND ...", "", "Distils any teacher into any student.", "", "commands:"]
    lines += [f"  {name:<9} {_doc(file)[0]}" for name, file in commands().items()]
    return "\n".join([*lines, "", EPILOG])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"limbeck {__version__}")
        return 0
    found = commands()
    if words[0] not in found:
        print(f"limbeck: no command is called {words[0]!r}.{did_you_mean(words[0], found)} `limbeck --help` lists them.", file=sys.stderr)
        return 2
    return _dispatch(words[0], found[words[0]], words[1:])


def _dispatch(name: str, file: Path, words: list[str]) -> int:
    first, rest = _doc(file)
    parser = argparse.ArgumentParser(
        prog=f"limbeck {name}", description=f"{first}\n\n{rest}".strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module = importlib.import_module(f"{__package__}.{name}")
    module.configure(parser)
    try:
        return module.main(parser.parse_args(words))
    except SystemExit as stop:
        return int(stop.code or 0)
    except Interrupted as error:
        print(f"\n{error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has gone; that is no mistake of anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except LimbeckError as error:
        if os.environ.get("LIMBECK_DEBUG"):
            raise
        print(f"limbeck {name}: {error}", file=sys.stderr)
        return 2


def entry() -> None:
    """The console script."""
    sys.exit(main())
