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
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

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
    if how.workers == 1 or len(jobs) < 2:  # not those that are left: the last run has as many threads as the others
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
    """Several jobs at once, in processes that do one after the other."""

    def __init__(self, jobs: Sequence[Job], how: How, teller: Teller) -> None:
        self.waiting, self.how, self.teller = list(jobs), how, teller
        self.running: dict[Job, Worker] = {}
        self.idle: list[Worker] = []
        self.errors: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """All jobs, each as soon as there is a worker for it and nobody is at what it needs."""
        try:
            while self.waiting or self.running:
                for job in self._ready():
                    self._start(job)
                time.sleep(PAUSE)
                for job in [job for job, worker in self.running.items() if answer(job).exists() or worker.poll() is not None]:
                    self._end(job)
        except KeyboardInterrupt:
            for worker in self.running.values():
                worker.send_signal(signal.SIGINT)
            for worker in self.running.values():
                worker.wait()
            raise Interrupted("stopped; finished runs are kept, and the runs in hand are saved.") from None
        finally:
            for worker in [*self.running.values(), *self.idle]:
                _dismiss(worker)
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
        how = {"device": self.how.device, "allow_code": self.how.allow_code, "report": self.how.report}
        files = {"answer": str(answer(job).absolute()), "log": str(log(job).absolute())}
        answer(job).parent.mkdir(parents=True, exist_ok=True)
        answer(job).unlink(missing_ok=True)
        self.idle = [worker for worker in self.idle if worker.poll() is None]
        self.running[job] = self.idle.pop() if self.idle else _hire(log(job))
        _write(self.running[job], {"job": job.plain(), "how": how, "threads": self.how.threads, **files})

    def _end(self, job: Job) -> None:
        worker, path = self.running.pop(job), answer(job)
        if path.exists():
            error = read_json(path)["error"]
            path.unlink()
            self.idle.append(worker)
        else:
            error = f"the worker ended with status {worker.returncode}; see {log(job)}."
            _dismiss(worker)
        if error is None:
            log(job).unlink(missing_ok=True)
        else:
            self.errors[job.title] = error
        self.teller.ended(job, error)


Worker = subprocess.Popen[str]


def _hire(first: Path) -> Worker:
    """A process that waits for jobs; what it says before it begins is in the log of the first one."""
    with first.open("w", encoding="utf-8") as said:
        command = [sys.executable, "-m", "limbeck.study.worker"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, text=True, start_new_session=True)  # noqa: S603 - our own


def _write(worker: Worker, order: Mapping[str, Any]) -> None:
    """Gives a job to a worker. Its input stays open: where it closes, the worker ends."""
    if worker.stdin is None:
        raise RuntimeError("a worker is started with an input.")
    with suppress(BrokenPipeError):  # it has died; it is found so soon
        worker.stdin.write(json.dumps(order) + "\n")
        worker.stdin.flush()


def _dismiss(worker: Worker) -> None:
    """Ends a worker."""
    worker.kill()
    if worker.stdin is not None:
        with suppress(BrokenPipeError):
            worker.stdin.close()
    worker.wait()


def answer(job: Job) -> Path:
    """Where a worker says that it is done, and what went wrong."""
    return job.folder.parent / f"{job.folder.name}.json"


def log(job: Job) -> Path:
    """Where what is said during a job is kept, if something goes wrong."""
    return answer(job).with_suffix(".log")
