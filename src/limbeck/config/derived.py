"""`student: {from: teacher}`: a student that begins as a copy of its teacher."""

from __future__ import annotations

from .marks import Node, Report

_COPIED = ("model", "weights", "prefix", "args")
FROM = "from"


def from_teacher(root: Node, report: Report) -> Node:
    """The recipe with what `student: {from: teacher}` means written out: the teacher's model and weights, but for what the student says."""
    student, teacher = root.mapping.get("student"), root.mapping.get("teacher")
    source = student.mapping.get(FROM) if student is not None else None
    if student is None or source is None:
        return root
    copied = {key: teacher.mapping[key] for key in _COPIED if key in teacher.mapping} if teacher is not None else {}
    if source.text != "teacher":
        report.at_value(
            root, ("student", FROM), f"expected 'teacher', whose model and weights the student begins with, found {source.value!r}."
        )
    elif "model" not in copied:
        report.at_value(
            root, ("student", FROM), "the recipe has no teacher with a model of its own to begin from; name it under `teacher`."
        )
    elif "weights" not in copied or copied["weights"].text == "random":
        report.at_value(root, ("student", FROM), "the teacher has no weights to begin from: give it `weights`, or the student a `model`.")
    own = {key: node for key, node in copied.items() if key not in student.mapping}
    return root.replaced({"student": student.without(FROM).replaced(own)})
