"""Does the jobs of a study: one after the other in this process, or several at once in processes of their own.

A job that is finished is not done again, one that was begun is gone on with. Runs that have a stage in common are not begun while another
one is still at it. Where this process ends, for whatever reason, its workers end too.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import torch

from ..engine.watch import Listener, Silent
from ..errors import Interrupted, LimbeckError
from ..files import read_json
from ..labelling import Labelling, label
from ..run import begun, distill, interruptible
from ..store.manage import parse_codec
from .runs import How, Job

PAUSE = 0.05
"""Seconds between two looks at the workers."""


class Teller(Protocol):
    """Who is told how a study goes."""

    def planned(self, total: int, finished: int) -> None:
        """How many jobs there are, and how many of them are finished already."""
        ...

    def began(self, job: Job) -> None:
        """A job is begun."""
        ...

    def ended(self, job: Job, error: str | None) -> None:
        """A job is over."""
        ...

    def message(self, text: str) -> None:
        """Something worth saying."""
        ...

    def listener(self) -> Listener:
        """Who is told how the run in this process goes."""
        ...


class Quiet:
    """Tells nobody."""

    def planned(self, total: int, finished: int) -> None:  # noqa: D102
        pass

    def began(self, job: Job) -> None:  # noqa: D102
        pass

    def ended(self, job: Job, error: str | None) -> None:  # noqa: D102
        pass

    def message(self, text: str) -> None:  # noqa: D102
        pass

    def listener(self) -> Listener:  # noqa: D102
        return Silent()


def do(job: Mapping[str, Any], how: How, listener: Listener) -> None:
    """Does one job in this process, or goes on with it. `job` is what `Job.plain` gives."""
    folder, values = Path(job["folder"]), job["set"]
    if job["label"] is None:
        distill(
            job["recipe"],
            set=values,
            out=folder,
            resume=begun(folder),
            device=how.device,
            allow_code=how.allow_code,
            listener=listener,
            shared=job["shared"],
            report=how.report,
        )
        return
    text = job["label"] if "=" in job["label"].partition(":")[0] else f"logits={job['label']}"
    with interruptible() as interrupted:
        wish = Labelling(folder, dict([parse_codec(text)]), views=job["views"])
        label(job["recipe"], wish, set=values, device=how.device, allow_code=how.allow_code, listener=listener, interrupted=interrupted)


def execute(jobs: Sequence[Job], how: How, teller: Teller) -> dict[str, str]:
    """Does all jobs that are not finished.

    Returns:
        What went wrong, by the titles of the jobs; the others were done.

    Raises:
        Interrupted: after Ctrl-C; everything that is finished is kept, and the runs in hand are saved.
    """
    waiting = [job for job in jobs if not job.finished]
    teller.planned(len(jobs), len(jobs) - len(waiting))
    if how.workers == 1 or len(waiting) < 2:
        return _one_by_one(waiting, how, teller)
    return _Pool(waiting, how, teller).run()


def _one_by_one(jobs: Sequence[Job], how: How, teller: Teller) -> dict[str, str]:
    errors: dict[str, str] = {}
    lost: set[Path] = set()
    for job in jobs:
        if job.store in lost:
            errors[job.title] = f"its store {job.store} was not written."
            continue
        teller.began(job)
        error: str | None = None
        try:
            do(job.plain(), how, teller.listener())
        except Interrupted:
            raise
        except LimbeckError as problem:
            error = errors[job.title] = str(problem)
            lost |= {job.folder} if job.label is not None else set()
        teller.ended(job, error)
    return errors


class _Pool:
    """Several jobs at once."""

    def __init__(self, jobs: Sequence[Job], how: How, teller: Teller) -> None:
        self.waiting, self.how, self.teller = list(jobs), how, teller
        self.running: dict[Job, tuple[subprocess.Popen[str], IO[str]]] = {}
        self.errors: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """All jobs, each as soon as there is a worker for it and nobody is at what it needs."""
        try:
            while self.waiting or self.running:
                for job in self._ready():
                    self._start(job)
                time.sleep(PAUSE)
                for job in [job for job, (process, _) in self.running.items() if process.poll() is not None]:
                    self._end(job)
        except KeyboardInterrupt:
            for process, _ in self.running.values():
                process.send_signal(signal.SIGINT)
            for process, _ in self.running.values():
                process.wait()
            raise Interrupted("stopped; finished runs are kept, and the runs in hand are saved.") from None
        finally:
            for process, log in self.running.values():
                process.kill()
                _closed(process, log)
        return self.errors

    def _ready(self) -> list[Job]:
        """Jobs that can be begun now."""
        found: list[Job] = []
        stores = {job.folder for job in [*self.running, *self.waiting] if job.label is not None}
        for job in list(self.waiting):
            if len(self.running) + len(found) >= self.how.workers:
                break
            under_way = {key for other in [*self.running, *found] for key in other.keys}
            missing = {key for key in job.keys if not (job.shared / f"{key}.safetensors").exists()}
            if job.store in stores or missing & under_way:
                continue
            if job.store is not None and not (job.store / "manifest.json").is_file():
                self.waiting.remove(job)
                self.errors[job.title] = f"its store {job.store} was not written."
                continue
            found.append(job)
            self.waiting.remove(job)
        return found

    def _start(self, job: Job) -> None:
        self.teller.began(job)
        threads = max(1, torch.get_num_threads() // self.how.workers)
        how = {"device": self.how.device, "allow_code": self.how.allow_code, "report": self.how.report}
        order = {"job": job.plain(), "how": how, "threads": threads}
        answer(job).parent.mkdir(parents=True, exist_ok=True)
        answer(job).unlink(missing_ok=True)
        log = answer(job).with_suffix(".log").open("w", encoding="utf-8")
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "limbeck.study.worker", str(answer(job).absolute())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        self.running[job] = (process, log)
        if process.stdin is not None:  # it stays open: where it closes, the worker ends
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()

    def _end(self, job: Job) -> None:
        process, log = self.running.pop(job)
        _closed(process, log)
        path, error = answer(job), None
        if process.returncode != 0:
            said = read_json(path)["error"] if path.exists() else f"the worker ended with status {process.returncode}; see {log.name}."
            error = self.errors[job.title] = said
        else:
            path.with_suffix(".log").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self.teller.ended(job, error)


def _closed(process: subprocess.Popen[str], log: IO[str]) -> None:
    """Waits for a worker and closes what it was given."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()
    log.close()


def answer(job: Job) -> Path:
    """Where a worker says what went wrong."""
    return job.folder.parent / f"{job.folder.name}.json"
