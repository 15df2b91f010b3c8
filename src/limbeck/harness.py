"""The tasks of lm-evaluation-harness for the student of a run: `limbeck eval RUN --tasks`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import MissingDependency, RunError
from .export.student import load_student


def harness_model(run: str | Path, *, batch_size: int = 8, device: str = "cpu") -> Any:
    """The student of a run as a model of lm-evaluation-harness (`lm_eval.api.model.LM`).

    Args:
        run: a finished run of a causal language model of transformers, with its tokenizer.
        batch_size: texts that are read side by side.
        device: where.

    Raises:
        RunError: where the student is another model.
        MissingDependency: lm_eval is not installed.
    """
    try:
        from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependency("lm_eval", "lm-eval", "the tasks of lm-evaluation-harness") from error
    from transformers import AutoTokenizer

    student = load_student(Path(run))
    whole = (student.folder / "config.json").is_file() and (student.folder / "tokenizer_config.json").is_file()
    if student.info.language != "causal_lm" or not whole:
        raise RunError(f"{run}: lm-evaluation-harness needs a student of transformers that predicts the next token, with its tokenizer.")
    tokenizer = AutoTokenizer.from_pretrained(student.folder)
    return HFLM(pretrained=student.module.to(device), tokenizer=tokenizer, batch_size=batch_size, device=device)


def evaluate_tasks(
    run: str | Path, tasks: Sequence[Any], *, limit: int | None = None, batch_size: int = 8, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Metrics of the student of a run by task of lm-evaluation-harness.

    Args:
        run: as for `harness_model`.
        tasks: names of tasks that lm_eval knows, configurations, or tasks.
        limit: examples of each task; all where absent.
        batch_size: texts that are read side by side.
        device: where.
    """
    model = harness_model(run, batch_size=batch_size, device=device)
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]

    found = simple_evaluate(model=model, tasks=list(tasks), limit=limit, bootstrap_iters=0, log_samples=False)
    results: dict[str, dict[str, Any]] = (found or {})["results"]
    return {
        task: {name.partition(",")[0]: value for name, value in own.items() if isinstance(value, (int, float)) and "_stderr" not in name}
        for task, own in results.items()
    }
