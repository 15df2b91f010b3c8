"""What a store of teacher signals costs and saves: training from it, writing it, its size, opening it.

Everything runs in one process and one thread and takes turns, update by update or batch by batch; a ratio is formed for every turn (one
time over the other just beside it), and the median over the turns is reported. Stages are Limbeck's own (data, teacher, objective,
backward, optimizer, schedule, log), as `limbeck run` builds them.

    python benchmarks/store.py            the table (some minutes on two cores)
    python benchmarks/store.py --quick    a quarter of a minute, for a look
    python benchmarks/store.py --json     one JSON object on standard output
    python benchmarks/store.py --plan     how near `limbeck plan` comes to real runs, instead
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import limbeck
from limbeck.config.load import load_recipe
from limbeck.data.loader import BatchStream
from limbeck.engine.backend import Backend
from limbeck.engine.trial import trial
from limbeck.engine.watch import Journal, Silent
from limbeck.evaluate.cost import count_flops
from limbeck.labelling import Labelling, label
from limbeck.planning import plan
from limbeck.session import Session
from limbeck.store.manage import parse_codec
from limbeck.store.manifest import Key, Manifest, Signal
from limbeck.store.reader import StoreReader
from limbeck.store.size import store_size
from limbeck.store.writer import StoreWriter
from limbeck.teachers.folding import fold
from limbeck.types import Signals

BATCH = 128
STUDENT = {"model": "resnet", "args": {"depth": 20}}
TEACHERS = {"x4": {"depth": 20, "width": 2}, "x20": {"depth": 44, "width": 3}}
"""4.0 and 21.6 times the FLOPs of the student."""
MILLION = 1_000_000
KEY = Key("0" * 64, "0" * 64, "{}", 0)


def recipe(pair: str, **changes: Any) -> dict[str, Any]:
    """Logits of a teacher on digits, in a recipe."""
    return {
        "task": "classification",
        "data": "sklearn:digits",
        "teacher": {"model": "resnet", "args": TEACHERS[pair], "weights": "random"},
        "student": STUDENT,
        "objective": {"labels": "cross_entropy", "logits": {"loss": "kd", "temperature": 4}},
        "train": {
            "epochs": 1000,
            "batch_size": BATCH,
            "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
            "schedule": "constant",
        },
        **changes,
    }


def session(content: Mapping[str, Any], folder: Path) -> Session:
    """A run that is ready to begin."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Session(load_recipe(content), folder, Backend(device="cpu"), Silent(), Journal(None, Silent()), lambda: False, False)
    found.build_models()
    return found


def updates(content: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """The updates of the student's stage."""
    own = session(content, folder)
    return trial(own.stage(own.phases[0], 0, 0))


def take_turns(runs: Mapping[str, Callable[[], Any]], turns: int, warmup: int) -> dict[str, list[float]]:
    """Seconds of each in every turn; who begins changes."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(turns + warmup):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            runs[name]()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Mapping[str, list[float]], over: str, under: str) -> float:
    """Median of the ratios of the turns."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


@dataclass
class Builds:
    """How often everything is built anew, and how many turns each time."""

    builds: int
    turns: int
    warmup: int = 4


def training(pair: str, how: Builds, work: Path) -> dict[str, float]:
    """A supervised step, one with a live teacher and one from a store, in turns."""
    found: list[dict[str, float]] = []
    for build in range(how.builds):
        folder = work / f"{pair}-{build}"
        label(recipe(pair), Labelling(folder / "store", {}), device="cpu")
        steps = {
            "supervised": updates(recipe(pair, teacher=None, objective={"labels": "cross_entropy"}), folder / "a"),
            "live": updates(recipe(pair), folder / "b"),
            "stored": updates(recipe(pair, teacher={"stored": str(folder / "store")}), folder / "c"),
        }
        times = take_turns({name: lambda own=own: next(own) for name, own in steps.items()}, how.turns, how.warmup)
        ideal, real = ratio(times, "live", "supervised"), ratio(times, "live", "stored")
        found.append(
            {
                "stored_over_supervised": ratio(times, "stored", "supervised"),
                "share_of_ideal": real / ideal,
                "live_over_supervised": ideal,
                "supervised_ms": 1000 * statistics.median(times["supervised"]),
            }
        )
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def sizes(pair: str, work: Path) -> float:
    """How many times the student's FLOPs the teacher takes."""
    own = session(recipe(pair), work / f"{pair}-flops")
    example = torch.zeros(1, *own.data().info.input_shape)
    return count_flops(own.models["teacher"].module, example) / count_flops(own.models["student"].module, example)


def labelling(how: Builds, work: Path) -> dict[str, float]:
    """Writing answers beside the loop that one would write by hand, on the same folded teacher, with all epochs of it timed as a whole.

    Both go through the training images in batches of 256. Labelling also encodes, writes and closes a store.
    """
    own = session(recipe("x20"), work / "bare")
    data = own.data()
    teacher = own.models["teacher"]
    module = fold(teacher.module.eval().requires_grad_(False), ())
    norm = teacher.normalization
    rows = [list(range(begin, min(begin + 256, len(data.train)))) for begin in range(0, len(data.train), 256)]

    def bare() -> None:
        with torch.no_grad():
            for batch in BatchStream(data.train, rows):
                module(norm.apply(batch.inputs) if norm else batch.inputs)

    told = Timed()
    number = iter(range(10_000))

    def write() -> None:
        label(recipe("x20"), Labelling(work / f"labelled-{next(number)}", {}), device="cpu", listener=told)
        told.spent.append(time.perf_counter() - told.start)

    times = take_turns({"bare": bare, "label": write}, max(how.turns // 4, 2), 1)
    times["label"] = told.spent[-len(times["label"]) :]
    return {"label_over_inference": ratio(times, "bare", "label"), "bare_s": statistics.median(times["bare"])}


class Timed(Silent):
    """Notes when labelling begins, after models are built and data are read, both of which the bare loop has behind it."""

    def __init__(self) -> None:
        self.start, self.spent = 0.0, list[float]()

    def stage(self, name: str, learner: str, round: int, rounds: int, updates: int, done: int) -> None:  # noqa: A002
        self.start = time.perf_counter()


def arithmetic(work: Path) -> float:
    """Bytes of real stores over what the codecs' arithmetic says, the worst of several."""
    worst = 1.0
    for number, text in enumerate(("logits=dense:dtype=fp16", "logits=dense:dtype=int8", "logits=topk:k=10", "logits=sampled:draws=50")):
        folder, (name, signal) = work / f"bytes-{number}", parse_codec(text)
        full = Signal((1000,), signal.codec, signal.build().fields())
        manifest = write(folder, 20_000, {name: full}, lambda rows: torch.randn(len(rows), 1000))
        real = sum(path.stat().st_size for path in folder.iterdir())
        found = real / (manifest.examples * full.build().bytes_per_example(full.shape))
        assert abs(real - store_size(manifest, shard_size=4096).total) < 64
        worst = max(worst, found, 1 / found)
    return worst


def write(folder: Path, examples: int, signals: Mapping[str, Signal], value: Callable[[Tensor], Tensor]) -> Manifest:
    """A store of made-up logits."""
    writer = StoreWriter(folder, Manifest(examples, 1, signals, KEY), shard_size=4096)
    for view, start, stop in writer.missing():
        rows = torch.arange(start, stop)
        writer.write(view, start, stop, iter([writer.encode(Signals(value(rows)), rows)]))
    return writer.finish()


def opening(work: Path, quick: bool) -> dict[str, float]:
    """Opening a store of a million samples, checksums compared; how much more memory than one of ten thousand; reading a batch."""
    logits = torch.randn(4096, 1000)
    signals = {"logits": Signal((1000,), "topk", {"k": 10})}
    folder = work / "million"
    write(folder, MILLION, signals, lambda rows: logits[: len(rows)])
    write(work / "small", 10_000, signals, lambda rows: logits[: len(rows)])
    reader = StoreReader(work / "small")
    before = resident()
    times = []
    for _ in range(2 if quick else 5):
        start = time.perf_counter()
        reader = StoreReader(folder)
        times.append(time.perf_counter() - start)
    grown = resident() - before
    index = torch.from_numpy(np.random.default_rng(0).integers(0, MILLION, BATCH))
    reader.read(index, 0, ["logits"])
    start = time.perf_counter()
    for _ in range(20):
        reader.read(index, 0, ["logits"])
    reading = (time.perf_counter() - start) / 20
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"open_seconds_1m": statistics.median(times), "open_mb": grown / 1e6, "size_mb": size / 1e6, "read_us": 1e6 * reading}


def resident() -> float:
    """Bytes of this process in memory that belong to no file."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return 1024.0 * int(line.split()[1])
    return float("nan")


def one_file_a_sample(work: Path, quick: bool) -> dict[str, float]:
    """The way of torchdistill 1.1.4, whose cache had a file for every sample, beside shards: writing, reading, bytes on disk."""
    count = 500 if quick else 10_000
    logits = torch.randn(count, 1000)
    files = work / "files"
    files.mkdir()
    start = time.perf_counter()
    for i, row in enumerate(logits):
        torch.save({"logits": row.half()}, files / f"{i}.pt")
    saving = time.perf_counter() - start
    start = time.perf_counter()
    write(work / "shards", count, {"logits": Signal((1000,), "dense", {"dtype": "fp16"})}, lambda rows: logits[rows])
    sharding = time.perf_counter() - start
    reader = StoreReader(work / "shards")
    batches = np.array_split(np.random.default_rng(0).permutation(count), count // BATCH)
    turn = {"files": 0, "shards": 0}

    def rows_of(name: str) -> Tensor:
        turn[name] += 1
        return torch.from_numpy(batches[turn[name] % len(batches)])

    def from_files() -> Tensor:
        return torch.stack([torch.load(files / f"{i}.pt", weights_only=True)["logits"].float() for i in rows_of("files").tolist()])

    times = take_turns({"files": from_files, "shards": lambda: reader.read(rows_of("shards"), 0, ["logits"])}, 4 if quick else 40, 2)
    disk = {name: sum(path.stat().st_blocks * 512 for path in (work / name).iterdir()) for name in ("files", "shards")}
    return {
        "write_files_over_shards": saving / sharding,
        "read_files_over_shards": ratio(times, "files", "shards"),
        "disk_files_over_shards": disk["files"] / disk["shards"],
        "read_files_ms": 1000 * statistics.median(times["files"]),
        "read_shards_ms": 1000 * statistics.median(times["shards"]),
    }


def peers(quick: bool) -> float | None:
    """What n peers cost over n separate trainings, from the benchmark of cohorts; None where it is not there."""
    with suppress(ImportError):
        return float(importlib.import_module("cohort").peers_over_n(quick))
    return None


def planned(work: Path) -> dict[str, dict[str, float]]:
    """Estimates of `limbeck plan` over what a real run and a real labelling took."""
    found: dict[str, dict[str, float]] = {}
    for pair in TEACHERS:
        content = recipe(pair, baseline=True)
        content["train"] = {**content["train"], "epochs": 4}
        outlook = plan(content, device="cpu", budget=2.0)
        result = limbeck.distill(content, out=work / f"run-{pair}", device="cpu").results
        told = Timed()
        label(content, Labelling(work / f"store-{pair}", {}), device="cpu", listener=told)
        labelled = time.perf_counter() - told.start
        found[pair] = {stage.name: stage.seconds / real["seconds"] for stage, real in zip(outlook.stages, result["stages"], strict=True)}
        found[pair]["all stages"] = outlook.training_seconds / sum(stage["seconds"] for stage in result["stages"])
        found[pair]["labelling"] = (outlook.labelling_seconds or 0.0) / labelled
        stored = limbeck.distill({**content, "teacher": {"stored": str(work / f"store-{pair}")}}, out=work / f"stored-{pair}", device="cpu")
        seconds = sum(stage["seconds"] for stage in stored.results["stages"])
        found[pair]["all stages, stored"] = (outlook.stored_training_seconds or 0.0) / seconds
        size = sum(path.stat().st_size for path in (work / f"store-{pair}").iterdir())
        found[pair]["bytes"] = outlook.stores[0].bytes / size
    return found


def measure(quick: bool, work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `--json` gives, and what else was measured."""
    how = Builds(1, 6, warmup=1) if quick else Builds(5, 60)
    more: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for pair in TEACHERS:
        line = training(pair, how, work)
        found[pair] = {key: line.pop(key) for key in ("stored_over_supervised", "share_of_ideal")}
        more[pair] = {"teacher_over_student_flops": sizes(pair, work), **line}
    more["label"] = labelling(how, work)
    found["label_over_inference"] = more["label"].pop("label_over_inference")
    found["bytes_over_arithmetic"] = arithmetic(work)
    more["open"] = opening(work, quick)
    found["open_seconds_1m"] = more["open"].pop("open_seconds_1m")
    found["peers_over_n"] = peers(quick)
    more["one file a sample"] = one_file_a_sample(work, quick)
    return found, more


def show(found: Mapping[str, Any]) -> None:
    """A line a measurement."""
    for name, value in found.items():
        inner = value if isinstance(value, dict) else {"": value}
        line = "  ".join(f"{key} {number:.4g}".strip() if number is not None else "not measured" for key, number in inner.items())
        print(f"{name:<24} {line}", flush=True)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--plan", action="store_true", help="estimates of limbeck plan over real times and bytes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found, more = (planned(Path(folder)), {}) if args.plan else measure(args.quick, Path(folder))
    if args.json:
        print(json.dumps(found))
        return 0
    show(found)
    show(more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
