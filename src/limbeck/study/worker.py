"""A process of its own for jobs of a study: `python -m limbeck.study.worker`, with each job as a line of JSON on its input.

The input stays open for as long as the study lives; where it is closed, the worker ends at once, so that no run goes on without a study.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any


def main() -> int:
    """Does the jobs. Exit status 130 after Ctrl-C."""
    orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    try:
        while True:
            order = orders.get()
            _speak_into(Path(order["log"]))
            if not _do(order):
                return 130
    except KeyboardInterrupt:  # between two jobs
        return 130


def _do(order: dict[str, Any]) -> bool:
    """Does one job, and writes whether something went wrong that the user can mend. Returns whether it came to its end."""
    import torch

    from ..engine.watch import Silent
    from ..errors import Interrupted, LimbeckError
    from ..files import write_json
    from .execute import do
    from .runs import How

    torch.set_num_threads(order["threads"])
    error = None
    try:
        do(order["job"], How(**order["how"]), Silent())
    except Interrupted:
        return False
    except LimbeckError as problem:
        error = str(problem)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # others may be in need of it while this worker waits
    write_json(Path(order["answer"]), {"error": error})
    return True


def _speak_into(log: Path) -> None:
    """Whatever is printed from now on, also by libraries of C, goes into a file."""
    with log.open("w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _listen(orders: SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
