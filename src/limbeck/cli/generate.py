"""Let a model write after prompts, or write down its answers as data for a student.

Who writes is the student of RUN, a model by its reference (--model) or a model on a server (--remote). Without --out the answers to
--prompt are shown. With --out every prompt of a file of JSON lines (--prompts) is answered, or texts are written from nothing (--samples),
a line each: `{"prompt", "completion"}`, `{"messages"}` or `{"text"}`. The same command goes on where it ended. A student learns from it
with `data: {source: "jsonl:FILE"}` and cross_entropy, whatever its tokenizer.

With --large and --base the student of RUN steers a larger model, which has not learnt what it has: at every token the large one is moved as
training has moved the small one.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from ..errors import LimbeckError
from ._company import add_company, company_of

if TYPE_CHECKING:
    from ..authoring import Author
    from ..generating import Writer


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run folder")
    parser.add_argument("--model", metavar="REF", help="a model by reference, such as hf:FOLDER, with its own weights")
    parser.add_argument("--tokenizer", metavar="T", help="with --model: hub id or folder of its tokenizer (default: the one beside it)")
    parser.add_argument("--remote", metavar="URL", help="a server that speaks OpenAI's protocol, such as http://localhost:8000/v1")
    parser.add_argument("--served", metavar="NAME", help="with --remote: name of the model there")
    parser.add_argument("--chat", action="store_true", help="put prompts as turns of a chat (chat/completions of a server)")
    parser.add_argument("--prompt", metavar="TEXT", action="append", default=[], help="what it goes on from; may be given several times")
    parser.add_argument("--prompts", metavar="FILE", help="a .jsonl file with prompts, or chats up to their last answer")
    parser.add_argument("--column", metavar="NAME", help="with --prompts: the key that holds them (default: the usual one)")
    parser.add_argument("--samples", type=int, metavar="N", help="write N texts from nothing; set --temperature 1")
    parser.add_argument("--out", metavar="FILE", help="the .jsonl file to write")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="most tokens that are written (default: 64)")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest token; 1: drawn (default: 0)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only (default: from all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn by a model on this machine (default: 0)")
    add_company(parser)
    parser.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda, cuda:N or mps (default: cpu)")
    parser.add_argument("--allow-code", action="store_true", help="run code of your own that the model is")
    parser.add_argument("--json", action="store_true", help="one JSON list of texts (with --out, an object of counts) on standard output")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    _check(args)
    return _write(args) if args.out else _show(args)


def _check(args: argparse.Namespace) -> None:
    """Refuses options that do not go together."""
    if sum(who is not None for who in (args.run, args.model, args.remote)) != 1:
        raise LimbeckError("who writes? Name one of: a run folder, --model, --remote.")
    if args.remote is not None and not args.served:
        raise LimbeckError("--remote needs --served, the name of the model on the server.")
    if args.run is None and company_of(args) is not None:
        raise LimbeckError("--large and --base are for the student of a run folder, which steers them.")
    if args.temperature < 0:
        raise LimbeckError(f"--temperature must be 0 or more, found {args.temperature:g}.")
    if args.top_k is not None and (args.top_k < 1 or not args.temperature):
        wrong = f"found {args.top_k}" if args.top_k < 1 else "found the temperature 0, which always takes the likeliest"
        raise LimbeckError(f"--top-k must be 1 or more, with a --temperature above 0 at which tokens are drawn; {wrong}.")
    given = [name for name in ("prompt", "prompts", "samples") if getattr(args, name)]
    allowed = ("prompts", "samples", "prompt") if args.out else ("prompt",)
    if len(given) != 1 or given[0] not in allowed:
        wanted = "one of --prompts, --samples, --prompt" if args.out else "--prompt (or --out, for files)"
        raise LimbeckError(f"what is it to go on from? Give {wanted}.")
    if args.samples and args.remote is not None:
        raise LimbeckError("--samples is for models on this machine; a server needs prompts (--prompts).")


def _author(args: argparse.Namespace) -> Writer | Author:
    from ..authoring import RemoteAuthor
    from ..generating import writer_of_model, writer_of_run
    from ..teachers.remote import server_at

    tokens = max(args.tokens, 1)
    if args.remote is not None:
        further = {} if args.top_k is None else {"top_k": args.top_k}
        return RemoteAuthor(server_at(args.remote), args.served, tokens, args.temperature, args.chat, further)
    where = {"tokens": tokens, "device": args.device, "allow_code": args.allow_code}
    if args.model is None:
        writer = writer_of_run(args.run, company=company_of(args), **where)
    else:
        writer = writer_of_model(args.model, args.tokenizer, **where)
    writer.temperature, writer.top_k, writer.seed, writer.chat = args.temperature, args.top_k, args.seed, args.chat
    return writer


def _show(args: argparse.Namespace) -> int:
    from ..authoring import Question
    from ..generating import Writer

    author = _author(args)
    if isinstance(author, Writer):
        texts = [answer.text for answer in author.answers(args.prompt)]
    else:
        texts = [answer or "" for answer in author([Question(text) for text in args.prompt])]
    if args.json:
        print(json.dumps(texts, ensure_ascii=False))
        return 0
    for prompt, text in zip(args.prompt, texts, strict=True):
        print(f"{prompt}{text}\n" if len(texts) > 1 else f"{prompt}{text}")
    return 0


def _write(args: argparse.Namespace) -> int:
    from ..authoring import Question, read_questions, write_down

    if args.samples:
        questions = [Question()] * args.samples
    else:
        questions = read_questions(args.prompts, args.column) if args.prompts else [Question(text) for text in args.prompt]

    def told(done: int, whole: int) -> None:
        print(f"{done} of {whole} asked", file=sys.stderr)

    found = write_down(questions, _author(args), args.out, told=told)
    if args.json:
        print(json.dumps({"rows": found.rows, "asked": found.asked, "cut": found.cut, "empty": found.empty}))
        return 0
    print(f"{args.out}: {found.rows} of {len(questions)} answered")
    if found.cut:
        print(f"{found.cut} answers were cut off at {args.tokens} tokens and left out; give more with --tokens and run it again")
    if found.empty:
        print(f"{found.empty} answers were empty and left out")
    return 0
