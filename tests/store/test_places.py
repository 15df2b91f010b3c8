"""Stores at any address: written and read through fsspec as in a folder."""

from __future__ import annotations

import functools
import importlib
import itertools
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest
import torch
from tests.store.test_store import LAYER, LOGITS, fill

from limbeck.cli.main import main
from limbeck.errors import MissingDependency
from limbeck.store.manage import convert, merge, parse_codec
from limbeck.store.manifest import StoreError, read_manifest
from limbeck.store.places import Local, Remote, place
from limbeck.store.reader import StoreReader

fsspec = pytest.importorskip("fsspec")
REGISTRY = importlib.import_module("fsspec.registry")
EVERY = torch.arange(23)
NUMBERS = itertools.count()


@pytest.fixture
def url():
    """An address in memory that nobody has used."""
    address = f"memory://limbeck-test-{next(NUMBERS)}/store"
    yield address
    files = fsspec.filesystem("memory")
    if files.exists(address):
        files.rm(address, recursive=True)


def test_written_and_read_as_in_a_folder(url, tmp_path):
    assert fill(url) == 6
    fill(tmp_path / "store")
    files = fsspec.filesystem("memory")
    names = sorted(path.rsplit("/", 1)[-1] for path in files.find(url))
    assert names == sorted(path.name for path in (tmp_path / "store").iterdir())
    for name in names:
        assert files.cat_file(f"{url}/{name}") == (tmp_path / "store" / name).read_bytes()
    index = torch.tensor([22, 0, 7, 7])
    for view in (0, 1):
        said = StoreReader(url).read(index, view, ["logits", "stage2"])
        assert torch.equal(said.logits, LOGITS[view, index])
        assert torch.equal(said.features["stage2"], LAYER[view, index].bfloat16().float())


def test_goes_on_after_an_interruption(url):
    fill(url, stop_after=2)
    with pytest.raises(StoreError, match=rf"^{url}: no manifest\.json there.*begun and never finished"):
        StoreReader(url)
    assert fill(url) == 4
    assert fill(url + "2", rank=0, world=2) + fill(url + "2", rank=1, world=2) == 6


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_named_at_open(url, seed):
    fill(url)
    StoreReader(url)
    files = fsspec.filesystem("memory")
    path = sorted(files.find(url))[(0, 1, 3, 6)[seed]]
    content = bytearray(files.cat_file(path))
    content[97 * seed + 11] ^= 4
    files.pipe_file(path, bytes(content))
    name = path.rsplit("/", 1)[-1]
    with pytest.raises(StoreError, match=rf"^{url}/{name}: "):
        StoreReader(url)
    files.pipe_file(path, bytes(content[:-3]))
    with pytest.raises(StoreError, match=rf"^{url}/{name}: "):
        StoreReader(url)
    files.rm_file(path)
    with pytest.raises(StoreError, match="no manifest" if name == "manifest.json" else rf"^{url}/{name}: the shard is missing"):
        StoreReader(url)


def test_the_commands_take_addresses(url, capsys):
    fill(url)
    assert main(["store", "verify", url]) == 0
    assert f"{url}: 6 shards" in capsys.readouterr().out
    assert main(["store", "convert", url, "--out", url + "-b", "--signal", "logits=topk:k=2"]) == 0
    assert main(["store", "info", url + "-b"]) == 0
    assert "topk (k: 2)" in capsys.readouterr().out
    assert main(["store", "merge", url, "--out", url + "-c"]) == 0
    assert read_manifest(url + "-c") == read_manifest(url)
    assert main(["store", "convert", url, "--out", url + "-b", "--signal", "logits=dense"]) == 2
    assert f"{url}-b: something lies there already" in capsys.readouterr().err


def test_between_an_address_and_a_folder(url, tmp_path):
    fill(tmp_path / "a", rank=0, world=2)
    fill(url, rank=1, world=2)
    assert len(merge([tmp_path / "a", url], tmp_path / "whole").shards) == 6
    convert(tmp_path / "whole", url + "-d", dict([parse_codec("logits=dense:dtype=fp32")]))
    assert torch.equal(StoreReader(url + "-d", verify=False).read(EVERY, 1, ["logits"]).logits, LOGITS[1])


def test_file_addresses_are_folders(tmp_path):
    fill(f"file://{tmp_path}/store")
    assert isinstance(place(f"file://{tmp_path}/store"), Local)
    assert torch.equal(StoreReader(tmp_path / "store").read(EVERY, 0, ["logits"]).logits, LOGITS[0])


def test_nothing_is_seen_under_its_name_before_it_is_whole(url):
    where = place(url)
    assert isinstance(where, Remote)
    with pytest.raises(ZeroDivisionError), where.writing("a/b"):
        raise ZeroDivisionError
    assert where.names("a") == []
    assert not where.has("a/b")
    with where.writing("a/b") as path:
        path.write_text("x")
        assert where.names("a") == []
    assert where.names("a") == ["b"]
    assert (where.read("a/b"), where.size("a/b"), where.has("a/c")) == (b"x", 1, False)
    with pytest.raises(FileNotFoundError, match=rf"{url}/a/c"):
        where.read("a/c")
    where.remove("a")
    where.remove("a")
    assert where.names("a") == []
    where.write("kept", "x")
    fsspec.filesystem("memory").pipe_file(f"{url}/.kept.7.tmp", b"y")
    where.clear()
    assert [path.rsplit("/", 1)[-1] for path in fsspec.filesystem("memory").find(url)] == ["kept"]
    where.check_writable(1)
    assert where.names() == ["kept"]


def test_copies_go_with_the_place(url):
    where = Remote(url)
    where.write("x", "abc")
    copy = where.fetch("x")
    assert copy.read_text() == "abc"
    del where
    assert not copy.exists()


def test_unknown_addresses_are_refused(monkeypatch):
    with pytest.raises(StoreError, match=r"^gopher://x: cannot be used as the address of a store: Protocol not known: gopher"):
        StoreReader("gopher://x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependency, match=r"the address memory://x needs fsspec, .* pip install 'limbeck\[remote\]'"):
        StoreReader("memory://x")


def test_a_place_that_fails_says_so(url, monkeypatch):
    fill(url)

    def broken(*args, **kwargs):
        raise PermissionError("no key")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", broken)
    with pytest.raises(StoreError, match=rf"^{url}/manifest\.json: cannot be reached: PermissionError: no key"):
        StoreReader(url)


@pytest.mark.parametrize(
    ("address", "module", "advice"),
    [
        ("s3://bucket/store", "s3fs", r"Install s3fs to access S3\. Install it: pip install 'fsspec\[s3\]'$"),
        ("http://127.0.0.1/store", "aiohttp", r".*aiohttp.*\. Install it: pip install 'fsspec\[http\]'$"),
        ("https://127.0.0.1/store", "aiohttp", r".*aiohttp.*\. Install it: pip install 'fsspec\[http\]'$"),
    ],
)
def test_a_protocol_without_its_package_names_what_to_install(address, module, advice, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    protocol = address.partition("://")[0]
    monkeypatch.setattr(REGISTRY, "_registry", {})  # what was imported before
    for name in [name for name in sys.modules if name.startswith("fsspec.implementations.http")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StoreError, match=rf"^{address}: its protocol needs a package that is not installed: {advice}"):
        place(address)
    assert main(["store", "info", address]) == 2
    assert f"pip install 'fsspec[{protocol.removesuffix('s') if protocol == 'https' else protocol}]'" in capsys.readouterr().err


def test_a_protocol_of_another_package_is_advised_as_that_package_says(monkeypatch):
    known = {"class": "nowhere.Files", "err": "Install nowhere"}
    monkeypatch.setitem(REGISTRY.known_implementations, "nowhere", known)
    with pytest.raises(StoreError, match=r"^nowhere://x: its protocol needs a package that is not installed: Install nowhere\.$"):
        place("nowhere://x")


@pytest.fixture(params=[True, False], ids=["with a listing", "without a listing"])
def served(request, tmp_path):
    """A folder that is served over HTTP, and its address."""

    class Handler(SimpleHTTPRequestHandler):
        def list_directory(self, path):
            return super().list_directory(path) if request.param else self.send_error(403)

        def log_message(self, format, *args):  # noqa: A002 - the name that it has there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(find_spec("aiohttp") is None or find_spec("requests") is None, reason="needs aiohttp: pip install 'fsspec[http]'")
def test_a_store_is_read_over_http_and_never_written(served):
    folder, address = served
    fill(folder / "store")
    index = torch.tensor([22, 0, 7])
    reader = StoreReader(f"{address}/store/")
    for view in (0, 1):
        assert torch.equal(reader.read(index, view, ["logits"]).logits, LOGITS[view, index])
    assert main(["store", "verify", f"{address}/store"]) == 0
    path = folder / "store" / "view0001-000000000008.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=rf"^{address}/store/{path.name}: "):
        StoreReader(f"{address}/store")
    path.unlink()
    with pytest.raises(StoreError, match=rf"^{address}/store/{path.name}: the shard is missing"):
        StoreReader(f"{address}/store")
    with pytest.raises(StoreError, match=rf"^{address}/none"):
        StoreReader(f"{address}/none")
    with pytest.raises(StoreError, match=r"stores are read from http addresses, and written to none"):
        place(f"{address}/new").check_writable(1)
