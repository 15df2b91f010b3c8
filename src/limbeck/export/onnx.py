"""ONNX with a free batch size, compared with the student in ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import MissingDependency, RunError
from ..files import writing
from .base import BATCH_SIZES, ExportResult, largest_difference, size_on_disk
from .pt2 import traced
from .student import Student

OPSET = 20
LIMIT = 2**31 - 2**20
"""A single ONNX file cannot hold more bytes than this."""


def export(student: Student, out: Path, tolerance: float) -> ExportResult:
    """Writes `out`; its inputs are what the data yields, its output `logits`.

    Raises:
        MissingDependency: without onnx, onnxscript or onnxruntime.
        RunError: where the student cannot be translated or the file differs from it.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _require(package)
    weights = sum(value.numel() * value.element_size() for value in student.module.state_dict().values())
    if weights > LIMIT:
        raise RunError(f"the student has {weights / 1e9:.1f} GB of weights, an ONNX file holds 2 GB; use --to pt2 or safetensors.")
    model = student.deployable()
    content = _translated(student, model)
    session = _session(content)
    difference, scale = largest_difference(model, session, student.draw, tolerance=tolerance, what=str(out))
    with writing(out) as temporary:
        temporary.write_bytes(content)
    feed = ", ".join(f"{name!r}: ..." for name in student.input_names)
    note = f"load with onnxruntime.InferenceSession({out.name!r}); session.run(['logits'], {{{feed}}})"
    return ExportResult("onnx", out, difference, scale, BATCH_SIZES, size_on_disk(out), student.input_names, note)


def _translated(student: Student, model: torch.nn.Module) -> bytes:
    import onnx

    program = traced(student, model)  # pyright: ignore[reportArgumentType]
    try:
        with _quiet():
            translated = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=list(student.input_names), output_names=["logits"], verbose=False
            )
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(f"{student.reference} cannot be translated to ONNX: {lines[0][:300]}\nUse --to pt2 or --to safetensors.") from error
    if translated is None:
        raise RunError(f"{student.reference} cannot be translated to ONNX by this version of torch. Use --to pt2 or --to safetensors.")
    proto: Any = translated.model_proto
    proto.doc_string = f"Student of a Limbeck run: {student.reference}"
    for key, value in (("task", str(student.card.get("task"))), ("classes", "\n".join(student.info.class_names))):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _session(content: bytes) -> Callable[..., Tensor]:
    """The model in ONNX Runtime, as a callable on tensors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(["logits"], feed)[0])

    return run


def _require(package: str) -> None:
    import importlib

    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingDependency(package, "export", "export to ONNX") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the translator's chatter about its own internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
