"""Export the student of a run for use elsewhere.

The student leaves without the adapters and losses of its training. What is written is read back and compared with the PyTorch student
on random inputs; the largest difference is printed, and too large a one is an error.

formats:
  safetensors  folder with the weights and a card (model.json) that states architecture, normalisation and classes
  onnx         one file; input normalisation included, batch size free; checked in ONNX Runtime
  pt2          one file of torch.export; runs without the Python source of the model
  hf           folder that transformers or timm loads by itself (students hf:... and timm:...)
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of a finished run")
    formats = ("safetensors", "onnx", "pt2", "hf")
    parser.add_argument("--to", required=True, choices=formats, metavar="FORMAT", help="safetensors, onnx, pt2 or hf")
    parser.add_argument("--out", type=Path, metavar="PATH", help="file (onnx, pt2) or new folder; default: under RUN/export/")
    text = "largest difference allowed, relative to the largest output or 1 (default: %(default)s)"
    parser.add_argument("--tolerance", type=float, default=1e-4, metavar="X", help=text)
    parser.add_argument("--allow-code", action="store_true", help="let a student that is code of your own (module:callable) be imported")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..export import export_run

    result = export_run(args.run, args.to, args.out, tolerance=args.tolerance, allow_code=args.allow_code)
    print(f"{result.path}  ({result.size_bytes:,} bytes; inputs: {', '.join(result.inputs)})")
    if result.checked:
        sizes = ", ".join(map(str, result.checked))
        print(f"largest difference to the PyTorch student: {result.difference:.3g} (outputs up to {result.scale:.3g}; batch sizes {sizes})")
    else:
        print("the copy was read back and is the same, byte for byte")
    print(result.note)
    return 0
