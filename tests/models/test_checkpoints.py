"""Weights: what is read, what is refused, and what the errors say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, RunError
from limbeck.models.checkpoints import find_weights, load_into, read_state_dict, save_weights


def net(outputs: int = 3) -> Any:
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model.head = nn.Linear(4, outputs)
    return model


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b) or set(a) == set(b)
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=0)


@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("model",), ("model", "state_dict")])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_reads_torch_files(tmp_path: Path, nesting: tuple[str, ...], suffix: str) -> None:
    state: Any = net().state_dict()
    content = state
    for key in reversed(nesting):
        content = {"epoch": 3, key: content, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / f"w{suffix}")
    same(read_state_dict(tmp_path / f"w{suffix}"), dict(state))


def test_round_trip_of_safetensors(tmp_path: Path) -> None:
    model = net()
    model.tied = model.head  # shared memory, and a view that is not contiguous
    state = {**model.state_dict(), "view": torch.arange(6.0).view(2, 3).T}
    save_weights(state, tmp_path / "deep" / "model.safetensors")
    same(read_state_dict(tmp_path / "deep" / "model.safetensors"), state)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["model.safetensors"], "no temporary file is left"
    (tmp_path / "student").mkdir()
    save_weights(model, tmp_path / "student" / "model.safetensors")
    same(read_state_dict(tmp_path), dict(model.state_dict()))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(net(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device"):
        save_weights(net(5), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be written"):
        save_weights(net(), tmp_path / "file" / "model.safetensors")


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch /tmp/limbeck_was_here",))


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    for content in (net(), {"state_dict": Evil()}):
        torch.save(content, tmp_path / "w.pt", pickle_protocol=2) if isinstance(content, dict) else torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError) as caught:
            read_state_dict(tmp_path / "w.pt")
        assert "would run code from the file, which is refused" in str(caught.value)
        assert "torch.save(model.state_dict(), 'weights.pt')" in str(caught.value)
    assert not Path("/tmp/limbeck_was_here").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"not a checkpoint", "w.pt"),
        ("w.safetensors", b"nothing", "cannot be read as safetensors"),
        ("w.h5", b"x", "expected a .safetensors or .pt"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_state_dict(tmp_path / name)
    assert message in str(caught.value)


def test_truncated_files(tmp_path: Path) -> None:
    save_weights(net(), tmp_path / "w.safetensors")
    torch.save(net().state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ModelError, match="Is the file complete"):
            read_state_dict(path)


@pytest.mark.parametrize(("content", "message"), [({"lr": 0.1, "epoch": 3}, "its keys are 'lr', 'epoch'"), ([1, 2], "holds a list")])
def test_files_without_a_state_dict(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        read_state_dict(tmp_path / "w.pt")
    assert message in str(caught.value)


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(net(), tmp_path / "teacher.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"there is no such file or folder \(looked in .*\). Did you mean 'teacher.safetensors'"):
        find_weights("techer.safetensors")
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelError, match=r"a folder without weights: expected student/model.safetensors"):
        find_weights(str(tmp_path / "run"))
    with pytest.raises(ModelError, match=r"only .safetensors files are taken from a hub, got 'pytorch_model.bin'"):
        find_weights("hub:a/b/pytorch_model.bin")


def test_a_hub_that_cannot_be_reached() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ModelError, match="hub:someone/nothing could not be fetched"):
        find_weights("hub:someone/nothing")


def error_of(module: nn.Module, state: dict[str, Tensor], **arguments: Any) -> str:
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_into(module, state, source="w.pt", **arguments)
    same(dict(module.state_dict()), before)  # nothing is half loaded
    return str(caught.value)


def test_load_exactly() -> None:
    a, b = net(), net()
    load_into(b, a.state_dict(), source="w.pt")
    same(dict(a.state_dict()), dict(b.state_dict()))
    old = {k: v for k, v in a.state_dict().items() if not k.endswith("num_batches_tracked")}
    c = net()
    load_into(c, old, source="w.pt")
    same(old, {name: value for name, value in c.state_dict().items() if name in old})


@pytest.mark.parametrize(
    ("old", "new"),
    [("module.", ""), ("", "backbone."), ("model.student.", ""), ("encoder.", "backbone.enc.")],
)
def test_the_prefix_that_would_help_is_found_and_helps(old: str, new: str) -> None:
    """Whatever stands before the names on either side, the error names the mapping, and the mapping works."""
    inner = net()
    target: nn.Module = inner
    for part in reversed([p for p in new.split(".") if p]):
        outer = nn.Module()
        outer.add_module(part, target)
        target = outer
    given = {old + k: v.clone() + 1 for k, v in inner.state_dict().items()}
    text = error_of(target, given)
    assert f"add prefix: {{{old!r}: {new!r}}}" in text
    if old:
        assert f"all names start with {old!r}" in text
    load_into(target, given, prefix={old: new}, source="w.pt")
    torch.testing.assert_close(inner.state_dict()["head.bias"], given[f"{old}head.bias"])


def test_the_longest_prefix_counts() -> None:
    target = net()
    given = {("m.fc." + k[5:] if k.startswith("head.") else "m." + k): v for k, v in net().state_dict().items()}
    load_into(target, given, prefix={"m.": "", "m.fc.": "head."}, source="w.pt")
    with pytest.raises(ModelError, match=r"no parameter name starts with prefix 'module.'; the names start with m\."):
        load_into(target, given, prefix={"module.": ""}, source="w.pt")
    with pytest.raises(ModelError, match=r"two parameters are called 'x'"):
        load_into(target, {"a.x": torch.zeros(1), "b.x": torch.zeros(1)}, prefix={"a.": "", "b.": ""}, source="w.pt")


def test_a_head_of_another_size() -> None:
    text = error_of(net(3), dict(net(5).state_dict()))
    assert "head.weight: the file has shape (5, 4), the model (3, 4); another number of outputs?" in text
    assert "head.bias: the file has shape (5,), the model (3,)" in text
    target, given = net(3), net(5)
    head = target.head.weight.clone()
    assert load_into(target, given.state_dict(), source="w.pt", fresh_head=True) == ["head.weight", "head.bias"]
    torch.testing.assert_close(target.head.weight, head)
    torch.testing.assert_close(target.body[0].weight, given.body[0].weight)


def test_missing_and_left_over_names() -> None:
    given = dict(net().state_dict())
    given["heda.weight"] = given.pop("head.weight")
    text = error_of(net(), given)
    assert "1 of the model's" in text
    assert "names are missing: head.weight" in text
    assert "1 names are not in the model: heda.weight" in text
    assert "Did you mean 'head.weight'?" in text
