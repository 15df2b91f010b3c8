"""Let the student of a language run write after prompts of your own.

RUN is a run folder. The student always takes the likeliest token. Chats are not put into a template: write the prompt as it is to read it.
With --large and --base the student steers a larger model, which has not learnt what it has: at every token the large one is moved as
training has moved the small one.
"""

from __future__ import annotations

import argparse
import json

from ._company import add_company, company_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--prompt", metavar="TEXT", action="append", required=True, help="what it goes on from; may be given several times")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="most tokens that are written (default: 64)")
    add_company(parser)
    parser.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda, cuda:N or mps (default: cpu)")
    parser.add_argument("--allow-code", action="store_true", help="run code of your own that the student is")
    parser.add_argument("--json", action="store_true", help="one JSON list of texts on standard output")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    from ..generating import generate

    company = company_of(args)
    texts = generate(args.run, args.prompt, tokens=max(args.tokens, 1), company=company, device=args.device, allow_code=args.allow_code)
    if args.json:
        print(json.dumps(texts, ensure_ascii=False))
        return 0
    for prompt, text in zip(args.prompt, texts, strict=True):
        print(f"{prompt}{text}\n" if len(texts) > 1 else f"{prompt}{text}")
    return 0
