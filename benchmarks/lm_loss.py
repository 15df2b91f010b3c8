"""Divergences over large vocabularies: TRL's GKD loss, TRL's chunked kernel, Liger's chunked loss, and Limbeck's.

Each cell is measured in a fresh process, on the same hidden states and heads. The teacher's logits are the student's plus noise of a
standard deviation of 0.09, so that the divergence is about 0.004 nats a token, as late in a training, where rounding shows. Measured are
the median time of forward and backward, the peak of resident memory above that of the inputs (the gradients of hidden states and head
are inside), and, on 64 tokens, the relative errors of the value and of the gradient of the head against float64. Masked tokens are given
to each implementation in its own way. With `--rounds` the implementations of a cell take turns, and the fastest round of each counts.

    python benchmarks/lm_loss.py             the cells of the table (an hour on two cores)
    python benchmarks/lm_loss.py --quick     a few cells (minutes)
    python benchmarks/lm_loss.py --n 1024 --v 32768 --dtype fp32 --divergence kl --masked 0
    python benchmarks/lm_loss.py --json      a list of cells on standard output
    python benchmarks/lm_loss.py --resume cells.json    writes each cell there when it is done, and leaves out what is there

Cells that need more memory than is there, or packages that are not installed (`pip install trl liger-kernel`), are shown as absent.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

WIDTHS = (512, 1024)
"""Of the hidden states of student and teacher."""
NOISE = 0.09
TOKENS = (256, 1024, 4096)
VOCABULARIES = (32_768, 131_072, 151_936)
DIVERGENCES = ("kl", "rkl", "jsd", "skew")
MASKED = (0.0, 0.5, 0.9)
CHECKED = 64
SKEW = 0.1
LONGEST = 900


@dataclass(frozen=True)
class Cell:
    """What is measured."""

    n: int
    v: int
    dtype: str
    divergence: str
    masked: float
    impl: str


@dataclass
class Inputs:
    """Hidden states, heads and labels; the student's ask for gradients."""

    student: Any
    head: Any
    teacher: Any
    teacher_head: Any
    labels: Any

    def rows(self, count: int) -> Inputs:
        """Of the first tokens only, as new leaves."""
        return Inputs(
            self.student.detach()[:count].clone().requires_grad_(),
            self.head.detach().clone().requires_grad_(),
            self.teacher[:count],
            self.teacher_head,
            self.labels[:count],
        )


def inputs(cell: Cell) -> Inputs:
    """The same numbers for every implementation."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[cell.dtype]
    g = torch.Generator().manual_seed(0)
    own, theirs = WIDTHS

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (torch.randn(*shape, generator=g) * scale).to(dtype)

    student, head = draw(cell.n, own), draw(cell.v, own, scale=2 / own**0.5)
    extra = draw(cell.v, theirs - own, scale=NOISE / (theirs - own) ** 0.5)
    teacher = torch.cat([student, draw(cell.n, theirs - own)], 1)
    labels = torch.randint(0, cell.v, (cell.n,), generator=g)
    labels[torch.randperm(cell.n, generator=g)[: round(cell.masked * cell.n)]] = -100
    return Inputs(student.requires_grad_(), head.requires_grad_(), teacher, torch.cat([head.detach(), extra], 1), labels)


# the implementations: a loss that is the mean over the tokens that are not masked

BETA = {"kl": 0.0, "rkl": 1.0, "jsd": 0.5}


def limbeck(x: Inputs, divergence: str) -> Any:
    """Limbeck's fused loss."""
    from limbeck.losses.fused import Hidden, Measure, Projection, fused_divergence
    from limbeck.ops.divergence_gradients import Divergence

    names: dict[str, Divergence] = {"kl": "forward", "rkl": "reverse", "jsd": "js", "skew": "skew_forward"}
    mask = (x.labels != -100).float()
    teacher = Hidden(x.teacher, Projection(x.teacher_head))
    return fused_divergence(
        x.student, Projection(x.head), teacher, Measure(divergence=names[divergence], skew=SKEW), weights=mask / mask.sum()
    )


def trl_gkd(x: Inputs, divergence: str) -> Any:
    """TRL's generalised Jensen-Shannon divergence of whole logits."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer  # pyright: ignore[reportMissingImports]

    ours, theirs = x.student @ x.head.T, x.teacher @ x.teacher_head.T
    return GKDTrainer.generalized_jsd_loss(ours[None], theirs[None], x.labels[None], beta=BETA[divergence])


def trl_chunked(x: Inputs, divergence: str) -> Any:
    """The kernel of TRL's DistillationTrainer."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction  # pyright: ignore[reportMissingImports]

    mask = (x.labels != -100).float()
    values, _ = ChunkedDivergenceFunction.apply(x.student, x.head, None, x.teacher, x.teacher_head, None, BETA[divergence])  # pyright: ignore[reportGeneralTypeIssues]
    return (values * mask).sum() / mask.sum()


def liger(x: Inputs, divergence: str) -> Any:
    """Liger's chunked loss, without compilation, which needs a compiler, and without its loss on labels."""
    from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss  # pyright: ignore[reportMissingImports]

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA[divergence], compiled=False, chunk_size=256)
    return loss(x.student, x.head, x.teacher, x.teacher_head, x.labels)


def eager(x: Inputs, divergence: str) -> Any:
    """The formula on whole logits, as DistiLLM computes its skewed divergence."""
    kept = x.labels != -100
    ours, theirs = ((h[kept] @ w.T).log_softmax(-1) for h, w in ((x.student, x.head), (x.teacher, x.teacher_head)))
    return exact(ours, theirs, divergence).mean()


def exact(log_q: Any, log_p: Any, divergence: str) -> Any:
    """The divergence of every token from whole log-probabilities."""
    p, q = log_p.exp(), log_q.exp()
    if divergence == "kl":
        return (p * (log_p - log_q)).sum(-1)
    if divergence == "rkl":
        return (q * (log_q - log_p)).sum(-1)
    if divergence == "skew":
        return (p * (log_p - (SKEW * p + (1 - SKEW) * q).log())).sum(-1)
    log_m = ((p + q) / 2).log()
    return ((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) / 2


IMPLEMENTATIONS: dict[str, Callable[[Inputs, str], Any]] = {
    "trl_gkd": trl_gkd,
    "trl_chunked": trl_chunked,
    "liger": liger,
    "eager": eager,
    "limbeck": limbeck,
}


def implementations(divergence: str) -> list[str]:
    """Those that have this divergence."""
    return ["eager", "limbeck"] if divergence == "skew" else ["trl_gkd", "trl_chunked", "liger", "limbeck"]


# one cell, in a process of its own


def measure(cell: Cell, repeats: int) -> dict[str, Any]:
    """Time, memory and errors of one cell."""
    x, loss = inputs(cell), IMPLEMENTATIONS[cell.impl]
    loss(x.rows(min(cell.n, 8)), cell.divergence).backward()  # what is imported and made at first use
    gc.collect()
    _reset_peak()
    before, peak = _status("VmRSS"), 0
    seconds: list[float] = []
    for i in range(repeats):
        x.student.grad = x.head.grad = None
        start = time.perf_counter()
        loss(x, cell.divergence).backward()
        seconds.append(time.perf_counter() - start)
        if i == 0:
            peak = _status("VmHWM") - before
    return {**asdict(cell), "seconds": statistics.median(seconds), "peak_mb": peak / 1024, **accuracy(cell, x, loss)}


def accuracy(cell: Cell, x: Inputs, loss: Callable[[Inputs, str], Any]) -> dict[str, float]:
    """Relative errors on some tokens, none of which is masked."""
    import torch

    few = x.rows(min(cell.n, CHECKED))
    few.labels = few.labels.abs()
    value = loss(few, cell.divergence)
    value.backward()
    student, head = few.student.detach().double().requires_grad_(), few.head.detach().double()
    ours = (student @ head.T).log_softmax(-1)
    theirs = (few.teacher.double() @ few.teacher_head.double().T).log_softmax(-1)
    right = exact(ours, theirs, cell.divergence).mean()
    ours.retain_grad()
    right.backward()
    # The gradient of the head through that of the logits, a block of the vocabulary at a time.
    z = ours.grad - ours.detach().exp() * ours.grad.sum(-1, keepdim=True)  # pyright: ignore[reportOptionalOperand, reportOptionalMemberAccess]
    off = norm = 0.0
    for start in range(0, cell.v, 16_384):
        block = slice(start, start + 16_384)
        expected = z[:, block].T @ student.detach()
        off += (few.head.grad[block].double() - expected).square().sum().item()
        norm += expected.square().sum().item()
    gradient = (off / norm) ** 0.5
    del few, student, head, ours, theirs, z
    torch.set_grad_enabled(True)
    return {"value_error": abs(value.item() - right.item()) / abs(right.item()), "grad_error": gradient}


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


# all cells


def run(cell: Cell, repeats: int) -> dict[str, Any]:
    """A cell in a fresh process; without figures where it could not be run, with the reason."""
    words = [sys.executable, __file__, "--cell", json.dumps(asdict(cell)), "--repeats", str(repeats)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {**asdict(cell), "reason": f"longer than {LONGEST} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["killed, most likely for its memory"])[-1]
        return {**asdict(cell), "reason": last[:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def grid(args: argparse.Namespace) -> list[list[Cell]]:
    """What was asked for: the cells that differ in the implementation only, together."""
    if args.quick:
        points = [(1024, 32_768, "fp32", "kl", 0.0), (1024, 32_768, "fp32", "jsd", 0.0), (1024, 32_768, "fp32", "kl", 0.9)]
        points.append((256, 32_768, "bf16", "kl", 0.0))
    else:
        points = list(itertools.product(args.n, args.v, args.dtype, args.divergence, args.masked))
    return [[Cell(*at, impl) for impl in implementations(at[3]) if not args.impl or impl in args.impl] for at in points]


def compare(together: list[Cell], repeats: int, rounds: int) -> list[dict[str, Any]]:
    """Cells that take turns, the fastest round of each."""
    found = [[run(cell, repeats) for cell in together] for _ in range(rounds)]
    return [min(turns, key=lambda record: record.get("seconds", float("inf"))) for turns in zip(*found, strict=True)]


def show(record: dict[str, Any]) -> None:
    """A line of the table."""
    head = f"{record['n']:6} {record['v']:10} {record['dtype']:5} {record['divergence']:10} {record['masked']:6.0%} {record['impl']:12}"
    if "reason" in record:
        print(f"{head} absent: {record['reason']}", flush=True)
    else:
        tail = f"{record['value_error']:11.1e}  {record['grad_error']:14.1e}"
        print(f"{head} {record['seconds']:7.2f} {record['peak_mb']:8.0f}  {tail}", flush=True)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few cells")
    parser.add_argument("--json", action="store_true", help="print a list of cells as JSON")
    parser.add_argument("--n", type=int, nargs="+", default=TOKENS, help="tokens")
    parser.add_argument("--v", type=int, nargs="+", default=VOCABULARIES, help="vocabulary")
    parser.add_argument("--dtype", nargs="+", default=("fp32", "bf16"), choices=("fp32", "bf16"))
    parser.add_argument("--divergence", nargs="+", default=DIVERGENCES, choices=DIVERGENCES)
    parser.add_argument("--masked", type=float, nargs="+", default=MASKED, help="share of tokens that do not count")
    parser.add_argument("--impl", nargs="+", default=[], choices=list(IMPLEMENTATIONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1, help="fresh processes for each cell")
    parser.add_argument("--resume", type=Path, help="a JSON file of cells, that is gone on with")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measure(Cell(**json.loads(args.cell)), args.repeats)))
        return 0
    found: list[dict[str, Any]] = json.loads(args.resume.read_text(encoding="utf-8")) if args.resume and args.resume.exists() else []
    if not args.json:
        print(f"{'tokens':>6} {'vocabulary':>10} dtype divergence masked {'':12} seconds  peak MB  value error  gradient error")
        for record in found:
            show(record)
    known = {Cell(*(record[x.name] for x in fields(Cell))) for record in found}
    for together in grid(args):
        for record in compare([cell for cell in together if cell not in known], args.repeats, args.rounds):
            found.append(record)
            if args.resume:
                args.resume.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            if not args.json:
                show(record)
    if args.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
