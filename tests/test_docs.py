"""The documentation: it builds without warnings, every part has its place, links resolve, nothing comes from the network, examples work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from limbeck.config.load import load_recipe
from limbeck.data.mixing import MIXINGS
from limbeck.registry import ACTIONS, ADAPTERS, LOSSES, STEPS, TARGETS, TASKS, TEACHERS
from tests.runs import PATIENCE

pytest.importorskip("mkdocs")
ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(kind: str) -> list[tuple[Path, str]]:
    """The fenced blocks of one language, page by page."""
    return [(page, text) for page in PAGES for text in re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), flags=re.M | re.S)]


class Page(HTMLParser):
    """What a page links to, what it loads, and which anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if "src" in values or (tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "modulepreload")):
            self.loaded.append(values.get("src") or values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    before = sorted((ROOT / "docs").rglob("*.md"))
    words = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted((ROOT / "docs").rglob("*.md")) == before, "generated pages must not be written among the sources"
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file.read_text()) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_loss_has_a_page(site):
    for name in LOSSES.files():
        text = (site / "losses" / f"{name}.html").read_text()
        assert "<math" in text, name
        assert "Reference:" in text
        assert ":math:" not in text
        assert f"loss: {name}" in re.sub(r"<[^>]+>", "", text)


def test_every_part_has_a_heading(site):
    for page, registry in (
        ("adapters", ADAPTERS),
        ("targets", TARGETS),
        ("teachers", TEACHERS),
        ("tasks", TASKS),
        ("steps", STEPS),
        ("actions", ACTIONS),
        ("mixing", MIXINGS),
    ):
        text = (site / "parts" / f"{page}.html").read_text()
        for name in registry.files():
            assert f'<h2 id="{name}"' in text, (page, name)


def test_every_command_has_its_help(site):
    from limbeck.cli.main import commands

    text = (site / "commands.html").read_text()
    for name in commands():
        assert f"usage: limbeck {name}" in text


def test_every_key_is_listed(site):
    from limbeck.config.schema import Recipe, StageSpec
    from limbeck.config.train_schema import TrainSpec

    text = (site / "keys.html").read_text()
    for spec in (Recipe, StageSpec, TrainSpec):
        for name in spec.model_fields:
            assert f"<td><code>{name}</code></td>" in text, name


def test_tables_of_sources_hold_what_they_inherit(site):
    text = (site / "parts" / "sources.html").read_text()
    csv = text[text.index('<h2 id="csv"') : text.index('<h2 id="folder"')]
    for key in ("separator", "target", "categorical", "standardise_target"):
        assert f"<td><code>{key}</code></td>" in csv


def test_links_resolve(site, pages):
    problems = []
    for file, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            unknown = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            if not target.exists() or unknown:
                problems.append((file.name, link))
    assert not problems


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for file, page in pages.items():
        foreign = [link for link in page.loaded if urlsplit(link).scheme not in ("", "data") or link.startswith("//")]
        assert not foreign, (file.name, foreign)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet.name


def test_no_page_shows_raw_markup(pages):
    for file in pages:
        body = re.sub(r"<(pre|code|script|style|math)\b.*?</\1>", "", file.read_text(), flags=re.S)
        text = re.sub(r"<[^>]+>", "", body)
        assert "$$" not in text, file.name
        assert not re.search(r"^:::", text, flags=re.M), file.name


def test_recipes_of_the_pages_are_valid(tmp_path):
    recipes = [text for _, text in blocks("yaml") if text.startswith("# ")]
    assert len(recipes) >= 5
    for text in recipes:
        (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
    for file in sorted(tmp_path.glob("*.yaml")):
        assert load_recipe(file).recipe.task == "classification"


@pytest.mark.slow
def test_recipes_of_the_pages_pass_the_check(tmp_path):
    from limbeck.preflight import preflight

    recipes = [text for _, text in blocks("yaml") if text.startswith("# ")]
    for text in recipes:
        (tmp_path / text.split("\n")[0].removeprefix("# ")).write_text(text)
    for file in sorted(tmp_path.glob("*.yaml")):
        assert not preflight(load_recipe(file), allow_code=False).problems, file.name


def test_python_of_the_pages_runs():
    ran = 0
    for page, text in blocks("python"):
        if any(
            call in text for call in ("limbeck.distill(", "limbeck.study(", "load_student(")
        ):  # needs a run; the README's is run by its own test
            compile(text, str(page), "exec")
            continue
        exec(compile(text, str(page), "exec"), {"__name__": "page"})
        ran += 1
    assert ran >= 2


def test_paths_named_in_the_pages_exist():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for path in re.findall(r"`((?:src|tests|docs|recipes|examples)/[\w/.-]+)`", page.read_text()):
            if "my_method" not in path:
                assert (ROOT / path).exists(), (page.name, path)


def test_contributing_names_files_that_exist():
    table = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| ") and ".py`" in line]
    assert len(table) == 10
    for row in table:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert (ROOT / "src" / "limbeck" / cells[1].strip("`") / cells[-1].strip("` ")).is_file(), row
