"""Mutation testing of the formulas: does some test fail for every small mistake in ops/ and losses/?

    python tools/mutate.py                     every file
    python tools/mutate.py --only dkd at       some files
    python tools/mutate.py --quick             a tenth of the mutants, the same ones every time

Each mutant runs the tests of its own file (tests/losses/test_dkd.py, golden numbers included) until one fails. What survives these runs
the second stage: for a loss the contract, for an operation the tests of the losses that use it, for a file in a folder of its package all
tests of that folder. Whoever survives both is reported with its line and change, and the exit status is 1. A mutant that computes the same
as the original is marked on its line,

    rows = min(rows, len(x))  # mutate: equivalent (a longer slice is the whole)
    if x.element_size() < 4:  # mutate: equivalent constant, comparison (there is no size between 2 and 4)

the second way for mutants of these kinds only. A mark that no survivor needs is reported too.

torch and the tests are imported once; each mutant is a fork of that process in which only the code of one function is exchanged. Mutants
outside of functions (defaults, bounds, constants of the module) import the module anew.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import random
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/limbeck"
PACKAGES = ("ops", "losses", "targets")
SLOWEST = 120.0
"""Seconds after which a mutant counts as killed at the latest; for quick tests it is ten times what they take."""
USERS = 5
"""Of how many losses that use an operation the tests are run in the second stage."""
MEMORY = 6 * 2**30
"""Bytes that a mutant may take beyond what the process held before."""

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(ROOT / "tools")]

from mutants import Mutant, marked, mutants  # noqa: E402 - beside this file


@dataclass
class Job:
    """A file and how it is tested."""

    file: Path
    tests: list[str]
    later: list[str]
    """The second stage."""
    later_words: str = ""
    """Selects among the tests of the second stage, as `pytest -k` does."""

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return ".".join(self.file.relative_to(ROOT / "src").with_suffix("").parts)


@dataclass
class Found:
    """What became of the mutants of a file."""

    file: str
    mutants: int = 0
    by_contract: int = 0
    """How many only the second stage killed."""
    survived: list[dict[str, Any]] = field(default_factory=list)
    equivalent: int = 0
    stale: list[int] = field(default_factory=list)
    """Lines that are marked and have no survivors."""
    seconds: float = 0.0
    problem: str = ""
    """Why it could not be tested."""


def jobs(only: list[str]) -> list[Job]:
    """The files to test, in the order of their names."""
    files = [f for package in PACKAGES for f in sorted((SOURCE / package).rglob("*.py")) if f.stem != "__init__"]
    wanted = [f for f in files if not only or f.stem in only or str(f.relative_to(ROOT)) in only]
    unknown = set(only) - {f.stem for f in wanted} - {str(f.relative_to(ROOT)) for f in wanted}
    if unknown:
        raise SystemExit(f"mutate: no file is called {', '.join(sorted(unknown))}.")
    return [_job(f, files) for f in wanted]


def _job(file: Path, files: list[Path]) -> Job:
    own = _test_of(file)
    users = {test for other in files if other.parent.name != "ops" and _imports(other, file) for test in [_test_of(other)] if test}
    users = sorted(users, key=lambda test: (ROOT / test).stat().st_size)[:USERS]
    tests = [own] if own else users
    if file.parent.name == "losses" and not file.stem.startswith("_") and file.stem != "base":
        return Job(file, tests, ["tests/test_contract.py"], f"[{file.stem}-")
    later = [*_mates(file), *users]
    return Job(file, tests, [test for i, test in enumerate(later) if test not in (*tests, *later[:i])])


def _mates(file: Path) -> list[str]:
    """All tests of the folder within a package that it is in."""
    room = file.parent.relative_to(SOURCE)
    folder = ROOT / "tests" / room
    return [str(path.relative_to(ROOT)) for path in sorted(folder.glob("test_*.py"))] if len(room.parts) > 1 else []


def _test_of(file: Path) -> str:
    """Its own file of tests, or that of the folder within a package that it is in."""
    room = file.parent.relative_to(SOURCE)
    # Files of tests must not have the same name, so those of targets/base.py are in test_target_base.py.
    names = [file.stem, room.name] if len(room.parts) > 1 else [file.stem, f"{room.name.removesuffix('s')}_{file.stem}"]
    paths = [Path("tests") / room / f"test_{name}.py" for name in names]
    return next((str(path) for path in paths if (ROOT / path).is_file()), "")


def _imports(user: Path, module: Path) -> bool:
    near = re.escape(module.stem)
    far = re.escape(".".join(module.relative_to(SOURCE).with_suffix("").parts))
    name = rf"\.{near}" if user.parent == module.parent else rf"\.\.+{far}"
    return re.search(rf"^from {name} import", user.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


# processes


def forked(work: Callable[[], Any], limit: float) -> tuple[Any, str]:
    """Runs `work` in a copy of this process.

    Returns:
        Its result (JSON) and "", or None and what went wrong.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setpgid(0, 0)
        code = 1
        try:
            result = json.dumps(work()).encode()
            with os.fdopen(writer, "wb") as out:
                out.write(result)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    data, end = b"", time.monotonic() + limit
    late = False
    while not late:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        late = not ready
        part = os.read(reader, 2**16) if ready else b""
        if not part:
            break
        data += part
    os.close(reader)
    if late:
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if late:
        return None, "took too long"
    return (json.loads(data), "") if data else (None, "crashed")


def silent() -> None:
    """Sends all output to nowhere, and bounds memory."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if Path("/proc/self/statm").exists() else 0
    if held:
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))


# the quick way: exchange the code of a function in a process that has collected the tests


class Session:
    """A plug-in of pytest: instead of running the tests once, it runs them for every mutant, each in a fork."""

    def __init__(self, job: Job, wanted: list[Mutant], report: Callable[[dict[str, Any]], None]) -> None:
        self.job, self.wanted, self.report = job, wanted, report

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leaves of the second stage what belongs to the file, and nothing slow."""
        words = self.job.later_words
        later = [path.partition("::")[0] for path in self.job.later]

        def kept(item: Any) -> bool:
            path = str(item.path.relative_to(ROOT))
            return not item.get_closest_marker("slow") and (path not in later or words in item.name)

        items[:] = [item for item in items if kept(item)]

    def pytest_runtestloop(self, session: Any) -> bool:
        """All mutants."""
        first = [item for item in session.items if str(item.path.relative_to(ROOT)) in self.job.tests]
        second = [item for item in session.items if item not in first]
        module = importlib.import_module(self.job.module)
        if Path(str(module.__file__)).resolve() != self.job.file:
            raise SystemExit(f"mutate: {self.job.module} is imported from {module.__file__}, not from this checkout.")
        times, wrong = forked(lambda: (silent(), [_run(item) for item in [*first, *second]])[1], SLOWEST * 5)
        failing = [item.nodeid for item, (good, _) in zip([*first, *second], times or [], strict=False) if not good]
        if wrong or failing or not first:
            self.report({"problem": wrong or (f"fails without a mutant: {failing[0]}" if failing else "has no tests")})
            return True
        cost = {item: seconds for item, (_, seconds) in zip([*first, *second], times, strict=True)}
        first.sort(key=lambda item: cost[item])
        second.sort(key=lambda item: cost[item])
        limit = min(SLOWEST, 10 * sum(cost.values()) + 10)
        for mutant in self.wanted:
            self.report(self._judge(mutant, module, first, second, limit))
        return True

    def _judge(self, mutant: Mutant, module: ModuleType, first: list[Any], second: list[Any], limit: float) -> dict[str, Any]:
        def work() -> int:
            silent()
            if not exchange(module, mutant):
                return -2
            for position, item in enumerate([*first, *second]):
                if not _run(item)[0]:
                    return position
            return -1

        position, wrong = forked(work, limit)
        if wrong or position >= 0:
            if not wrong and position < len(first):  # who killed this one is likely to kill the next
                first.insert(0, first.pop(position))
            stage = 2 if not wrong and position >= len(first) else 1
            return {"number": mutant.number, "killed": True, "stage": stage}
        return {"number": mutant.number, "killed": False, "anew": position == -2}


def _run(item: Any) -> tuple[bool, float]:
    """Runs one test; whether it passed, and how long it took."""
    from _pytest.runner import runtestprotocol

    start = time.perf_counter()
    reports = runtestprotocol(item, log=False, nextitem=None)
    return all(not report.failed for report in reports), time.perf_counter() - start


def exchange(module: ModuleType, mutant: Mutant) -> bool:
    """Gives the function of a mutant its new code; False where that cannot be done."""
    function = _function(module, mutant.function)
    code = compile(mutant.tree, str(module.__file__), "exec")
    new = next((c for c in _codes(code) if c.co_qualname == mutant.function), None)
    if function is None or new is None:
        return False
    try:
        function.__code__ = new
    except ValueError:
        return False
    return True


def _function(module: ModuleType, name: str) -> FunctionType | None:
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part) if found is not None else None
    found = found.fget if isinstance(found, property) else found.__func__ if isinstance(found, staticmethod | classmethod) else found
    found = inspect.unwrap(found) if callable(found) else found
    return found if isinstance(found, FunctionType) and found.__code__.co_qualname == name else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


# the slow way: import everything anew


class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module the code of a mutant."""

    def __init__(self, job: Job, mutant: Mutant) -> None:
        self.job, self.mutant = job, mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Only this module."""
        return importlib.util.spec_from_file_location(name, self.job.file, loader=self) if name == self.job.module else None

    def exec_module(self, module: ModuleType) -> None:
        """Runs the mutant."""
        exec(compile(self.mutant.tree, str(self.job.file), "exec"), module.__dict__)


def anew(job: Job, mutant: Mutant) -> dict[str, Any]:
    """Tests a mutant that concerns the module as a whole; this process must not have imported it."""

    def stage(number: int) -> int:
        import pytest

        silent()
        sys.meta_path.insert(0, Loader(job, mutant))
        words = ["-k", job.later_words.strip("[-")] if number == 2 and job.later_words else []
        chosen = Job(job.file, [], job.later, job.later_words) if number == 2 else Job(job.file, job.tests, [])
        plugin = Only(chosen)
        return int(
            pytest.main(["-x", "-q", "-p", "no:cacheprovider", *words, *(job.tests if number == 1 else job.later)], plugins=[plugin])
        )

    for number in (1, 2) if job.later else (1,):
        status, wrong = forked(lambda n=number: stage(n), SLOWEST)
        if wrong or status not in (0, 5):
            return {"number": mutant.number, "killed": True, "stage": number}
    return {"number": mutant.number, "killed": False, "anew": False}


class Only:
    """A plug-in of pytest that leaves the tests of a job."""

    def __init__(self, job: Job) -> None:
        self.pytest_collection_modifyitems = Session(job, [], print).pytest_collection_modifyitems


# a file


def examine(job: Job, share: float) -> dict[str, Any]:
    """Tests all mutants of a file, or a share of them; run in a fork, as it imports what the next file may mutate."""
    start, source = time.monotonic(), job.file.read_text(encoding="utf-8")
    every = mutants(source)
    chosen = [m for m in every if share >= 1 or random.Random(f"{job.module}{m}").random() < share]
    found = Found(str(job.file.relative_to(ROOT)), len(chosen))
    if not job.tests:
        found.problem = "has no tests"
        return vars(found)
    results: list[dict[str, Any]] = []
    quick, wrong = forked(lambda: _quick(job, [m for m in chosen if m.function]), 24 * 3600.0)
    results += quick or []
    found.problem = wrong or next((str(item["problem"]) for item in results if "problem" in item), "")
    if found.problem:
        return vars(found)
    again = {item["number"] for item in results if item.get("anew")}
    results = [item for item in results if not item.get("anew")]
    results += [anew(job, m) for m in chosen if not m.function or m.number in again]
    lines = marked(source)
    by_number, needed = {m.number: m for m in chosen}, set[int]()
    for item in sorted(results, key=lambda item: item["number"]):
        mutant = by_number[item["number"]]
        if item["killed"]:
            found.by_contract += item["stage"] == 2
        elif mutant.line in lines and mutant.kind in (lines[mutant.line] or {mutant.kind}):
            found.equivalent += 1
            needed.add(mutant.line)
        else:
            found.survived.append({"line": mutant.line, "kind": mutant.kind, "before": mutant.before, "after": mutant.after})
    found.stale = sorted(lines.keys() - needed) if share >= 1 else []
    found.seconds = round(time.monotonic() - start, 1)
    return vars(found)


def _quick(job: Job, wanted: list[Mutant]) -> list[dict[str, Any]]:
    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    results: list[dict[str, Any]] = []
    session = Session(job, wanted, results.append)
    status = pytest.main(["-q", "-p", "no:cacheprovider", *job.tests, *job.later], plugins=[session])
    return results or (
        [] if status in (0, 5) and not wanted else [{"problem": f"its tests cannot be collected (pytest ended with {int(status)})"}]
    )


def preload() -> None:
    """Imports what is slow and never mutated."""
    import numpy as np
    import pytest
    import torch
    import torch._dynamo
    import torch.utils.checkpoint

    import limbeck.registry
    import limbeck.types

    torch.set_num_threads(1)
    mutated = [name for name in sys.modules if name.startswith(tuple(f"limbeck.{package}" for package in PACKAGES))]
    if mutated:
        raise SystemExit(
            f"mutate: already imported: {mutated}, after {np.__name__}, {pytest.__name__}, {limbeck.registry}, {limbeck.types}."
        )


def spread(work: list[Job], workers: int, share: float, told: Callable[[dict[str, Any]], None]) -> None:
    """Examines every file, several at once."""
    waiting, running = list(work), {}
    while waiting or running:
        while waiting and len(running) < workers:
            job = waiting.pop(0)
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                try:
                    record = examine(job, share)
                except BaseException as error:
                    record = vars(Found(str(job.file.relative_to(ROOT)), problem=f"{type(error).__name__}: {error}"))
                with os.fdopen(writer, "w") as out:
                    out.write(json.dumps(record))
                os._exit(0)
            os.close(writer)
            running[reader] = pid
        for reader in select.select(list(running), [], [])[0]:
            with os.fdopen(reader) as source:
                record = json.loads(source.read() or "{}")
            os.waitpid(running.pop(reader), 0)
            told(record)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="files, by name (dkd) or path")
    parser.add_argument("--quick", action="store_true", help="a tenth of the mutants, the same ones every time")
    parser.add_argument("--workers", type=int, default=2, help="files that are tested at once")
    parser.add_argument("--json", action="store_true", help="print JSON: an object a file")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    args = parser.parse_args()
    os.chdir(ROOT)
    work = jobs(args.only)
    if args.list:
        for job in work:
            print("\n".join(f"{job.file.relative_to(ROOT)}:{mutant}" for mutant in mutants(job.file.read_text(encoding="utf-8"))))
        return 0
    preload()
    records: list[dict[str, Any]] = []

    def told(record: dict[str, Any]) -> None:
        records.append(record)
        if not args.json:
            print(_line(record), flush=True)

    spread(work, args.workers, 0.1 if args.quick else 1.0, told)
    bad = [r for r in records if r["survived"] or r["stale"] or r["problem"]]
    if args.json:
        print(json.dumps(sorted(records, key=lambda r: r["file"]), indent=2))
    else:
        count, alive = sum(r["mutants"] for r in records), sum(len(r["survived"]) for r in records)
        unseen = sum(bool(r["problem"]) for r in records)
        print(f"\n{count} mutants of {len(records)} files: {alive} survived" + (f", in {len(bad)} files." if bad else "."))
        if unseen:
            print(f"{unseen} files could not be examined; of them nothing is known.")
    return 1 if bad else 0


def _line(record: dict[str, Any]) -> str:
    survived = record["survived"]
    if record["problem"]:
        return f"{record['file']}: {record['problem']}"
    head = f"{record['file']}: {record['mutants']} mutants, {len(survived)} survived"
    notes = [f"{record['equivalent']} marked as equivalent"] if record["equivalent"] else []
    notes += [f"{record['by_contract']} killed by the second stage only"] if record["by_contract"] else []
    notes.append(f"{record['seconds']:g} s")
    lines = [f"{head} ({', '.join(notes)})"]
    lines += [f"  {record['file']}:{s['line']}: {s['kind']}: {s['before']}  ->  {s['after']}" for s in survived]
    lines += [f"  {record['file']}:{line}: marked as equivalent, but no mutant of this line survives" for line in record["stale"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
