"""Write the JSON Schema of recipes, so that editors complete and check them.

Prints the schema, or writes it with --out. It covers every installed loss, also those of other packages. In editors
that use yaml-language-server (VS Code with the YAML extension, Neovim, Helix, ...) put this on the first line of a
recipe, with the path of the file that was written:

    # yaml-language-server: $schema=recipe.schema.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the schema to FILE instead of printing it")


def main(args: argparse.Namespace) -> int:
    """Prints or writes the schema."""
    import json

    from ..config.json_schema import recipe_schema
    from ..files import write_text

    text = json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    if args.out is None:
        sys.stdout.write(text)
        return 0
    write_text(args.out, text)
    print(f"wrote {args.out}")
    return 0
