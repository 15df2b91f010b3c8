"""Processes that run `limbeck` as its command does, without the seconds of imports with which a process begins.

A server of `multiprocessing` imports the libraries once for each worker of the tests and does nothing else; each process is a fork of it,
so that it has seen no other run and no test. It has its own process id, working folder, environment and streams, and can be killed at any
moment. What a user types is also run as it stands, in processes from scratch: by the tests of the README, of `limbeck --help`, of Ctrl-C,
and by one test of each launcher.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing import connection
from pathlib import Path
from types import TracebackType

from tests.runs import PATIENCE, environment

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "torch._dynamo",
        "limbeck.cli.main",
        "limbeck.cli.run",
        "limbeck.cli.label",
        "limbeck.run",
        "limbeck.labelling",
        "limbeck.preflight",
        "limbeck.report.page",
        "matplotlib.backends.backend_svg",
        "sklearn.datasets",
        "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto",
    ]
)


def _serve(words: tuple[str, ...], cwd: str, variables: dict[str, str], out: str, err: str) -> None:
    """What `python -m limbeck` does, in a process that is there already."""
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    sys.argv = ["limbeck", *words]
    from limbeck.cli.main import entry

    entry()


class Command:
    """A `limbeck` that runs, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, *words: str, cwd: Path, **variables: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("out", "err")]
        for file in self._files:
            file.touch()
        files = map(str, self._files)
        self._process = _SERVER.Process(target=_serve, args=(words, str(cwd), environment() | variables, *files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.end = self._process.sentinel
        """What `multiprocessing.connection.wait` can wait for."""

    def __enter__(self) -> Command:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.poll() is None:
            self.kill()
        self._process.join()
        self._folder.cleanup()

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self._process.exitcode

    def kill(self) -> None:
        """Ends it with SIGKILL."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def send_signal(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Waits for its end."""
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, f"it still runs after {PATIENCE} seconds"
        return self._process.exitcode

    def communicate(self) -> tuple[str, str]:
        """Waits for its end; what it printed."""
        self.wait()
        out, err = (file.read_text() for file in self._files)
        return out, err


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `limbeck` in a process of its own."""
    with Command(*words, cwd=cwd) as running:
        out, err = running.communicate()
        return subprocess.CompletedProcess(words, running.wait(), out, err)


def pair(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs `limbeck` in two processes that train together, as `torchrun --nproc_per_node 2` does; their errors one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with (
        Command(*words, cwd=cwd, RANK="0", LOCAL_RANK="0", **shared) as first,
        Command(*words, cwd=cwd, RANK="1", LOCAL_RANK="1", **shared) as second,
    ):
        both = (first, second)
        while any(one.poll() is None for one in both) and all(one.poll() in (None, 0) for one in both):
            connection.wait([one.end for one in both if one.poll() is None])
        for one in both:  # where one has failed, the other would wait for it in vain
            if one.poll() is None:
                one.kill()
        (out, err), (_, also) = first.communicate(), second.communicate()
        return subprocess.CompletedProcess(words, first.wait() or second.wait(), out, err + also)
