"""A process of its own for one job of a study: `python -m limbeck.study.worker ANSWER`, with the job as a line of JSON on its input.

The input stays open for as long as the study lives; where it is closed, the worker ends at once, so that no run goes on without a study.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path


def main(file: Path) -> int:
    """Does the job; what went wrong is written into `file`. Exit status 2 where the user can mend it, 130 after Ctrl-C."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_study, daemon=True).start()

    import torch

    from ..engine.watch import Silent
    from ..errors import Interrupted, LimbeckError
    from ..files import write_json
    from .execute import do
    from .runs import How

    torch.set_num_threads(order["threads"])
    try:
        do(order["job"], How(**order["how"]), Silent())
    except Interrupted:
        return 130
    except LimbeckError as error:
        write_json(file, {"error": str(error)})
        return 2
    return 0


def _end_with_the_study() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
